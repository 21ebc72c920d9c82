"""Copies patient, study and references from an image's header for a document.

Headers are read leniently and written strictly: a value that the standard forbids is left empty,
with a note that does not quote it. Text is decoded, so that every document is in UTF-8.
"""

import io
from contextlib import suppress
from pathlib import Path

from pydicom.charset import python_encoding
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.valuerep import DA, TM, validate_value

from encoders.dicom.header import code, number, parse_header, raw_bytes, text_value, text_values
from encoders.dicom.layout import tag
from encoders.images.image_info import SIGNATURE_BYTES, ImageFormat, image_format
from encoders.images.raw_image import ImageReadError
from rag.errors import CxrRagError

REQUIRED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_COPIED_KEYWORDS = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("StudyID", "AccessionNumber", "ReferringPhysicianName", "InstitutionName"),
)
_OTHER_KEYWORDS = ("Modality", "SeriesNumber", "SpecificCharacterSet")


class StructuredReportError(CxrRagError):
    """A DICOM SR, FHIR or HL7 document cannot be made for this image."""


def copy_header(image: Path | bytes) -> tuple[Dataset, tuple[str, ...]]:
    """The elements that a document copies, in ISO_IR 192, and notes about those it cannot.

    Raises:
        StructuredReportError: the image is not a DICOM file, or does not name its study.
    """
    original = _read(image)
    copy = Dataset()
    copy.SpecificCharacterSet = "ISO_IR 192"
    for keyword in REQUIRED:
        uid = text_value(original, keyword)
        if not uid or not _is_valid(keyword, uid):
            why = "is malformed" if uid else "is missing"
            raise StructuredReportError(
                f"the image's {tag(keyword)} {why}: a report could not be filed with it"
            )
        setattr(copy, keyword, uid)
    notes: list[str] = []
    decodable = _is_character_set_known(original, notes)
    for keyword in _COPIED_KEYWORDS:
        value, problem = _read_text(original, keyword, decodable=decodable)
        if value and not (problem or _is_valid(keyword, value)):
            value, problem = "", "is not a value that DICOM allows"
        if problem:
            kept = "copied without it" if value else "left empty"
            notes.append(f"the image's {tag(keyword)} {problem}: {kept}")
        setattr(copy, keyword, value)
    copy.Modality = code(original, "Modality")
    series = number(original, "SeriesNumber")
    copy.SeriesNumber = int(series) if series is not None and abs(series) < 1e9 else None
    return copy, tuple(notes)


def _read(image: Path | bytes) -> Dataset:
    try:
        with io.BytesIO(image) if isinstance(image, bytes) else image.open("rb") as file:
            file_format = image_format(file.read(SIGNATURE_BYTES))
            file.seek(0)
            if file_format is ImageFormat.DICOM:
                return parse_header(file, (*REQUIRED, *_COPIED_KEYWORDS, *_OTHER_KEYWORDS))
    except (ImageReadError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise StructuredReportError(f"the image's header cannot be read: {why}") from None
    raise StructuredReportError(
        "such a report needs a DICOM image: it copies patient and study from its header. "
        "Export as PDF or text instead."
    )


def _is_character_set_known(original: Dataset, notes: list[str]) -> bool:
    declared = raw_bytes(original, "SpecificCharacterSet").decode("ascii", "replace")
    names = declared.split("\\") if declared else text_values(original, "SpecificCharacterSet")
    if all(name.strip(" \0") in python_encoding for name in names):  # an empty one is in it
        return True
    notes.append(f"the image's {tag('SpecificCharacterSet')} is unknown: only ASCII is copied")
    return False


def _read_text(original: Dataset, keyword: str, *, decodable: bool) -> tuple[str, str]:
    """A value as text, and its problem, if any."""
    stored = raw_bytes(original, keyword).strip(b" \0")
    if not decodable and not stored.isascii():
        groups = stored.split(b"=") if dictionary_VR(keyword) == "PN" else []
        kept = [group.decode("ascii") for group in groups if group.isascii()]
        return "=".join(kept), "is in a character set that is unknown"
    if len(text_values(original, keyword)) > 1:
        return "", "has several values"
    try:
        value = str(original[keyword].value or "").strip(" \0") if keyword in original else ""
    except Exception:  # noqa: BLE001 - pydicom raises many kinds for malformed values
        return "", "cannot be decoded"
    if not stored.isascii() and not text_values(original, "SpecificCharacterSet"):
        with suppress(UnicodeDecodeError):  # many writers do not declare UTF-8
            return stored.decode("utf-8"), ""
    return (value, "") if "\ufffd" not in value else ("", "cannot be decoded")


def _is_valid(keyword: str, value: str) -> bool:
    """Whether a value is single, not a range, and valid for its VR (PS3.5 6.2)."""
    vr = dictionary_VR(keyword)
    try:
        validate_value(vr, value, RAISE)
        {"DA": DA, "TM": TM}.get(vr, str)(value)
    except ValueError:
        return False
    known = keyword != "PatientSex" or value in ("M", "F", "O")
    return known and value.isprintable() and "\\" not in value
