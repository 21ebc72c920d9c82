"""A draft or a signed report as a FHIR R4 bundle.

The only importer of fhir.resources, whose models validate the bundle. Owns the mapping: one
DiagnosticReport, an Observation for each sentence with its evidence and marks as notes, Patient and
ImagingStudy from the image's header, the drafting Device and the signing Practitioner. Until it is
signed, every resource is marked as an AI draft. Ids derive from the draft's id, so that the final
report is the next version of the preliminary one.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fhir.resources.R4B.bundle import Bundle  # in these resources the same as R4
from pydicom.dataset import Dataset

from rag.export.text import ADDENDUM, LOINC, REPORT, Export, support_lines
from rag.review.reviewed_report import State
from rag.schema import Section

_STATUS = {State.SIGNED: "final", State.ADDENDUM: "corrected"}
_ID_NAMESPACE = uuid.UUID("0b7cf0f4-6c1f-4c59-8f0c-7a5a3c0e6d51")
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
_SEX = {"M": "male", "F": "female", "O": "other"}

Resource = dict[str, Any]


def write_fhir(export: Export, header: Dataset, notes: Sequence[str]) -> bytes:
    """The report as JSON, a Bundle of type "collection"."""
    signature, now = export.report.signature, datetime.now(UTC).isoformat(timespec="seconds")
    own_id = export.draft_id or header.SOPInstanceUID
    kinds = ("report", "patient", "study", "device", "signer")
    url = {kind: _url(f"{own_id} {kind}") for kind in kinds}
    shared = {
        "subject": {"reference": url["patient"]},
        "effectiveDateTime": _date(header.StudyDate),
        "performer": [{"reference": url["signer"]}] if signature else [],
    }
    observations = {
        _url(f"{own_id} sentence {number}"): {**shared, **_observation(export, url), **fields}
        for number, fields in enumerate(_sentence_fields(export))
    }
    resources = {
        url["report"]: {**shared, **_diagnostic_report(export, url, observations, now)},
        **observations,
        url["study"]: _study(header, url["patient"]),
        url["patient"]: _patient(header),
        url["device"]: {
            "resourceType": "Device",
            "deviceName": [{"name": "cxr-rag", "type": "model-name"}],
            "note": [{"text": text} for text in export.remarks(notes)],
        },
    }
    if signature:
        resources[url["signer"]] = {
            "resourceType": "Practitioner",
            "name": [{"text": signature.name}],
        }
    meta = {} if signature else {"security": [_AI_ASSERTED], "tag": [{"display": export.notice}]}
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": now,
        "entry": [
            {"fullUrl": resource_url, "resource": {**resource, "meta": meta}}
            for resource_url, resource in resources.items()
        ],
    }
    return Bundle.model_validate(_drop_empty(bundle)).model_dump_json(indent=1).encode()


_AI_ASSERTED = {
    "system": f"{_TERMINOLOGY}/v3-ObservationValue",
    "code": "AIAST",
    "display": "Artificial Intelligence asserted",
}


def _diagnostic_report(
    export: Export, url: Mapping[str, str], observations: Iterable[str], now: str
) -> Resource:
    report = export.report
    signatures = [report.signature, *(addendum.signature for addendum in report.addenda)]
    impression = [line.text for line in report.lines if line.section is Section.IMPRESSION]
    addenda = [addendum.text for addendum in report.addenda]
    return {
        "resourceType": "DiagnosticReport",
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": url["report"]}],
        "status": _STATUS.get(report.state, "preliminary"),
        "category": [_code(f"{_TERMINOLOGY}/v2-0074", "RAD")],
        "code": _code("http://loinc.org", *REPORT),
        "issued": signatures[-1].at if signatures[-1] else now,
        "resultsInterpreter": [{"reference": url["signer"]}] if report.signature else [],
        "result": [{"reference": observation_url} for observation_url in observations],
        "imagingStudy": [{"reference": url["study"]}],
        "conclusion": "\n".join([export.notice, *impression, *addenda]),
    }


def _observation(export: Export, url: Mapping[str, str]) -> Resource:
    """The fields that all Observations share."""
    return {
        "resourceType": "Observation",
        "status": "final" if export.report.signature else "preliminary",
        "category": [_code(f"{_TERMINOLOGY}/observation-category", "imaging")],
        "device": {"reference": url["device"]},
        "derivedFrom": [{"reference": url["study"]}],
    }


def _sentence_fields(export: Export) -> list[Resource]:
    """The fields of their Observations in which sentences and addenda differ."""
    lines = [
        {
            "code": _code("http://loinc.org", *LOINC[line.section]),
            "valueString": line.text,
            "note": [{"text": text} for text in support_lines(line, export)],
        }
        for line in export.report.lines
    ]
    addenda = [
        {
            "code": _code("http://loinc.org", *ADDENDUM),
            "valueString": addendum.text,
            "performer": [{"display": addendum.signature.name}],
            "issued": addendum.signature.at,
        }
        for addendum in export.report.addenda
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
    return f"urn:uuid:{uuid.uuid5(_ID_NAMESPACE, name)}"


def _code(system: str, code: str, text: str = "") -> Resource:
    return {"coding": [{"system": system, "code": code}], "text": text}


def _date(digits: str) -> str:
    """A DICOM date in FHIR's form. Times are left out, as the header gives no time zone."""
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:]}" if digits else ""


def _drop_empty(value: Any) -> Any:
    """Remove empty values, which FHIR forbids."""
    if isinstance(value, dict):
        return {key: kept for key, item in value.items() if (kept := _drop_empty(item))}
    if isinstance(value, list):
        return [kept for item in value if (kept := _drop_empty(item))]
    return value
