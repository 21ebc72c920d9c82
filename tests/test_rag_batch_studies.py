"""Folders, DICOMDIRs and lists become studies: nothing lost, nothing guessed, nobody named."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from small_batch import draw_image

from rag.batch.grouping import BatchStudy, group_images, pseudonym
from rag.batch.inputs import list_images
from rag.batch.manifests import read_list
from rag.batch.output import BatchOutput
from rag.batch.rexrank import write_rexrank
from rag.errors import BatchUsageError


def dicom(path: Path, **elements: object) -> Path:
    """A chest X-ray's header; ``view`` PA unless said otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.SOPInstanceUID = generate_uid()
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "DX", "CHEST", "PA"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    return path


def studies_of(source: Path, **options: bool) -> list[BatchStudy]:
    return group_images(list_images(source).images, **options)


def test_images_of_one_study_uid_are_one_study_wherever_they_lie(tmp_path: Path) -> None:
    frontal = dicom(tmp_path / "a" / "1", StudyInstanceUID="1.2.3")
    lateral = dicom(tmp_path / "b" / "2.dcm", StudyInstanceUID="1.2.3", ViewPosition="LL")
    other = dicom(tmp_path / "a" / "3", StudyInstanceUID="1.2.4")
    studies = {study.study_id: study for study in studies_of(tmp_path)}
    assert set(studies) == {pseudonym("1.2.3"), pseudonym("1.2.4")}
    one = studies[pseudonym("1.2.3")]
    assert (one.image, one.further, one.unused, one.name) == (frontal, (lateral,), (), "a/1")
    assert studies[pseudonym("1.2.4")].image == other


def test_a_pseudonym_is_the_same_everywhere_and_does_not_hold_the_uid() -> None:
    assert pseudonym("1.2.840.113619.2") == "dcm-31c93703b83270b1753a"
    assert pseudonym("1.2.3") != pseudonym("1.2.4")


def test_without_a_study_uid_the_accession_number_groups(tmp_path: Path) -> None:
    dicom(tmp_path / "x.dcm", AccessionNumber="ACC-7")
    dicom(tmp_path / "y.dcm", AccessionNumber="ACC-7", ViewPosition="LATERAL")
    dicom(tmp_path / "z.dcm")
    assert [study.study_id for study in studies_of(tmp_path)] == ["x", "z"]


@pytest.mark.parametrize(
    ("views", "chosen"),
    [
        (["LL", "AP", "PA"], 2),
        (["LL", "AP"], 1),
        (["LL", ""], 1),
        (["LL", "RL"], 0),
        (["PA", "PA"], 0),
    ],
)
def test_the_frontal_image_is_chosen(tmp_path: Path, views: list[str], chosen: int) -> None:
    images = [
        dicom(tmp_path / f"{number}.dcm", StudyInstanceUID="1.2", ViewPosition=view)
        for number, view in enumerate(views)
    ]
    (study,) = studies_of(tmp_path)
    assert study.image == images[chosen]
    assert {study.image, *study.further, *study.unused} == set(images)


def test_a_image_that_would_be_refused_is_not_chosen(tmp_path: Path) -> None:
    dicom(tmp_path / "1-hand.dcm", StudyInstanceUID="1.2", BodyPartExamined="HAND")
    dicom(tmp_path / "2-ct.dcm", StudyInstanceUID="1.2", Modality="CT")
    chest = dicom(tmp_path / "3-chest.dcm", StudyInstanceUID="1.2", ViewPosition="")
    (study,) = studies_of(tmp_path)
    assert study.image == chest
    assert len(study.unused) == 2


def test_images_for_a_reader_come_before_raw_ones(tmp_path: Path) -> None:
    dicom(tmp_path / "1.dcm", StudyInstanceUID="1.2", PresentationIntentType="FOR PROCESSING")
    shown = dicom(
        tmp_path / "2.dcm", StudyInstanceUID="1.2", PresentationIntentType="FOR PRESENTATION"
    )
    assert studies_of(tmp_path)[0].image == shown


def test_pictures_are_studies_of_their_own_unless_the_user_says_so(tmp_path: Path) -> None:
    draw_image(tmp_path / "p1" / "s1" / "a.png", 1)
    draw_image(tmp_path / "p1" / "s1" / "b.png", 2)
    draw_image(tmp_path / "c.png", 3)
    assert [study.study_id for study in studies_of(tmp_path)] == ["c", "p1/s1/a", "p1/s1/b"]
    by_folder = studies_of(tmp_path, by_folder=True)
    assert [(study.study_id, study.name) for study in by_folder] == [
        ("c", "c.png"),
        ("p1/s1", "p1/s1/a.png"),
    ]
    assert by_folder[1].unused == (tmp_path / "p1" / "s1" / "b.png",)


def test_names_stay_apart_where_only_the_suffix_differs(tmp_path: Path) -> None:
    draw_image(tmp_path / "a.png", 1)
    draw_image(tmp_path / "a.jpg", 2)
    assert [study.study_id for study in studies_of(tmp_path)] == ["a.jpg", "a.png"]


