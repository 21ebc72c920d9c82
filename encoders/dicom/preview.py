"""A large image at a fraction of its size, before all of it is decoded.

Owns which images can be had that quickly: JPEG 2000 holds every size that is a half of the next.
The values are means, so nothing must be measured or drafted from them. Everything else gives None,
and every failure does: the full reading says what is wrong.
"""

from dataclasses import dataclass, replace

from pydicom.encaps import get_frame

from encoders.dicom.codecs import decode, halved
from encoders.dicom.codestream import Codec, inspect
from encoders.dicom.greyscale import grey_image
from encoders.dicom.header import content, parse
from encoders.dicom.layout import read_layout
from encoders.dicom.reader import describe, is_plain
from encoders.images.raw_image import RawImage

LEAST_PIXELS = 3_000_000
"""Of an image for which it is worth while."""

_QUICK = 500_000
"""Pixels of a first look that one core decodes in a fifth of a second."""


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """A small image, and the size of the whole one."""

    image: RawImage
    rows: int
    columns: int


def preview_dicom(data: bytes) -> Preview | None:
    """The image at an eighth of its sides, a quarter, or a half, where that is quick."""
    dataset = parse(data)
    layout = read_layout(dataset)
    rows, columns = layout.rows, layout.columns
    grey = layout.photometric in ("MONOCHROME1", "MONOCHROME2") and not layout.signed
    # a shutter is given in pixels of the whole image
    if "ShutterShape" in dataset or not is_plain(dataset):
        return None
    if rows * columns < LEAST_PIXELS or not grey:
        return None
    frame = bytes(get_frame(content(dataset, "PixelData"), 0, number_of_frames=layout.frames))
    stream = inspect(frame)
    fits = (stream.rows, stream.columns, stream.samples) == (rows, columns, 1)
    if stream.codec is not Codec.JPEG_2000 or not fits or layout.high_bit != stream.bits - 1:
        return None
    halvings = _halvings(rows, columns)
    pixels = decode(frame, stream, halvings=halvings)
    small_rows, small_columns = halved(rows, columns, halvings)
    small = replace(layout, rows=small_rows, columns=small_columns)
    image = describe(grey_image(dataset, pixels, small), dataset, layout.warnings)
    return Preview(image, rows, columns)


def _halvings(rows: int, columns: int) -> int:
    """How often to halve the sides: twice, and once more where that leaves more than is quick.

    Pillow rounds where the standard rounds up. Sizes for which they differ, such as one pixel over
    a multiple of four, are halved less often.
    """
    wanted = 3 if rows * columns > 16 * _QUICK else 2
    for times in range(wanted, 1, -1):
        rounded = tuple((side + 2 ** (times - 1)) >> times for side in (rows, columns))
        if rounded == halved(rows, columns, times):
            return times
    return 1
