"""Several takes, rejected images and shared accession numbers: which image is reported from."""

import json
from pathlib import Path

import pydicom
import pytest
from support.rejections import note
from test_rag_batch_studies import dicom

from rag.batch.grouping import group_images, pseudonym
from rag.batch.inputs import BatchStudy, list_images
from rag.batch.output import open_output


def studies_of(source: Path) -> tuple[list[BatchStudy], list[str]]:
    return group_images(list_images(source).images)


@pytest.mark.parametrize("title", ["113001", "113037", "113038", "113039"])
def test_a_rejected_image_is_not_reported_from(tmp_path: Path, title: str) -> None:
    uids = ["1.2.7.1.1", "1.2.7.1.2"]
    bad, good = (
        dicom(tmp_path / f"{n}.dcm", StudyInstanceUID="1.2.7", SOPInstanceUID=uid, InstanceNumber=n)
        for n, uid in zip((9, 1), uids, strict=True)
    )
    note(tmp_path / "other" / "kos", uids[0], title=title)
    (study,), problems = studies_of(tmp_path)
    assert (study.source, study.unused, study.rejected) == (good, (), (bad,))
    assert problems == []
    with open_output(tmp_path / "out") as output:
        output.write_studies([study])
    line = json.loads((tmp_path / "out" / "studies.jsonl").read_text())
    assert line["rejected"] == [str(bad)]


def test_a_rejection_note_may_name_images_in_its_content_only(tmp_path: Path) -> None:
    good = dicom(tmp_path / "1.dcm", StudyInstanceUID="1.2.7", SOPInstanceUID="1.2.7.1.1")
    dicom(tmp_path / "2.dcm", StudyInstanceUID="1.2.7", SOPInstanceUID="1.2.7.1.2")
    kos = note(tmp_path / "kos.dcm", "1.2.7.1.2")
    dataset = pydicom.dcmread(kos)
    evidence = dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    dataset.ContentSequence = evidence  # items that hold a ReferencedSOPSequence, as there
    del dataset.CurrentRequestedProcedureEvidenceSequence
    dataset.save_as(kos)
    (study,), _ = studies_of(tmp_path)
    assert study.source == good


def test_a_note_that_rejects_no_image_changes_nothing(tmp_path: Path) -> None:
    image = dicom(tmp_path / "1.dcm", StudyInstanceUID="1.2.7", SOPInstanceUID="1.2.7.1.1")
    note(tmp_path / "kos.dcm", "1.2.7.1.1", title="113000")  # of interest
    (study,), problems = studies_of(tmp_path)
    assert (study.source, study.unused, study.rejected, problems) == (image, (), (), [])


def test_a_study_whose_images_are_all_rejected_is_named(tmp_path: Path) -> None:
    dicom(tmp_path / "1.dcm", StudyInstanceUID="1.2.7", SOPInstanceUID="1.2.7.1.1")
    kept = dicom(tmp_path / "2.dcm", StudyInstanceUID="1.2.8")
    note(tmp_path / "kos.dcm", "1.2.7.1.1")
    (study,), problems = studies_of(tmp_path)
    assert study.source == kept
    (said,) = problems
    assert pseudonym("1.2.7") in said
    assert "rejected" in said


LATER = {"AcquisitionDate": "20240203", "AcquisitionTime": "101500.5"}