def test_identifiers_of_the_header_never_become_names(tmp_path: Path) -> None:
    dicom(
        tmp_path / "Zabrinsky^Maria" / "1.2.3.4.5.dcm",
        StudyInstanceUID="1.2.3.4",
        SOPInstanceUID="1.2.3.4.5",
        PatientName="ZABRINSKY^MARIA",
    )
    dicom(tmp_path / "id-0815.dcm", PatientID="ID-0815")
    dicom(tmp_path / "id-0815" / "copy.dcm", PatientID="ID-0815")
    dicom(tmp_path / "plain.dcm", StudyInstanceUID="1.9", PatientName="Nowhere^In Path")
    studies = studies_of(tmp_path)
    assert len({study.study_id for study in studies}) == 4
    for study in studies:
        for shown in (study.study_id, study.name):
            assert not any(
                word in shown.lower() for word in ("zabrinsky", "maria", "1.2.3.4", "0815")
            )
    assert "plain.dcm" in {study.name for study in studies}


def test_what_is_no_image_is_passed_over_and_counted(tmp_path: Path) -> None:
    draw_image(tmp_path / "image.png", 1)
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "broken.dcm").write_bytes(b"no image, but meant as one")
    (tmp_path / "out").mkdir()
    draw_image(tmp_path / "out" / "other.png", 2)
    listing = list_images(tmp_path, leave_out=tmp_path / "out")
    assert [image.name for image in listing.images] == ["broken.dcm", "image.png"]
    assert listing.skipped == {"no image": 1, "hidden": 1}


def test_a_link_that_leads_in_circles_is_not_followed(tmp_path: Path) -> None:
    draw_image(tmp_path / "a" / "image.png", 1)
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert len(list_images(tmp_path).images) == 1


def test_a_dicomdir_lists_its_images_and_nothing_outside(tmp_path: Path) -> None:
    folder = tmp_path / "disc"
    image = dicom(folder / "IMAGES" / "IM1", StudyInstanceUID="1.2")
    dicom(tmp_path / "OUTSIDE", StudyInstanceUID="1.3")
    records = []
    for parts in (["IMAGES", "IM1"], ["..", "OUTSIDE"], ["IMAGES", "GONE"]):
        record = Dataset()
        record.DirectoryRecordType = "IMAGE"
        record.ReferencedFileID = parts
        records.append(record)
    directory = Dataset()
    directory.DirectoryRecordSequence = records
    directory.file_meta = FileMetaDataset()
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    directory.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    directory.save_as(folder / "DICOMDIR", enforce_file_format=True)
    listing = list_images(folder / "DICOMDIR")
    assert [entry.path for entry in listing.images] == [image, folder / "IMAGES" / "GONE"]
    assert len(listing.problems) == 1
    assert {study.name for study in group_images(listing.images)} == {"IMAGES/IM1", "IMAGES/GONE"}


def test_a_csv_and_a_jsonl_say_the_same(tmp_path: Path) -> None:
    for number, name in enumerate(("f.png", "l.png", "g.png")):
        draw_image(tmp_path / name, number)
    (tmp_path / "list.csv").write_text(
        "study_id,file,view,indication,patient_id,more\n"
        'S1,f.png,frontal,"cough, fever",P1,x\nS1,l.png,lateral,,P1,\nS2,g.png,,,,\n'
    )
    rows = [
        {
            "study_id": "S1",
            "files": ["f.png", "l.png"],
            "views": ["PA", "LL"],
            "indication": "cough, fever",
            "patient_id": "P1",
        },
        {"study_id": "S2", "file": "g.png"},
    ]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    from_csv, from_jsonl = (studies_of(tmp_path / f"list.{kind}") for kind in ("csv", "jsonl"))
    assert from_csv == from_jsonl
    one, two = from_csv
    assert (one.study_id, one.name, one.further) == ("S1", "f.png", (tmp_path / "l.png",))
    assert (one.indication, one.patient_ids) == ("cough, fever", {"P1"})
    assert (two.study_id, two.further) == ("S2", ())


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("l.csv", b"file\na.png\n", "has no column study_id"),
        ("l.csv", b"study_id,file\nS1\n", "line 2: has 1 fields where the header has 2"),
        ("l.csv", b'study_id,file\nS1,"a\nS2,b\n', "not readable as CSV"),
        ("l.csv", b"study_id,file\n,a.png\n", "line 2: has no study_id"),
        ("l.csv", b"study_id,file\nS1,\n", "line 2: names no file"),
        ("l.csv", b"study_id,file,view\nS1,a.png,sideways\n", "view is"),
        ("l.csv", b"study_id,file\nS1,a.png\nS1,a.png\n", "line 3: names the image"),
        ("l.csv", b"study_id,file\n", "lists no image"),
        ("l.csv", b"", "has no column"),
        ("l.csv", "study_id,file\nS1,a.png\n".encode("utf-16-be"), "UTF-16"),
        ("l.csv", b"study_id,file\nS\xff,a.png\n", "line 2: study_id is not valid UTF-8"),
        ("l.csv", b"study_id,file\n1.2E+11,a.png\n", "line 2: study_id is 1.2E"),
        ("l.jsonl", b'{"study_id": "S1"}\n', "line 1: names no file"),
        ("l.jsonl", b'{"study_id": "S1", "file": 7}\n', "neither a text nor a list"),
        ("l.jsonl", b'{"study_id": ["S1"], "file": "a"}\n', "study_id is list, not text"),
        ("l.jsonl", b'{"study_id": "S1", "files": ["a"], "views": []}\n', ""),
        ("l.jsonl", b"not json\n", "not JSON"),
        ("l.json", b"[1, 2]", "no JSON object of studies"),
        ("l.json", b'{"S1": {"image_path": []}}', "names no file"),
    ],
)
def test_a_wrong_list_is_refused_as_a_whole(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    if words:
        with pytest.raises(BatchUsageError, match=words):
            list_images(path)


def test_many_wrong_lines_are_not_all_printed(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    path.write_text('{"study_id": "S\\u001b[31m"}\n' * 100)
    with pytest.raises(BatchUsageError) as found:
        list_images(path)
    assert "and 80 more" in str(found.value)
    assert "\x1b" not in str(found.value)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["csv", "jsonl", "json"]),
    start=st.sampled_from([b"", b"study_id,file\n", b'{"study_id": "S1", "file": "a"}\n']),
    rest=st.binary(max_size=300),
)
def test_rubbish_is_refused_or_read_but_never_crashes(
    tmp_path: Path, kind: str, start: bytes, rest: bytes
) -> None:
    path = tmp_path / f"l.{kind}"
    path.write_bytes(start + rest)
    try:
        listing = read_list(path, root=tmp_path)
    except BatchUsageError as error:
        assert str(error)
    else:
        assert group_images(listing.images)


