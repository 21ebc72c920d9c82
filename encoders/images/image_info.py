"""What an image file says without its pixels: format, study, view, patient.

Also parses the words for a projection that headers and tables use. Identifiers stay in memory:
`ImageInfo.identifiers` serves to keep them out of whatever is written.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from encoders.base import View

SIGNATURE_BYTES = 132
"""Bytes at the beginning of a file that tell its format."""

_MIN_NAME_CHARS = 3
"""A shorter name or number is found in paths by accident."""

_START, _END = r"(?:(?<![a-z])|(?<=chest)|(?<=thorax))(?:", r")(?![a-z])"
_PA = re.compile(
    rf"{_START}p\.? ?-?a|postero-? ?anterior|posterior-anterior|dorso-?ventral|d\.?v{_END}",
    re.IGNORECASE,
)
_AP = re.compile(
    rf"{_START}a\.? ?-?p|antero-? ?posterior|anterior-posterior|ventro-?dorsal|v\.?d{_END}",
    re.IGNORECASE,
)
_LATERAL = re.compile(
    rf"{_START}x?-?(?:table)? ?[lr]?lat(?:eral(?:is)?)?|ll|rl|seitl(?:ich)?|profil{_END}|側面|侧位",
    re.IGNORECASE,
)
_FRONTAL = re.compile(
    rf"{_START}frontal|(?:de |di )?(?:face|frente|fronte){_END}|正面|正位", re.IGNORECASE
)
_OTHER_PROJECTION = re.compile(rf"decub|obliq|schräg|{_START}[lr][ap]o|[lr]lo{_END}", re.IGNORECASE)
_DECUBITUS = re.compile(rf"{_START}[lr]ld{_END}", re.IGNORECASE)
"""A decubitus by its letters alone; "PA LLD" is still a frontal projection."""


class ImageFormat(StrEnum):
    """Format of a file, by its content."""

    DICOM = "DICOM"
    RASTER = "PNG or JPEG"
    OTHER = "no image"


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What a header says about an image. Never log names, ids and UIDs.

    Attributes:
        format: by content.
        study_ids: StudyInstanceUID, AccessionNumber and StudyID, as far as present.
        study_uid, accession, instance_uid: StudyInstanceUID, AccessionNumber and SOPInstanceUID,
            empty if absent.
        patient_id, patient_name, birth_date: PatientID, PatientName in lower case, and
            PatientBirthDate, empty if absent.
        modality, body_part: Modality and BodyPartExamined in capitals; empty if absent.
        is_for_processing: detector values, not prepared for reading.
        pixel_count: rows times columns, 0 if the header does not say.
        order: (series number, instance number), 0 if absent.
        acquired_at: date and time of acquisition as digits (``20260301120000``), empty if absent.
        study_time: StudyDate and StudyTime likewise, else ``acquired_at``; the date alone if there
            is no time. Never write it.
        is_animal: the header names a species other than human, a breed or an owner.
        age_years: the patient's age when the image was taken, None if absent.
        is_quality_control: QualityControlImage is YES: a test image, or one put aside.
        is_key_object_selection: no image, but a note about some (Key Object Selection).
        rejected_uids: SOPInstanceUIDs that such a note rejects.
        identifiers: lower-case names of the patient and staff, numbers and UIDs, which must not be
            written.
    """

    format: ImageFormat = ImageFormat.RASTER
    study_ids: tuple[str, ...] = ()
    study_uid: str = ""
    accession: str = ""
    instance_uid: str = ""
    patient_id: str = ""
    patient_name: str = ""
    birth_date: str = ""
    modality: str = ""
    body_part: str = ""
    view: View = View.UNKNOWN
    is_for_processing: bool = False
    pixel_count: int = 0
    order: tuple[int, int] = (0, 0)
    acquired_at: str = ""
    study_time: str = ""
    is_animal: bool = False
    age_years: float | None = None
    is_quality_control: bool = False
    is_key_object_selection: bool = False
    rejected_uids: frozenset[str] = frozenset()
    identifiers: frozenset[str] = frozenset()


def image_format(head: bytes) -> ImageFormat:
    """Format of a file, from at least its first `SIGNATURE_BYTES` bytes."""
    if head[128:SIGNATURE_BYTES] == b"DICM":  # first: the preamble may hold another format's header
        return ImageFormat.DICOM
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        return ImageFormat.RASTER
    # DICOM without preamble: group 2, group 8 in either byte order, a command
    if head.startswith((b"\x02\0", b"\x08\0", b"\0\x08", b"\0\0\0\0\x04\0\0\0")):
        return ImageFormat.DICOM
    return ImageFormat.OTHER


def same_patient(one: ImageInfo, other: ImageInfo) -> bool | None:
    """Whether two headers name the same patient: by PatientID, or else by name and date of birth.

    The same PatientID with two dates of birth is two patients. None if the headers do not tell.
    """
    infos = (one, other)
    births = {info.birth_date for info in infos} - {""}
    if len(births) == 2:
        return False
    ids = [info.patient_id.strip().lower() for info in infos]
    if all(ids):
        return ids[0] == ids[1]
    names = [info.patient_name.strip("^ ") for info in infos]  # PS3.5 6.2.1
    if not all(names):
        return None
    if names[0] != names[1]:
        return False
    return True if one.birth_date and other.birth_date else None


def parse_view(text: str) -> View:
    """The projection that a text names; UNKNOWN if it names none, several or another.

    Examples: "AP AXIAL", "XTABLE LATERAL", "W033 Thorax p.a.", "LL". A decubitus or oblique image
    counts as neither frontal nor lateral.
    """
    if _OTHER_PROJECTION.search(text):
        return View.UNKNOWN
    text = text.replace("_", " ")
    views = ((View.PA, _PA), (View.AP, _AP), (View.LATERAL, _LATERAL))
    named = [view for view, pattern in views if pattern.search(text)]
    if len(named) != 1 or (named == [View.LATERAL] and _FRONTAL.search(text)):
        return View.UNKNOWN
    return named[0]


def is_other_projection(text: str) -> bool:
    """Whether a text names a decubitus or oblique projection."""
    return bool(_OTHER_PROJECTION.search(text) or _DECUBITUS.search(text))


def is_frontal(text: str) -> bool | None:
    """Whether a text names a frontal projection; None if it names no projection."""
    view = parse_view(text)
    if view is View.UNKNOWN:
        other = _LATERAL.search(text) or _OTHER_PROJECTION.search(text)
        return True if _FRONTAL.search(text) and not other else None
    return view is not View.LATERAL


def name_parts(*values: str) -> frozenset[str]:
    """Parts of names and numbers to search a text for: lower case, not too short.

    In scripts other than Latin, whose names are short, two letters are enough, and family and given
    name are also joined without a space.
    """
    parts = {value.strip().lower() for value in values}
    for value in values:
        for group in value.lower().replace(",", " ").split("="):
            words = group.replace("^", " ").split()
            parts.update(words)
            if not is_latin(joined := "".join(words)):
                parts.add(joined)
    return frozenset(
        part for part in parts if len(part) >= (_MIN_NAME_CHARS if is_latin(part) else 2)
    )


def is_latin(text: str) -> bool:
    """Whether all letters are Latin: in other scripts, names of one or two letters are common."""
    return all(ord(letter) < 0x0250 for letter in text)