@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [
        ({"InstanceNumber": 1}, {"InstanceNumber": 2}, 1),
        ({"SeriesNumber": 2, "InstanceNumber": 1}, {"SeriesNumber": 1, "InstanceNumber": 9}, 0),
        ({**LATER, "InstanceNumber": 1}, {**LATER, "AcquisitionTime": "0915"}, 0),
        ({"AcquisitionDateTime": "20240203101600"}, {**LATER, "InstanceNumber": 8}, 0),
        # one exposure, twice: in order
        ({**LATER, "InstanceNumber": 1}, {**LATER, "InstanceNumber": 2}, 0),
        # cropped a little is a take, a quarter of the pixels is a copy in small
        ({"Rows": 2000, "Columns": 2000}, {"Rows": 1900, "Columns": 1500, "InstanceNumber": 2}, 1),
        ({"Rows": 2000, "Columns": 2000}, {"Rows": 1000, "Columns": 1000, "InstanceNumber": 2}, 0),
        ({"InstanceNumber": 1}, {"InstanceNumber": 2, "QualityControlImage": "YES"}, 0),
        ({"InstanceNumber": 1}, {"InstanceNumber": 2, "ViewPosition": "AP"}, 0),
        # a copy in small is none of another view
        (
            {"Rows": 2000, "Columns": 2000, "ViewPosition": ""},
            {"Rows": 500, "Columns": 500, "ViewPosition": ""},
            0,
        ),
    ],
)
def test_the_later_accepted_take_is_used(
    tmp_path: Path, first: dict[str, object], second: dict[str, object], chosen: int
) -> None:
    takes = [
        dicom(tmp_path / f"{n}.dcm", StudyInstanceUID="1.2.7", **elements)
        for n, elements in enumerate((first, second))
    ]
    ((study,), _) = studies_of(tmp_path)
    assert study.source == takes[chosen]
    assert study.unused == (takes[1 - chosen],)


def test_an_image_of_unknown_view_may_be_the_lateral(tmp_path: Path) -> None:
    images = [
        dicom(tmp_path / f"{n}.dcm", StudyInstanceUID="1.2.7", ViewPosition="", InstanceNumber=n)
        for n in (1, 2)
    ]
    ((study,), _) = studies_of(tmp_path)
    assert (study.source, study.other_views, study.unused) == (images[0], (images[1],), ())


def test_the_view_is_read_from_series_descriptions(tmp_path: Path) -> None:
    lateral = dicom(
        tmp_path / "1.dcm",
        StudyInstanceUID="1.2.7",
        ViewPosition="",
        SeriesDescription="Thorax seitlich",
        Rows=3000,
        Columns=3000,
    )
    frontal = dicom(
        tmp_path / "2.dcm",
        StudyInstanceUID="1.2.7",
        ViewPosition="",
        ProtocolName="Thorax p.a.",
        Rows=2000,
        Columns=2000,
    )
    ((study,), _) = studies_of(tmp_path)
    assert (study.source, study.other_views) == (frontal, (lateral,))


@pytest.mark.parametrize(
    ("patients", "count"),
    [
        ([{"PatientID": "P7"}, {"PatientID": "P8"}], 2),
        ([{"PatientID": "P7"}, {"PatientID": "P7 "}], 1),
        ([{"PatientName": "Ito^Ken"}, {"PatientName": "Ito^Rei"}], 2),
        ([{"PatientName": "Ito^Ken"}, {"PatientName": "ITO^KEN"}], 1),
        (
            [
                {"PatientName": "Ito^Ken1", "PatientBirthDate": "9700101"},
                {"PatientName": "Ito^Ken", "PatientBirthDate": "19700101"},
            ],
            2,
        ),
        ([{}, {}], 1),
        ([{"PatientID": "P7"}, {}], 2),
    ],
)
def test_an_accession_number_joins_images_of_one_patient(
    tmp_path: Path, patients: list[dict[str, str]], count: int
) -> None:
    for number, patient in enumerate(patients):
        dicom(tmp_path / f"{number}.dcm", AccessionNumber="77", **patient)
    studies, _ = studies_of(tmp_path)
    assert len(studies) == len({study.study_id for study in studies}) == count


def test_two_patients_of_one_study_uid_are_kept_apart_and_named(tmp_path: Path) -> None:
    for number, patient in enumerate(("P7", "P8", "P8")):
        dicom(tmp_path / f"{number}.dcm", StudyInstanceUID="1.2.7", PatientID=patient)
    studies, problems = studies_of(tmp_path)
    assert len({study.study_id for study in studies}) == 2
    assert sum(len(study.unused) for study in studies) == 1
    assert "2 patients" in problems[0]
    assert not any(patient in problems[0] for patient in ("P7", "P8"))


def test_a_study_uid_suffices_if_a_patient_id_is_missing(tmp_path: Path) -> None:
    dicom(tmp_path / "1.dcm", StudyInstanceUID="1.2.7", PatientID="P7")
    dicom(tmp_path / "2.dcm", StudyInstanceUID="1.2.7", ViewPosition="LL")
    ((study,), _) = studies_of(tmp_path)
    assert study.study_id == pseudonym("1.2.7")
    assert len(study.other_views) == 1