REXRANK = {
    "CXR1_IM-1": {
        "key_image_path": "CXR1_IM-1/1.png",
        "image_path": ["CXR1_IM-1/0.png", "CXR1_IM-1/1.png"],
        "frontal_lateral": ["Lateral", "Frontal"],
        "context": "Indication: cough Comparison: None.",
        "section_findings": "Lungs are clear.",
        "report": "Findings: Lungs are clear.",
    },
    "CXR2_IM-2": {"image_path": ["/CXR2_IM-2/0.png"], "context": ""},
}


def test_rexrank_in_and_out(tmp_path: Path) -> None:
    source = tmp_path / "input.json"
    source.write_text(json.dumps(REXRANK))
    one, two = group_images(list_images(source, root=tmp_path / "images").images)
    assert (one.study_id, one.name) == ("CXR1_IM-1", "CXR1_IM-1/1.png")
    assert one.image == tmp_path / "images" / "CXR1_IM-1" / "1.png"
    assert one.further == ()  # the lateral is not there: it cannot be looked at
    assert one.indication.startswith("Indication: cough")
    assert two.image == tmp_path / "images" / "CXR2_IM-2" / "0.png"

    predictions = tmp_path / "predictions.jsonl"
    draft = {
        "study_id": "CXR1_IM-1",
        "status": "ok",
        "findings": [{"text": "Lungs are clear."}, {"text": "Heart is normal."}],
        "impression": [{"text": "Normal."}],
    }
    failed = {"study_id": "CXR2_IM-2", "status": "failed", "findings": [], "impression": []}
    predictions.write_text(json.dumps(draft) + "\n" + json.dumps(failed) + "\n")
    assert write_rexrank(source, tmp_path / "output.json", predictions) == 2
    written = json.loads((tmp_path / "output.json").read_text())
    prediction = "Findings: Lungs are clear. Heart is normal. Impression: Normal."
    assert written["CXR1_IM-1"] == {**REXRANK["CXR1_IM-1"], "model_prediction": prediction}
    assert written["CXR2_IM-2"]["model_prediction"] == ""
    assert written["CXR2_IM-2"]["status"] == "failed"


def test_the_plan_is_written_for_the_user_alone(tmp_path: Path) -> None:
    draw_image(tmp_path / "in" / "a\udcff.png", 1)
    with BatchOutput(tmp_path / "out") as output:
        output.write_studies(studies_of(tmp_path / "in"))
    plan = tmp_path / "out" / "studies.jsonl"
    assert plan.stat().st_mode & 0o777 == 0o600
    (line,) = plan.read_text().splitlines()
    assert json.loads(line)["further"] == []


def test_shared_dicom_files_are_grouped_by_their_headers(shared_data: Path) -> None:
    listing = list_images(shared_data / "dicom")
    studies = group_images(listing.images)
    assert len({study.study_id for study in studies}) == len(studies)
    named = [image for study in studies for image in (study.image, *study.further, *study.unused)]
    assert sorted(named) == sorted(image.path for image in listing.images)
