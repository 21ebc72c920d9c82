"""The image's header, as far as a document copies it: patient, study, and what it refers to.

Headers are read leniently and written strictly: a value that the standard forbids is left empty,
and a note says so without quoting it. Texts are decoded here, so that the report can be in UTF-8
whatever the image is in. Knows nothing of reports.
"""

import io
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from pydicom.charset import python_encoding
from pydicom.dataset import Dataset

from encoders.dicom.header import code, content, number, parse_header, text_values, word
from encoders.dicom.layout import tag
from encoders.images.image_info import HEAD_BYTES, ImageFormat, image_format
from encoders.images.raw_image import ImageReadError
from rag.errors import CxrRagError

NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_UID = re.compile(r"(?=.{1,64}\Z)(0|[1-9]\d*)(\.(0|[1-9]\d*))*")
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d(([0-5]\d|60)(\.\d{1,6})?)?)?")
_LONGEST = {"LO": 64, "SH": 16, "PN": 64}
_COPIED = {
    "PatientID": "LO",
    "PatientName": "PN",
    "PatientBirthDate": "DA",
    "PatientSex": "sex",
    "StudyDate": "DA",
    "StudyTime": "TM",
    "StudyID": "SH",
    "AccessionNumber": "SH",
    "ReferringPhysicianName": "PN",
    "InstitutionName": "LO",
}
_OTHERS = ("Modality", "SeriesNumber", "SpecificCharacterSet")


class StructuredReportError(CxrRagError):
    """The image is none that DICOM SR, FHIR or HL7 can be of."""


def copied_header(image: Path | bytes) -> tuple[Dataset, tuple[str, ...]]:
    """What a report copies from an image, in ISO_IR 192, and notes about what could not be.

    Raises:
        StructuredReportError: the image is no DICOM file, or does not say which study it is of.
    """
    original = _read(image)
    copy = Dataset()
    copy.SpecificCharacterSet = "ISO_IR 192"
    for keyword in NEEDED:
        uid = word(original, keyword, limit=128)
        if not _UID.fullmatch(uid):
            why = "is malformed" if uid else "is missing"
            raise StructuredReportError(
                f"the image's {tag(keyword)} {why}: a report could not be filed with it"
            )
        setattr(copy, keyword, uid)
    notes: list[str] = []
    decodable = _known_character_set(original, notes)
    for keyword, kind in _COPIED.items():
        value, problem = _text(original, keyword, kind=kind, decodable=decodable)
        if value and not (problem or _ALLOWED[kind](value)):
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
            found = image_format(file.read(HEAD_BYTES))
            file.seek(0)
            if found is ImageFormat.DICOM:
                keywords = (*NEEDED, *_COPIED, *_OTHERS)
                return parse_header(file, keywords)
    except (ImageReadError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise StructuredReportError(f"the image's header cannot be read: {why}") from None
    raise StructuredReportError(
        "such a report needs a DICOM image: it copies patient and study from its header. "
        "Export as PDF or text instead."
    )


def _known_character_set(original: Dataset, notes: list[str]) -> bool:
    declared = content(original, "SpecificCharacterSet").decode("ascii", "replace")
    names = declared.split("\\") if declared else text_values(original, "SpecificCharacterSet")
    if all(name.strip(" \0") in python_encoding for name in names):  # an empty one is in it
        return True
    notes.append(f"the image's {tag('SpecificCharacterSet')} is unknown: only ASCII is copied")
    return False


def _text(original: Dataset, keyword: str, *, kind: str, decodable: bool) -> tuple[str, str]:
    """A value as text, and what is wrong with it."""
    stored = content(original, keyword).strip(b" \0")
    if not decodable and not stored.isascii():
        groups = stored.split(b"=") if kind == "PN" else []
        kept = [group.decode("ascii") for group in groups if group.isascii()]
        return "=".join(kept), "is in a character set that is unknown"
    if len(text_values(original, keyword)) > 1:
        return "", "has several values"
    try:
        value = str(original[keyword].value or "").strip(" \0") if keyword in original else ""
    except Exception:  # noqa: BLE001 - pydicom raises many kinds for malformed values
        return "", "cannot be decoded"
    if stored and not stored.isascii() and not _declares(original):
        try:  # many writers forget to say that they write UTF-8
            return stored.decode("utf-8"), ""
        except UnicodeDecodeError:
            pass
    return (value, "") if "\ufffd" not in value else ("", "cannot be decoded")


def _declares(original: Dataset) -> bool:
    return bool(text_values(original, "SpecificCharacterSet"))


def _is_date(value: str) -> bool:
    try:
        return len(value) == 8 and datetime.strptime(value, "%Y%m%d").year >= 1
    except ValueError:
        return False


def _fits(kind: str) -> Callable[[str], bool]:
    def fits(value: str) -> bool:
        groups = value.split("=") if kind == "PN" else [value]
        return (
            value.isprintable()
            and "\\" not in value
            and len(groups) <= 3
            and all(len(group) <= _LONGEST[kind] for group in groups)
        )

    return fits


_ALLOWED: dict[str, Callable[[str], bool]] = {
    "DA": _is_date,
    "TM": lambda value: _TIME.fullmatch(value) is not None,
    "sex": lambda value: value in ("M", "F", "O"),
    **{kind: _fits(kind) for kind in _LONGEST},
}
