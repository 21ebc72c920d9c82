"""Images of folders, DICOMDIRs and lists are grouped into studies: none lost, nobody named."""

import json
import time
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from support.dicom_files import write_header
from support.small_batch import draw_image

from encoders.images.image_info import ImageInfo
from rag.batch.grouping import group_images, pseudonym
from rag.batch.inputs import BatchStudy, list_images
from rag.batch.manifests import ListedImage
from rag.batch.output import open_output


def dicom(path: Path, **elements: object) -> Path:
    """The header of a chest X-ray, PA unless said otherwise."""
    usual = {"Modality": "DX", "BodyPartExamined": "CHEST", "ViewPosition": "PA"}
    sop_class = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1"}
    return write_header(path, **(sop_class | usual | elements))


def studies_of(source: Path, **options: bool) -> list[BatchStudy]:
    return group_images(list_images(source).images, **options)[0]


def test_images_of_one_study_uid_are_one_study_in_any_folder(tmp_path: Path) -> None:
    frontal = dicom(tmp_path / "a" / "1", StudyInstanceUID="1.2.3")
    lateral = dicom(tmp_path / "b" / "2.dcm", StudyInstanceUID="1.2.3", ViewPosition="LL")
    other = dicom(tmp_path / "a" / "3", StudyInstanceUID="1.2.4")
    studies = {study.study_id: study for study in studies_of(tmp_path)}
    assert set(studies) == {pseudonym("1.2.3"), pseudonym("1.2.4")}
    one = studies[pseudonym("1.2.3")]
    assert (one.source, one.other_views, one.unused, one.name) == (frontal, (lateral,), (), "a/1")
    assert studies[pseudonym("1.2.4")].source == other


def test_a_pseudonym_is_stable_and_does_not_contain_the_uid() -> None:
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
    assert study.source == images[chosen]
    assert {study.source, *study.other_views, *study.unused} == set(images)


def test_an_image_that_would_be_refused_is_not_chosen(tmp_path: Path) -> None:
    dicom(tmp_path / "1-hand.dcm", StudyInstanceUID="1.2", BodyPartExamined="HAND")
    dicom(tmp_path / "2-ct.dcm", StudyInstanceUID="1.2", Modality="CT")
    chest = dicom(tmp_path / "3-chest.dcm", StudyInstanceUID="1.2", ViewPosition="")
    (study,) = studies_of(tmp_path)
    assert study.source == chest
    assert len(study.unused) == 2


def test_images_for_presentation_come_before_raw_ones(tmp_path: Path) -> None:
    dicom(tmp_path / "1.dcm", StudyInstanceUID="1.2", PresentationIntentType="FOR PROCESSING")
    shown = dicom(
        tmp_path / "2.dcm", StudyInstanceUID="1.2", PresentationIntentType="FOR PRESENTATION"
    )
    assert studies_of(tmp_path)[0].source == shown


def test_png_files_are_studies_of_their_own_unless_grouped_by_folder(tmp_path: Path) -> None:
    draw_image(tmp_path / "p1" / "s1" / "a.png", 1)
    draw_image(tmp_path / "p1" / "s1" / "b.png", 2)
    draw_image(tmp_path / "c.png", 3)
    assert [study.study_id for study in studies_of(tmp_path)] == ["c", "p1/s1/a", "p1/s1/b"]
    by_folder = studies_of(tmp_path, by_folder=True)
    assert [(study.study_id, study.name) for study in by_folder] == [
        ("c", "c.png"),
        ("p1/s1", "p1/s1/a.png"),
    ]
    assert by_folder[1].other_views == (tmp_path / "p1" / "s1" / "b.png",)


@pytest.mark.parametrize("by_folder", [False, True])
def test_grouping_time_grows_linearly(*, by_folder: bool) -> None:
    def seconds(count: int) -> float:
        names = [f"folder/{number}.png" for number in range(count)]
        images = [ListedImage(Path(name), name) for name in names]
        started = time.process_time()
        group_images(images, by_folder=by_folder, read=lambda _: ImageInfo(pixel_count=100))
        return time.process_time() - started

    few, many = (min(seconds(count) for _ in range(3)) for count in (500, 4000))
    assert many < 20 * few


def test_names_that_differ_only_by_suffix_keep_it(tmp_path: Path) -> None:
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


def test_other_files_are_skipped_and_counted(tmp_path: Path) -> None:
    draw_image(tmp_path / "image.png", 1)
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "broken.dcm").write_bytes(b"no image, but meant as one")
    (tmp_path / "out").mkdir()
    draw_image(tmp_path / "out" / "other.png", 2)
    listing = list_images(tmp_path, skip_folder=tmp_path / "out")
    assert [image.name for image in listing.images] == ["broken.dcm", "image.png"]
    assert listing.skipped == {"no image": 1, "hidden": 1}


def test_a_circular_link_is_not_followed(tmp_path: Path) -> None:
    draw_image(tmp_path / "a" / "image.png", 1)
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert len(list_images(tmp_path).images) == 1


def test_a_dicomdir_lists_its_images_but_none_outside(tmp_path: Path) -> None:
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
    studies, _ = group_images(listing.images)
    assert {study.name for study in studies} == {"IMAGES/IM1", "IMAGES/GONE"}


def test_the_studies_file_is_private(tmp_path: Path) -> None:
    draw_image(tmp_path / "in" / "a\udcff.png", 1)
    with open_output(tmp_path / "out") as output:
        output.write_studies(studies_of(tmp_path / "in"))
    plan = tmp_path / "out" / "studies.jsonl"
    assert plan.stat().st_mode & 0o777 == 0o600
    (line,) = plan.read_text().splitlines()
    assert json.loads(line)["further"] == []


def test_shared_dicom_files_are_grouped_by_their_headers(shared_data: Path) -> None:
    listing = list_images(shared_data / "dicom")
    studies, _ = group_images(listing.images)
    assert len({study.study_id for study in studies}) == len(studies)
    named = [
        image for study in studies for image in (study.source, *study.other_views, *study.unused)
    ]
    assert sorted(named) == sorted(image.path for image in listing.images)
