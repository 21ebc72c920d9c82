"""The DICOM report: read by pydicom and dsrdump, validated by dciodvfy and dicom-validator."""

import logging
import shutil
import subprocess
from dataclasses import replace
from io import BytesIO
from itertools import product
from pathlib import Path

import pydicom
import pytest
from dicom_validator.validator.dicom_file_validator import DicomFileValidator
from dicom_validator.validator.dicom_info import DicomInfo
from dicom_validator.validator.validation_result import Status as Validity
from pydicom.dataset import Dataset
from support.dicom_standard import tables
from support.made_up_reports import made_up_hits
from support.odd_images import odd_image

from demo.phantom import write_phantom_dicom
from rag.export import as_document
from rag.export.dicom_header import StructuredReportError
from rag.export.text import Export
from rag.prediction import Prediction
from rag.review.reviewed_report import ReviewedReport, Signature
from rag.schema import NOTICE, Draft, DraftSentence, PredictedFindings, Status

SIGNATURE = Signature("Roe, Jané", "2026-01-02T03:04:05+01:00")
PREDICTION = Prediction(
    file="image 0123",
    status=Status.OK,
    draft=Draft(
        (DraftSentence("The heart is enlarged.", ("R1",)), DraftSentence("Lungs < clear.", ())),
        (DraftSentence("Cardiomegaly.", ("R1", "R2")),),
    ),
    hits=tuple(made_up_hits()),
    encoder_id="enc",
    index_id="idx",
    llm="model",
    prompt="select_v1",
)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "phantom.dcm"
    write_phantom_dicom(path, seed=3)
    header = pydicom.dcmread(path)
    header.PatientName, header.PatientID = "Doe^John", "4711"
    header.SpecificCharacterSet = "ISO_IR 192"
    header.save_as(path)
    return path


def draft() -> Export:
    return Export.from_prediction(PREDICTION)


def signed() -> Export:
    report = ReviewedReport.from_draft(PREDICTION.draft).accept([0, 1, 2]).sign(SIGNATURE)
    return Export(PREDICTION, report.add_addendum("A drain was removed.", SIGNATURE), "d1")


def read(export: Export, image: Path) -> Dataset:
    return pydicom.dcmread(BytesIO(as_document(export, "dicom", image=image)))


def texts(document: Dataset) -> list[str]:
    return [str(e.value) for e in document.iterall() if e.keyword == "TextValue"]


def sections(document: Dataset) -> dict[str, Dataset]:
    return {
        item.ConceptNameCodeSequence[0].CodeValue: item
        for item in document.ContentSequence
        if item.ValueType == "CONTAINER"
    }


def test_a_draft_is_partial_unverified_and_marked(image: Path) -> None:
    document = read(draft(), image)
    assert document.SOPClassUID == pydicom.uid.ComprehensiveSRStorage
    assert (document.CompletionFlag, document.VerificationFlag) == ("PARTIAL", "UNVERIFIED")
    assert "VerifyingObserverSequence" not in document
    assert any(NOTICE in text for text in texts(document))


def test_a_signed_report_is_complete_verified_and_names_signer_and_time(image: Path) -> None:
    document = read(signed(), image)
    assert (document.CompletionFlag, document.VerificationFlag) == ("COMPLETE", "VERIFIED")
    (observer,) = document.VerifyingObserverSequence
    assert observer.VerifyingObserverName == "Roe^Jané"
    assert str(observer.VerificationDateTime).startswith("20260102030405")
    assert not any(NOTICE in text for text in texts(document))
    assert any("A drain was removed." in text for text in texts(document))


def test_a_report_belongs_to_the_study_of_its_image(image: Path) -> None:
    header, document = pydicom.dcmread(image, stop_before_pixels=True), read(draft(), image)
    for name in ("StudyInstanceUID", "PatientID", "PatientName"):
        assert document[name].value == header[name].value
    assert document.SeriesInstanceUID != header.SeriesInstanceUID
    (study,) = document.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == header.SOPInstanceUID


