"""What an image file says without its pixels: format, study, view, hints of who it is.

Also the words for a projection, as headers and tables write them. Identifiers live in memory only:
`ImageInfo.identifiers` is there to find them, and keep them out of whatever is written.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum

from encoders.base import View

SIGNATURE_BYTES = 132
"""Of a file, from which its format is known."""

_SHORTEST_NAME = 3
"""Letters of a name or number from which finding it in a path is no accident."""

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
_OTHER = re.compile(rf"decub|obliq|schräg|{_START}[lr][ap]o|[lr]lo{_END}", re.IGNORECASE)
_LYING = re.compile(rf"{_START}[lr]ld{_END}", re.IGNORECASE)
"""A decubitus by its letters; "PA LLD" is a frontal projection all the same."""


class ImageFormat(StrEnum):
    """What a file is, by its content."""

    DICOM = "DICOM"
    RASTER = "PNG or JPEG"
    OTHER = "no image"


@dataclass(frozen=True, slots=True)
class HeaderIdentity:
    """Whose image it is: to keep the same study and patient out of retrieval. Never log it.

    Attributes:
        study_ids: StudyInstanceUID, AccessionNumber, StudyID; those that are there.
        patient_id: PatientID, empty if absent.
    """

    study_ids: tuple[str, ...] = ()
    patient_id: str = ""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What a header says about an image.

    Attributes:
        format: by content.
        identity: whose image it is. Never log it.
        study_uid, accession, instance_uid: StudyInstanceUID, AccessionNumber and SOPInstanceUID,
            empty if absent. Never log them.
        person: PatientName and PatientBirthDate, which tell patients without a PatientID apart.
            Never log it.
        modality, body_part: Modality and BodyPartExamined in capitals; empty if absent.
        for_processing: detector values, not prepared for reading.
        pixels: rows times columns, 0 if the header does not say.
        order: (series number, instance number), 0 if absent.
        acquired_at: date and time of acquisition as digits (``20260301120000``), empty if absent.
        study_time: StudyDate and StudyTime likewise, else ``acquired_at``; the date alone if there
            is no time. Never write it.
        is_animal: the header names a species other than human, a breed or an owner.
        age_years: the patient's age when the image was taken, None if absent.
        quality_control: QualityControlImage is YES: a test image, or one put aside.
        is_key_object_selection: no image, but a note about some (Key Object Selection).
        rejected_uids: SOPInstanceUIDs that such a note rejects. Never log them.
        identifiers: lower-case names of the patient and staff, numbers and UIDs, which must not be
            written.
    """

    format: ImageFormat = ImageFormat.RASTER
    identity: HeaderIdentity = field(default_factory=HeaderIdentity)
    study_uid: str = ""
    accession: str = ""
    instance_uid: str = ""
    person: str = ""
    modality: str = ""
    body_part: str = ""
    view: View = View.UNKNOWN
    for_processing: bool = False
    pixels: int = 0
    order: tuple[int, int] = (0, 0)
    acquired_at: str = ""
    study_time: str = ""
    is_animal: bool = False
    age_years: float | None = None
    quality_control: bool = False
    is_key_object_selection: bool = False
    rejected_uids: frozenset[str] = frozenset()
    identifiers: frozenset[str] = frozenset()


def image_format(head: bytes) -> ImageFormat:
    """What a file is, by its first `SIGNATURE_BYTES` bytes or more."""
    if head[128:SIGNATURE_BYTES] == b"DICM":  # first: the preamble may hold another format's header
        return ImageFormat.DICOM
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        return ImageFormat.RASTER
    # without its preamble: group 2, group 8 in either byte order, a command
    if head.startswith((b"\x02\0", b"\x08\0", b"\0\x08", b"\0\0\0\0\x04\0\0\0")):
        return ImageFormat.DICOM
    return ImageFormat.OTHER


def same_patient(one: ImageInfo, other: ImageInfo) -> bool | None:
    """Whether two headers name one patient: by PatientID, or else by name and date of birth.

    One PatientID with two dates of birth is two patients. What one of them lacks tells nothing.

    Returns:
        None where they do not tell.
    """
    (name, born), (other_name, other_born) = (_person(info) for info in (one, other))
    if born and other_born and born != other_born:
        return False
    ids = [info.identity.patient_id.strip().lower() for info in (one, other)]
    if all(ids):
        return ids[0] == ids[1]
    if name and other_name and name != other_name:
        return False
    return True if name and other_name and born and other_born else None


def _person(info: ImageInfo) -> tuple[str, str]:
    """Name and date of birth; carets and blanks at the end mean nothing (PS3.5 6.2.1)."""
    name, _, born = info.person.partition("|")
    return name.strip("^ "), born


def parse_view(text: str) -> View:
    """The projection that some words name; UNKNOWN where they name none, several or another.

    "AP AXIAL", "XTABLE LATERAL", "W033 Thorax p.a.", "LL", "nan": known or not, never an error.
    A decubitus or oblique image is neither a frontal nor a lateral one to report from first.
    """
    if _OTHER.search(text):
        return View.UNKNOWN
    text = text.replace("_", " ")
    views = ((View.PA, _PA), (View.AP, _AP), (View.LATERAL, _LATERAL))
    found = [view for view, pattern in views if pattern.search(text)]
    if len(found) != 1 or (found == [View.LATERAL] and _FRONTAL.search(text)):
        return View.UNKNOWN
    return found[0]


def is_other_projection(text: str) -> bool:
    """Whether some words name a decubitus or oblique projection."""
    return bool(_OTHER.search(text) or _LYING.search(text))


def is_frontal(text: str) -> bool | None:
    """Whether some words name a frontal projection; None where they do not say."""
    view = parse_view(text)
    if view is View.UNKNOWN:
        named = _FRONTAL.search(text) and not _LATERAL.search(text) and not _OTHER.search(text)
        return True if named else None
    return view is not View.LATERAL


def name_parts(*values: str) -> frozenset[str]:
    """What of names and numbers could be found again in a text: lower case, not too short.

    Of scripts other than Latin, whose names are short, two letters are enough, and family and
    given name are also looked for without a space between them.
    """
    parts = {value.strip().lower() for value in values}
    for value in values:
        for group in value.lower().replace(",", " ").split("="):
            words = group.replace("^", " ").split()
            parts.update(words)
            if not is_latin(joined := "".join(words)):
                parts.add(joined)
    return frozenset(
        part for part in parts if len(part) >= (_SHORTEST_NAME if is_latin(part) else 2)
    )


def is_latin(text: str) -> bool:
    """Whether all letters are Latin: beyond, names of one and two letters are common."""
    return all(ord(letter) < 0x0250 for letter in text)
