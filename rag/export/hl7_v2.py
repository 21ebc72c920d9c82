"""A draft or a signed report as an HL7 v2.5.1 message, ORU^R01: one OBX for each sentence.

The only importer of hl7apy, whose strict validation every message passes. Evidence and marks of a
sentence follow it as NTE. The first OBX holds the notice, for systems that ignore everything else.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import count
from typing import Any

from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.core import Message
from pydicom.dataset import Dataset

from rag.export.text import ADDENDUM, LOINC, REPORT, Export, support_lines
from rag.review.reviewed_report import State

_STATUS = {State.SIGNED: "F", State.ADDENDUM: "C"}  # of table 0123; P is preliminary
_COMMENT = ("48767-8", "Annotation comment")
_ESCAPES = str.maketrans(
    {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "~": "\\R\\", "&": "\\T\\", "\r": " ", "\n": " "}
)


def write_hl7(export: Export, header: Dataset, notes: Sequence[str]) -> bytes:
    """The message in UTF-8; segments end with carriage returns."""
    report, signature = export.report, export.report.signature
    message = Message("ORU_R01", version="2.5.1", validation_level=VALIDATION_LEVEL.STRICT)
    _fill(
        message.msh,
        {
            3: "cxr-rag",
            7: datetime.now().astimezone().strftime("%Y%m%d%H%M%S%z"),
            9: "ORU^R01^ORU_R01",
            10: uuid.uuid4().hex[:20],
            11: "P",
            18: "UNICODE UTF-8",
        },
    )
    result = message.add_group("ORU_R01_PATIENT_RESULT")
    patient = result.add_group("ORU_R01_PATIENT").add_segment("PID")
    birth_date, sex = header.PatientBirthDate, header.PatientSex
    patient_id, name = _escape(header.PatientID), _name(header.PatientName)
    # both are required; if missing, the null value, and a name of the type "unspecified"
    _fill(patient, {1: "1", 3: patient_id or '""', 5: name or "^^^^^^U", 7: birth_date, 8: sex})
    order = result.add_group("ORU_R01_ORDER_OBSERVATION")
    _fill(
        order.add_segment("OBR"),
        {
            1: "1",
            3: uuid.uuid5(uuid.NAMESPACE_OID, export.draft_id or header.SOPInstanceUID).hex,
            4: _loinc(REPORT),
            7: header.StudyDate and header.StudyDate + header.StudyTime[:6],
            18: _escape(header.AccessionNumber),
            22: message.msh.msh_7.value,
            24: "RAD",
            25: _STATUS.get(report.state, "P"),
            32: f"&{_escape(signature.name)}" if signature else "",
        },
    )
    numbers = count(1)
    for code, text, remarks in _observations(export, notes):
        group = order.add_group("ORU_R01_OBSERVATION")
        status = "F" if signature else "P"
        sentence = {1: str(next(numbers)), 2: "TX", 3: _loinc(code), 5: _escape(text), 11: status}
        _fill(group.add_segment("OBX"), sentence)
        for number, remark in enumerate(remarks, 1):
            _fill(group.add_segment("NTE"), {1: str(number), 3: _escape(remark)})
    study = {3: "113014^DICOM Study^DCM", 5: f"^{header.StudyInstanceUID}^ISO", 11: "F"}
    group = order.add_group("ORU_R01_OBSERVATION")
    _fill(group.add_segment("OBX"), {1: str(next(numbers)), 2: "HD", **study})
    message.validate()
    return f"{message.to_er7()}\r".encode()


def _observations(
    export: Export, notes: Sequence[str]
) -> Iterator[tuple[tuple[str, str], str, Sequence[str]]]:
    """LOINC code and meaning, text, and remarks of each OBX."""
    yield _COMMENT, export.notice, export.remarks(notes)[1:]
    for line in export.report.lines:
        yield LOINC[line.section], line.text, tuple(support_lines(line, export))
    for addendum in export.report.addenda:
        yield ADDENDUM, addendum.text, (str(addendum.signature),)


def _fill(segment: Any, fields: Mapping[int, str]) -> None:
    for number, value in fields.items():
        if value:
            setattr(segment, f"{segment.name}_{number}".lower(), value)


def _loinc(code: tuple[str, str]) -> str:
    return f"{code[0]}^{code[1]}^LN"


def _name(name: Any) -> str:
    """A DICOM name as XPN, in which prefix and suffix are the other way round."""
    parts = (name.family_name, name.given_name, name.middle_name)
    return "^".join(map(_escape, (*parts, name.name_suffix, name.name_prefix))).rstrip("^")


def _escape(text: str) -> str:
    return text.translate(_ESCAPES)