def test_sentences_have_their_evidence(image: Path) -> None:
    found = sections(read(draft(), image))
    findings = [item.TextValue for item in found["59776-5"].ContentSequence]
    assert findings == ["The heart is enlarged.", "Lungs < clear."]
    (impression,) = found["19005-8"].ContentSequence
    assert impression.TextValue == "Cardiomegaly."
    kinds = [(item.RelationshipType, item.ValueType) for item in impression.ContentSequence]
    assert kinds == [("INFERRED FROM", "IMAGE"), *[("INFERRED FROM", "TEXT")] * 2]
    assert "report R1 " in impression.ContentSequence[1].TextValue


def test_image_marks_are_in_drafts_only(
    image: Path,
) -> None:
    doubted = replace(PREDICTION, predicted=PredictedFindings({"Cardiomegaly": 0.04}))
    mark = "image: UNLIKELY (cardiomegaly probability 0.04)"
    assert texts(read(Export.from_prediction(doubted), image)).count(mark) == 2
    report = ReviewedReport.from_draft(doubted.draft).accept([0, 1, 2]).sign(SIGNATURE)
    assert mark not in texts(read(Export(doubted, report), image))


def test_device_and_person_are_observers(image: Path) -> None:
    def observers(document: Dataset) -> list[str]:
        return [
            item.ConceptCodeSequence[0].CodeValue
            for item in document.ContentSequence
            if item.RelationshipType == "HAS OBS CONTEXT" and item.ValueType == "CODE"
        ]

    assert observers(read(draft(), image)) == ["121007"]
    assert observers(read(signed(), image)) == ["121007", "121006"]


def test_dsrdump_reports_no_error(image: Path, tmp_path: Path) -> None:
    dsrdump = shutil.which("dsrdump")
    assert dsrdump, "dcmtk is not installed; `make test` installs or names it"
    for number, export in enumerate((draft(), signed())):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(as_document(export, "dicom", image=image))
        run = subprocess.run([dsrdump, path], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        complaints = [line for line in run.stderr.splitlines() if line[:2] in ("E:", "W:")]
        # dcmtk reads UTF-8 but does not check its lengths
        assert [c for c in complaints if "VR checker does not support" not in c] == []
        assert "The heart is enlarged." in run.stdout


def test_an_image_without_study_uid_is_refused(image: Path, tmp_path: Path) -> None:
    header = pydicom.dcmread(image)
    del header.StudyInstanceUID
    path = tmp_path / "no-study.dcm"
    header.save_as(path)
    with pytest.raises(StructuredReportError, match="StudyInstanceUID"):
        as_document(draft(), "dicom", image=path)


def test_a_draft_without_evidence_makes_a_document(image: Path) -> None:
    no_hits = replace(PREDICTION, draft=Draft((DraftSentence("Clear.", ()),), ()), hits=())
    assert "Clear." in texts(read(Export.from_prediction(no_hits), image))


def test_dciodvfy_reports_no_error(image: Path, tmp_path: Path) -> None:
    dciodvfy = shutil.which("dciodvfy")
    assert dciodvfy, "dicom3tools is not installed; `make test` installs or names it"
    empty = odd_image(tmp_path / "empty.dcm", PatientID=b"", StudyDate=b"", PatientName=b"")
    for number, (export, source) in enumerate(product((draft(), signed()), (image, empty))):
        path = tmp_path / f"{number}.sr.dcm"
        path.write_bytes(as_document(export, "dicom", image=source))
        run = subprocess.run([dciodvfy, path], capture_output=True, text=True, check=False)
        output = run.stdout + run.stderr
        assert "ComprehensiveSR" in output
        assert [line for line in output.splitlines() if line.startswith("Error")] == []


def test_dicom_validator_reports_no_error(image: Path, tmp_path: Path) -> None:
    info = DicomInfo(*tables())
    empty = odd_image(tmp_path / "empty.dcm", PatientID=b"", StudyDate=b"", PatientName=b"")
    for number, (export, source) in enumerate(product((draft(), signed()), (image, empty))):
        path = tmp_path / f"{number}.sr.dcm"
        path.write_bytes(as_document(export, "dicom", image=source))
        (found,) = DicomFileValidator(info, log_level=logging.CRITICAL).validate(path).values()
        assert found.status is Validity.Passed, found.module_errors
    document = pydicom.dcmread(path)
    document.VerifyingObserverSequence[0].VerifyingOrganization = ""  # now invalid
    document.save_as(path)
    (found,) = DicomFileValidator(info, log_level=logging.CRITICAL).validate(path).values()
    assert found.status is Validity.Failed
