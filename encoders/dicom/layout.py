"""The layout of pixel data by its header (Image Pixel module, PS3.3 C.7.6.3).

Checked before anything is decoded; an unambiguous omission is repaired.
"""

from dataclasses import dataclass

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from encoders.dicom.header import code, integer, raw_bytes
from encoders.images.raw_image import ImageReadError, ReadFailure, check_size

COLOURS = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})
_GREYS = frozenset({"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"})


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of the pixel data, with unambiguous omissions repaired."""

    rows: int
    columns: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    planar: bool
    frames: int
    warnings: tuple[str, ...]


def tag(keyword: str) -> str:
    """An element as messages name it: ``Rows (0028,0010)``."""
    number = tag_for_keyword(keyword) or 0
    return f"{keyword} ({number >> 16:04X},{number & 0xFFFF:04X})"


def read_layout(dataset: Dataset) -> Layout:
    """Read the Image Pixel module, and refuse what is missing, impossible or of no image's size."""
    rows, columns = _required(dataset, "Rows"), _required(dataset, "Columns")
    check_size(rows, columns, rows_name=tag("Rows"), columns_name=tag("Columns"))
    warnings: list[str] = []
    samples = integer(dataset, "SamplesPerPixel") or 1
    photometric = _photometric(dataset, samples, warnings)
    bits_allocated = _bits_allocated(dataset, rows * columns * samples)
    bits_stored = integer(dataset, "BitsStored") or bits_allocated
    if bits_stored > bits_allocated:
        warnings.append(f"{tag('BitsStored')} = {bits_stored} is more than is allocated: not used")
        bits_stored = bits_allocated
    high_bit = integer(dataset, "HighBit")
    if high_bit is None or not bits_stored - 1 <= high_bit < bits_allocated:
        high_bit = bits_stored - 1
    frames = max(integer(dataset, "NumberOfFrames") or 1, 1)
    if frames > 1:
        warnings.append(f"{frames} frames in the file: the first is shown")
    return Layout(
        rows=rows,
        columns=columns,
        samples=samples,
        photometric=photometric,
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        high_bit=high_bit,
        signed=integer(dataset, "PixelRepresentation") == 1,
        planar=integer(dataset, "PlanarConfiguration") == 1,
        frames=frames,
        warnings=tuple(warnings),
    )


def _required(dataset: Dataset, keyword: str) -> int:
    value = integer(dataset, keyword)
    if value is None or value < 1:
        raise ImageReadError(
            ReadFailure.BAD_HEADER,
            f"{tag(keyword)} is {'missing' if value is None else value}: the pixel data cannot be "
            "laid out without it. Export the image again from its source.",
        )
    return value


def _photometric(dataset: Dataset, samples: int, warnings: list[str]) -> str:
    value = code(dataset, "PhotometricInterpretation")
    if samples not in (1, 3):
        raise ImageReadError(
            ReadFailure.UNSUPPORTED,
            f"{tag('SamplesPerPixel')} = {samples}: an image has 1 (grey) or 3 (colour). Export it "
            "as MONOCHROME2.",
        )
    if (samples == 1 and value in _GREYS) or (samples == 3 and value in COLOURS):
        return value
    if value and not value.startswith("MONOCHROME") and value not in _GREYS | COLOURS:
        raise ImageReadError(
            ReadFailure.UNSUPPORTED,
            f"{tag('PhotometricInterpretation')} = {value!r} is not supported. Export the image as "
            "MONOCHROME2.",
        )
    assumed = "MONOCHROME2" if samples == 1 else "RGB"
    warnings.append(
        f"{tag('PhotometricInterpretation')} is {repr(value) if value else 'missing'}: "
        f"{assumed} assumed"
    )
    return assumed


def _bits_allocated(dataset: Dataset, count: int) -> int:
    value = integer(dataset, "BitsAllocated")
    if value is None:  # the length of the pixel data fits only one
        length = len(raw_bytes(dataset, "PixelData"))
        value = 16 if length >= 2 * count else 8
    if value not in (1, 8, 16, 32):
        raise ImageReadError(
            ReadFailure.UNSUPPORTED,
            f"{tag('BitsAllocated')} = {value}: supported are 1, 8, 16 and 32. Export the image "
            "with 16.",
        )
    return value
