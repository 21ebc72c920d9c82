"""What an image file says without its pixels: format, study, view, hints of who it is.

Owns the quick look at many files: a DICOM header is read up to the pixels, of a PNG or JPEG only
the first bytes. Knows nothing of grey values; what the facts mean is for others to judge.

Identifiers live in memory only: `ImageInfo.names` is there to find them, and keep them out of
whatever is written.
"""

import io
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from encoders.base import View
from encoders.images.raw_image import HeaderIdentity, ImageReadError, Reason

_HEAD = 132
_SHORTEST_NAME = 3
"""Letters of a name or number from which finding it in a path is no accident."""


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
        study_uid, accession: StudyInstanceUID and AccessionNumber, empty if absent. Never log them.
        modality, body_part, view: as in `encoders.base.CxrImage`.
        for_processing: raw detector values, made for a computer and not for a reader.
        pixels: rows times columns, 0 where the header does not say.
        order: (series number, instance number), 0 where absent.
        animal: the header speaks of a species other than man, a breed or an owner.
        age_years: of the patient at the image, None where absent.
        names: lower-case parts of the patient's name, numbers, and UIDs: what must not be written.
    """

    format: ImageFormat = ImageFormat.RASTER
    identity: HeaderIdentity = field(default_factory=HeaderIdentity)
    study_uid: str = ""
    accession: str = ""
    modality: str = ""
    body_part: str = ""
    view: View = View.UNKNOWN
    for_processing: bool = False
    pixels: int = 0
    order: tuple[int, int] = (0, 0)
    animal: bool = False
    age_years: float | None = None
    names: frozenset[str] = frozenset()


def image_format(head: bytes) -> ImageFormat:
    """What a file is, by its first 132 bytes or more."""
    if head[128:_HEAD] == b"DICM":
        return ImageFormat.DICOM
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        return ImageFormat.RASTER
    if head.startswith((b"\x02\0", b"\x08\0", b"\0\x08", b"\0\0\0\0\x04\0\0\0")):
        return ImageFormat.DICOM  # without its preamble
    return ImageFormat.OTHER


def read_facts(source: Path | bytes) -> ImageInfo:
    """Look at an image's header; of a file, no more is read than that.

    Raises:
        ImageReadError: the file cannot be opened, or its DICOM header cannot be parsed.
    """
    if isinstance(source, bytes):
        return _facts(io.BytesIO(source))
    try:
        if not source.is_file():
            raise ImageReadError(Reason.FILE, "this is no regular file.")
        with source.open("rb") as file:
            return _facts(file)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        words = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        raise ImageReadError(
            Reason.FILE, f"the file cannot be opened: {words}. Check its path and permissions."
        ) from None


def _facts(file: io.BufferedIOBase) -> ImageInfo:
    found = image_format(file.read(_HEAD))
    if found is not ImageFormat.DICOM:
        return ImageInfo(found)
    from encoders.dicom.info import dicom_facts  # noqa: PLC0415 - pydicom takes a while

    file.seek(0)
    return dicom_facts(file)


def name_parts(*values: str) -> frozenset[str]:
    """What of names and numbers could be found again in a text: lower case, not too short."""
    parts = {value.strip().lower() for value in values}
    parts |= {
        part
        for value in values
        for part in value.lower().replace("^", " ").replace("=", " ").replace(",", " ").split()
    }
    return frozenset(part for part in parts if len(part) >= _SHORTEST_NAME)
