"""FHIR and HL7 v2 exports, read by independent parsers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import hl7
import pytest
from fhirclient.models.bundle import Bundle
from support.odd_images import odd_image
from test_rag_export_dicom_sr import PREDICTION, SIGNATURE, draft, image, signed

from rag.export import as_document
from rag.export.text import Export
from rag.review.reviewed_report import ReviewedReport
from rag.schema import NOTICE, Draft, DraftSentence, PredictedFindings

__all__ = ["image"]  # a fixture


def signed_only() -> Export:
    return Export(
        PREDICTION, ReviewedReport.from_draft(PREDICTION.draft).accept([0, 1, 2]).sign(SIGNATURE)
    )


def bundle(export: Export, image: Path) -> dict[str, list[Any]]:
    """The resources by type; fhirclient validates them against FHIR 4.0.1."""
    found: dict[str, list[Any]] = {}
    for entry in Bundle(json.loads(as_document(export, "fhir", image=image))).entry:
        found.setdefault(entry.resource.resource_type, []).append(entry.resource)
    return found


def message(export: Export, image: Path) -> Any:
    return hl7.parse(as_document(export, "hl7", image=image).decode())


def text(parsed: Any, field: Any) -> str:
    return str(parsed.unescape(str(field)))


@pytest.mark.parametrize(
    ("export", "fhir_codes", "hl7_codes"),
    [
        (draft(), ("preliminary", "preliminary"), ("P", "P")),
        (signed_only(), ("final", "final"), ("F", "F")),
        (signed(), ("corrected", "final"), ("C", "F")),
    ],
    ids=["draft", "signed", "addendum"],
)
def test_status_follows_the_review(
    image: Path, export: Export, fhir_codes: tuple[str, str], hl7_codes: tuple[str, str]
) -> None:
    found = bundle(export, image)
    (report,) = found["DiagnosticReport"]
    assert (report.status, *{item.status for item in found["Observation"]}) == fhir_codes
    parsed = message(export, image)
    assert (text(parsed, parsed["OBR"][0][25]), text(parsed, parsed["OBX"][1][11])) == hl7_codes


def test_drafts_are_marked_in_every_resource_and_in_the_first_obx(image: Path) -> None:
    for resources in bundle(draft(), image).values():
        for resource in resources:
            assert [tag.display for tag in resource.meta.tag] == [NOTICE]
            assert [label.code for label in resource.meta.security] == ["AIAST"]
    parsed = message(draft(), image)
    assert text(parsed, parsed["OBX"][0][5]) == NOTICE
    after = (as_document(signed(), form, image=image).decode() for form in ("fhir", "hl7"))
    assert not [item for item in after if NOTICE in item]


def test_patient_study_and_signer_are_those_of_the_header(image: Path) -> None:
    found = bundle(signed(), image)
    (patient,), (study,) = found["Patient"], found["ImagingStudy"]
    assert (patient.identifier[0].value, patient.name[0].family) == ("4711", "Doe")
    assert study.series[0].modality.code == "DX"
    (report,) = found["DiagnosticReport"]
    assert [item.name[0].text for item in found["Practitioner"]] == ["Roe, Jané"]
    assert len(report.result) == len(found["Observation"]) == 4
    urls = {
        item["fullUrl"] for item in json.loads(as_document(signed(), "fhir", image=image))["entry"]
    }
    assert {item.reference for item in (*report.result, report.subject)} < urls
    parsed = message(signed(), image)
    assert text(parsed, parsed["PID"][0][3]) == "4711"
    assert text(parsed, parsed["PID"][0][5]) == "Doe^John"
    assert text(parsed, parsed["OBR"][0][32]) == "&Roe, Jané"


def test_sentences_have_citations_and_image_marks(image: Path) -> None:
    doubted = replace(PREDICTION, predicted=PredictedFindings({"Cardiomegaly": 0.04}))
    mark = "image: UNLIKELY (cardiomegaly probability 0.04)"
    first = bundle(Export.from_prediction(doubted), image)["Observation"][0]
    assert first.valueString == "The heart is enlarged."
    notes = [note.text for note in first.note]
    assert notes[0].startswith("report R1 of a similar image, cosine similarity")
    assert mark in notes
    parsed = message(Export.from_prediction(doubted), image)
    assert mark in [text(parsed, note[3]) for note in parsed["NTE"]]


def test_delimiters_in_text_are_escaped(image: Path, tmp_path: Path) -> None:
    odd = r"Opacity |1^2~3&4\5 < 6 µm."
    export = Export.from_prediction(replace(PREDICTION, draft=Draft((DraftSentence(odd, ()),), ())))
    assert bundle(export, image)["Observation"][0].valueString == odd
    parsed = message(export, image)
    assert text(parsed, parsed["OBX"][1][5]) == odd
    nobody = odd_image(tmp_path / "odd.dcm", PatientID=b"A|B^C", PatientName=b"", StudyDate=b"")
    parsed = message(export, nobody)
    assert text(parsed, parsed["PID"][0][3]) == "A|B^C"
    assert bundle(export, nobody)["Patient"][0].name is None


def test_final_and_preliminary_report_have_the_same_identifier(image: Path) -> None:
    reports = [
        bundle(replace(export, draft_id="d1"), image)["DiagnosticReport"][0]
        for export in (draft(), signed())
    ]
    assert len({report.identifier[0].value for report in reports}) == 1
