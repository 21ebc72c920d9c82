"""A DICOM file to an image: parse, check, decode, grey scale, upright, and what the header says.

The steps are the other modules of this package. Also a first look at a large image before all of it
is decoded.
"""

from collections.abc import Iterable
from dataclasses import replace

from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.uid import UID

from encoders.dicom.codecs import Codec, decode, halved, inspect
from encoders.dicom.geometry import aspect_of, is_square, spacing_of, turn_of, with_square_pixels
from encoders.dicom.greyscale import grey_image
from encoders.dicom.header import code, content, overlays, parse, word
from encoders.dicom.info import view_of
from encoders.dicom.layout import read_layout, tag
from encoders.dicom.pixels import stored_values
from encoders.images.raw_image import ImageReadError, RawImage, ReadFailure

_PIXEL_TAG = b"\xe0\x7f\x10\x00"

_PREVIEWED = 3_000_000
"""Least pixels of an image for which a preview is worth while."""

_QUICK = 500_000
"""Pixels of a preview that one core decodes in a fifth of a second."""


def read_dicom(data: bytes) -> RawImage:
    """Read the first frame of a DICOM file at its full depth.

    Raises:
        ImageReadError: nothing to show; the message names the tag, its value and the cure.
    """
    dataset = parse(data)
    if "PixelData" not in dataset:
        raise _no_pixels(dataset, data)
    layout = read_layout(dataset)
    warnings = [*layout.warnings]
    image = grey_image(dataset, stored_values(dataset, layout, warnings), layout)
    return _described(image, dataset, warnings)


def _described(image: RawImage, dataset: Dataset, notes: Iterable[str]) -> RawImage:
    """The image upright, with what the header says about it, and ``notes`` before its warnings."""
    warnings = [*notes, *image.warnings]
    if overlays(dataset):
        warnings.append("an overlay (drawn annotation) in the file is not shown")
    view = view_of(dataset)
    image = replace(
        image,
        view=view,
        spacing_mm=spacing_of(dataset),
        modality=code(dataset, "Modality"),
    )
    aspect = aspect_of(dataset)
    if not is_square(aspect):
        square = with_square_pixels(image, aspect)
        warnings.append(
            f"pixels are {aspect:.3g} times as high as wide: "
            + ("resampled to square ones" if square else "shapes are distorted")
        )
        image = square or image
    turn, about = turn_of(dataset, view)
    image = turn.apply(image) if turn else image
    return replace(image, warnings=(*warnings, *about))


def _no_pixels(dataset: Dataset, data: bytes) -> ImageReadError:
    if _PIXEL_TAG in data[132:]:
        return ImageReadError(
            ReadFailure.TRUNCATED,
            f"{tag('PixelData')} is cut short: the file ends inside it. Transfer the file again.",
        )
    uid = word(dataset, "SOPClassUID", limit=64)
    name = UID(uid).name if uid else ""
    kind = f" (SOP class {name})" if name and name != uid else ""
    return ImageReadError(
        ReadFailure.NO_PIXELS,
        f"{tag('PixelData')} is missing{kind}: there is no image in this file. Choose the image "
        "itself, not its report, presentation state or directory.",
    )


def preview_dicom(data: bytes) -> tuple[RawImage, tuple[int, int]] | None:
    """The image at an eighth of its sides, a quarter, or a half, where that is quick.

    With the rows and columns of the whole.

    JPEG 2000 holds every size that is a half of the next. The values are means, so nothing must be
    measured or drafted from them. Everything else gives None or fails: the full reading says what
    is wrong.
    """
    dataset = parse(data)
    layout = read_layout(dataset)
    rows, columns = layout.rows, layout.columns
    grey = layout.photometric in ("MONOCHROME1", "MONOCHROME2") and not layout.signed
    as_stored = is_square(aspect_of(dataset)) and not turn_of(dataset, view_of(dataset))[0]
    # a shutter is given in pixels of the whole image
    if not grey or not as_stored or "ShutterShape" in dataset or rows * columns < _PREVIEWED:
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
    image = _described(grey_image(dataset, pixels, small), dataset, layout.warnings)
    return image, (rows, columns)


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
