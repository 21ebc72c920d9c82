"""A draft or a signed report as a FHIR R4 bundle, and the resources it refers to.

The only importer of fhir.resources, whose models check what is written. Owns the mapping: one
DiagnosticReport, an Observation for each sentence with its evidence and marks as notes, Patient and
ImagingStudy from the image's header, the Device that drafted and the Practitioner who signed. Until
somebody has signed, every resource carries the mark of an AI draft. Ids are made of the draft's, so
that the final report of a draft is the preliminary one's next version.
"""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fhir.resources.R4B.bundle import Bundle  # in these resources the same as R4
from pydicom.dataset import Dataset

from rag.export.text import ADDENDUM, LOINC, REPORT, Export, support_lines
from rag.review.reviewed_report import State
from rag.schema import Section

_STATUS = {State.SIGNED: "final", State.ADDENDUM: "corrected"}
_IDS = uuid.UUID("0b7cf0f4-6c1f-4c59-8f0c-7a5a3c0e6d51")
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
_SEX = {"M": "male", "F": "female", "O": "other"}

Resource = dict[str, Any]


def write_fhir(what: Export, header: Dataset, notes: Sequence[str]) -> bytes:
    """The report as JSON, a Bundle of type "collection"."""
    report = what.report
    own = what.draft_id or header.SOPInstanceUID
    kinds = ("report", "patient", "study", "device", "signer")
    url = {kind: _url(f"{own} {kind}") for kind in kinds}
    signer = [{"reference": url["signer"]}] if report.signature else []
    signatures = [report.signature, *(addendum.signature for addendum in report.addenda)]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    shared = {
        "subject": {"reference": url["patient"]},
        "effectiveDateTime": _date(header.StudyDate),
        "performer": signer,
    }
    observation = {
        **shared,
        "resourceType": "Observation",
        "status": "final" if report.signature else "preliminary",
        "category": [_code(f"{_TERMINOLOGY}/observation-category", "imaging")],
        "device": {"reference": url["device"]},
        "derivedFrom": [{"reference": url["study"]}],
    }
    observations = {
        _url(f"{own} sentence {number}"): {**observation, **sentence}
        for number, sentence in enumerate(_sentences(what))
    }
    said = [line.text for line in report.lines if line.section is Section.IMPRESSION]
    diagnostic_report = {
        **shared,
        "resourceType": "DiagnosticReport",
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": url["report"]}],
        "status": _STATUS.get(report.state, "preliminary"),
        "category": [_code(f"{_TERMINOLOGY}/v2-0074", "RAD")],
        "code": _code("http://loinc.org", *REPORT),
        "issued": signatures[-1].at if signatures[-1] else now,
        "resultsInterpreter": signer,
        "result": [{"reference": each} for each in observations],
        "imagingStudy": [{"reference": url["study"]}],
        "conclusion": "\n".join([what.notice, *said, *(each.text for each in report.addenda)]),
    }
    remarks = (what.notice, *what.provenance, *what.prediction.warnings, *notes)
    resources = {
        url["report"]: diagnostic_report,
        **observations,
        url["study"]: _study(header, url["patient"]),
        url["patient"]: _patient(header),
        url["device"]: {
            "resourceType": "Device",
            "deviceName": [{"name": "cxr-rag", "type": "model-name"}],
            "note": [{"text": text} for text in remarks],
        },
    }
    if report.signature:
        name = {"text": report.signature.name}
        resources[url["signer"]] = {"resourceType": "Practitioner", "name": [name]}
    meta = {} if report.signature else {"security": [_AI], "tag": [{"display": what.notice}]}
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": now,
        "entry": [
            {"fullUrl": each, "resource": {**resource, "meta": meta}}
            for each, resource in resources.items()
        ],
    }
    return Bundle.model_validate(_filled(bundle)).model_dump_json(indent=1).encode()


_AI = {
    "system": f"{_TERMINOLOGY}/v3-ObservationValue",
    "code": "AIAST",
    "display": "Artificial Intelligence asserted",
}


def _sentences(what: Export) -> list[Resource]:
    """What is each sentence's and each addendum's own in its Observation."""
    lines = [
        {
            "code": _code("http://loinc.org", *LOINC[line.section]),
            "valueString": line.text,
            "note": [{"text": text} for text in support_lines(line, what)],
        }
        for line in what.report.lines
    ]
    addenda = [
        {
            "code": _code("http://loinc.org", *ADDENDUM),
            "valueString": addendum.text,
            "performer": [{"display": addendum.signature.name}],
            "issued": addendum.signature.at,
        }
        for addendum in what.report.addenda
    ]
    return [*lines, *addenda]


def _study(header: Dataset, patient: str) -> Resource:
    accession = {"type": _code(f"{_TERMINOLOGY}/v2-0203", "ACSN"), "value": header.AccessionNumber}
    uid = {"system": "urn:dicom:uid", "value": f"urn:oid:{header.StudyInstanceUID}"}
    image = {
        "uid": str(header.SOPInstanceUID),
        "sopClass": {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{header.SOPClassUID}"},
    }
    modality = {
        "system": "http://dicom.nema.org/resources/ontology/DCM",
        "code": header.Modality or "OT",
    }
    return {
        "resourceType": "ImagingStudy",
        "identifier": [uid, *([accession] if header.AccessionNumber else [])],
        "status": "available",
        "subject": {"reference": patient},
        "started": _date(header.StudyDate),
        "series": [
            {"uid": str(header.SeriesInstanceUID), "modality": modality, "instance": [image]}
        ],
    }


def _patient(header: Dataset) -> Resource:
    name = header.PatientName
    return {
        "resourceType": "Patient",
        "identifier": [{"value": header.PatientID}],
        "name": [
            {
                "family": name.family_name,
                "given": [name.given_name, name.middle_name],
                "prefix": [name.name_prefix],
                "suffix": [name.name_suffix],
            }
        ],
        "gender": _SEX.get(header.PatientSex, "unknown"),
        "birthDate": _date(header.PatientBirthDate),
    }


def _url(name: str) -> str:
    return f"urn:uuid:{uuid.uuid5(_IDS, name)}"


def _code(system: str, code: str, text: str = "") -> Resource:
    return {"coding": [{"system": system, "code": code}], "text": text}


def _date(digits: str) -> str:
    """A DICOM date in FHIR's form; of a time, the header does not say in which zone it is."""
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:]}" if digits else ""


def _filled(value: Any) -> Any:
    """A value without what is empty in it, which FHIR forbids."""
    if isinstance(value, dict):
        return {key: kept for key, item in value.items() if (kept := _filled(item))}
    if isinstance(value, list):
        return [kept for item in value if (kept := _filled(item))]
    return value
