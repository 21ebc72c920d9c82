"""What an image file says without its pixels: format, study, view, hints of who it is.

Owns the types and the recognition of formats by content. `encoders.images.image_io.read_image_info`
fills them; what they mean is for others to judge.

Identifiers live in memory only: `ImageInfo.names` is there to find them, and keep them out of
whatever is written.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from encoders.base import View
from encoders.images.raw_image import HeaderIdentity

HEAD_BYTES = 132
"""Of a file, from which its format is known."""

_SHORTEST_NAME = 3
"""Letters of a name or number from which finding it in a path is no accident."""

_LATIN_END = 0x0250
"""Letters beyond it are not Latin: names of one and two letters are common there."""


class ImageFormat(StrEnum):
    """What a file is, by its content."""

    DICOM = "DICOM"
    RASTER = "PNG or JPEG"
    OTHER = "no image"


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What a header says about an image.

    Attributes:
        format: by content.
        identity: whose image it is. Never log it.
        study_uid, accession, instance_uid: StudyInstanceUID, AccessionNumber and SOPInstanceUID,
            empty if absent. Never log them.
        person: PatientName and PatientBirthDate, to tell patients apart who have no PatientID.
            Never log it.
        modality, body_part, view: as in `encoders.base.CxrImage`.
        for_processing: raw detector values, made for a computer and not for a reader.
        pixels: rows times columns, 0 where the header does not say.
        order: (series number, instance number), 0 where absent.
        taken_at: date and time of the acquisition as digits (``20260301120000``), empty if absent.
        studied_at: StudyDate and StudyTime likewise, else ``taken_at``; a date alone where there is
            no time. Never write it.
        animal: the header speaks of a species other than man, a breed or an owner.
        age_years: of the patient at the image, None where absent.
        quality_control: QualityControlImage is YES: a test image, or one put aside.
        selects: the file is a Key Object Selection: no image, but a note about some.
        rejects: SOPInstanceUIDs that such a note rejects. Never log them.
        names: lower-case parts of the patient's name, numbers, and UIDs: what must not be written.
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
    taken_at: str = ""
    studied_at: str = ""
    animal: bool = False
    age_years: float | None = None
    quality_control: bool = False
    selects: bool = False
    rejects: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()


def image_format(head: bytes) -> ImageFormat:
    """What a file is, by its first `HEAD_BYTES` bytes or more."""
    if head[128:HEAD_BYTES] == b"DICM":  # first: the preamble may hold another format's header
        return ImageFormat.DICOM
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        return ImageFormat.RASTER
    # without its preamble: group 2, group 8 in either byte order, a command
    if head.startswith((b"\x02\0", b"\x08\0", b"\0\x08", b"\0\0\0\0\x04\0\0\0")):
        return ImageFormat.DICOM
    return ImageFormat.OTHER


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
            parts.add("".join(words) if words and not _is_latin("".join(words)) else "")
    return frozenset(part for part in parts if _long_enough(part))


def _long_enough(part: str) -> bool:
    return len(part) >= (_SHORTEST_NAME if _is_latin(part) else 2)


def _is_latin(text: str) -> bool:
    return all(ord(letter) < _LATIN_END for letter in text)
