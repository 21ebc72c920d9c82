"""A draft or a signed report as an HL7 v2.5.1 message, ORU^R01: one OBX for each sentence.

The only importer of hl7apy, whose strict validation every message passes. Evidence and marks of a
sentence follow it as NTE; the first OBX says what the report is, for who shows nothing else.
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


def write_hl7(what: Export, header: Dataset, notes: Sequence[str]) -> bytes:
    """The message in UTF-8, its segments ended by carriage returns."""
    report, signature = what.report, what.report.signature
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
    born, sex = header.PatientBirthDate, header.PatientSex
    own_id, name = _escaped(header.PatientID), _name(header.PatientName)
    # both are required: the null value, and a name of the type "unspecified"
    _fill(patient, {1: "1", 3: own_id or '""', 5: name or "^^^^^^U", 7: born, 8: sex})
    order = result.add_group("ORU_R01_ORDER_OBSERVATION")
    _fill(
        order.add_segment("OBR"),
        {
            1: "1",
            3: uuid.uuid5(uuid.NAMESPACE_OID, what.draft_id or header.SOPInstanceUID).hex,
            4: _code(REPORT),
            7: header.StudyDate and header.StudyDate + header.StudyTime[:6],
            18: _escaped(header.AccessionNumber),
            22: message.msh.msh_7.value,
            24: "RAD",
            25: _STATUS.get(report.state, "P"),
            32: f"&{_escaped(signature.name)}" if signature else "",
        },
    )
    numbers = count(1)
    for code, text, remarks in _texts(what, notes):
        group = order.add_group("ORU_R01_OBSERVATION")
        status = "F" if signature else "P"
        sentence = {1: str(next(numbers)), 2: "TX", 3: _code(code), 5: _escaped(text), 11: status}
        _fill(group.add_segment("OBX"), sentence)
        for number, remark in enumerate(remarks, 1):
            _fill(group.add_segment("NTE"), {1: str(number), 3: _escaped(remark)})
    study = {3: "113014^DICOM Study^DCM", 5: f"^{header.StudyInstanceUID}^ISO", 11: "F"}
    group = order.add_group("ORU_R01_OBSERVATION")
    _fill(group.add_segment("OBX"), {1: str(next(numbers)), 2: "HD", **study})
    message.validate()
    return f"{message.to_er7()}\r".encode()


def _texts(
    what: Export, notes: Sequence[str]
) -> Iterator[tuple[tuple[str, str], str, Sequence[str]]]:
    """LOINC code, text and remarks of each OBX."""
    yield _COMMENT, what.notice, (*what.provenance, *what.prediction.warnings, *notes)
    for line in what.report.lines:
        yield LOINC[line.section], line.text, tuple(support_lines(line, what))
    for addendum in what.report.addenda:
        by = f"{addendum.signature.name}, {addendum.signature.at}"
        yield ADDENDUM, addendum.text, (by,)


def _fill(segment: Any, fields: Mapping[int, str]) -> None:
    for number, value in fields.items():
        if value:
            setattr(segment, f"{segment.name}_{number}".lower(), value)


def _code(code: tuple[str, str]) -> str:
    return f"{code[0]}^{code[1]}^LN"


def _name(name: Any) -> str:
    """A DICOM name as XPN: prefix and suffix stand the other way round."""
    parts = (name.family_name, name.given_name, name.middle_name)
    return "^".join(map(_escaped, (*parts, name.name_suffix, name.name_prefix))).rstrip("^")


def _escaped(text: str) -> str:
    return text.translate(_ESCAPES)
