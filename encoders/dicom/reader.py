"""Reads a DICOM file: parse, check the layout, decode, apply the grey scale, make upright.

The steps are in the other modules of this package. Also previews a large image before all of it is
decoded.
"""

from collections.abc import Iterable
from dataclasses import replace

from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.uid import UID

from encoders.dicom.codecs import Codec, decode, halved_size, inspect
from encoders.dicom.geometry import (
    find_reorientation,
    is_square,
    pixel_aspect,
    pixel_spacing,
    resample_to_square_pixels,
)
from encoders.dicom.greyscale import grey_image
from encoders.dicom.header import code, has_overlays, parse, raw_bytes, text_value
from encoders.dicom.info import read_view
from encoders.dicom.layout import read_layout, tag
from encoders.dicom.pixels import read_stored_values
from encoders.images.raw_image import ImageReadError, RawImage, ReadFailure

_PIXEL_TAG = b"\xe0\x7f\x10\x00"

_MIN_PREVIEWED_PIXELS = 3_000_000
"""Smaller images are decoded quickly enough without a preview."""

_FAST_PREVIEW_PIXELS = 500_000
"""Pixels that one core decodes in a fifth of a second."""


def read_dicom(data: bytes) -> RawImage:
    """Read the first frame of a DICOM file at its full depth.

    Raises:
        ImageReadError: the message names the tag, its value and the cure.
    """
    dataset = parse(data)
    if "PixelData" not in dataset:
        raise _no_pixels(dataset, data)
    layout = read_layout(dataset)
    warnings = [*layout.warnings]
    image = grey_image(dataset, read_stored_values(dataset, layout, warnings), layout)
    return _finish(image, dataset, warnings)


def _finish(image: RawImage, dataset: Dataset, layout_warnings: Iterable[str]) -> RawImage:
    """The image upright, with square pixels, its view, spacing, modality and all warnings."""
    warnings = [*layout_warnings, *image.warnings]
    if has_overlays(dataset):
        warnings.append("an overlay (drawn annotation) in the file is not shown")
    view = read_view(dataset)
    modality = code(dataset, "Modality")
    image = replace(image, view=view, spacing_mm=pixel_spacing(dataset), modality=modality)
    aspect = pixel_aspect(dataset)
    if not is_square(aspect):
        square = resample_to_square_pixels(image, aspect)
        warnings.append(
            f"pixels are {aspect:.3g} times as high as wide: "
            + ("resampled to square ones" if square else "shapes are distorted")
        )
        image = square or image
    if reorientation := find_reorientation(dataset, view, warnings):
        image = reorientation.apply(image)
    return replace(image, warnings=tuple(warnings))


def _no_pixels(dataset: Dataset, data: bytes) -> ImageReadError:
    if _PIXEL_TAG in data[132:]:
        return ImageReadError(
            ReadFailure.TRUNCATED,
            f"{tag('PixelData')} is cut short: the file ends inside it. Transfer the file again.",
        )
    uid = text_value(dataset, "SOPClassUID")
    name = UID(uid).name if uid else ""
    kind = f" (SOP class {name})" if name and name != uid else ""
    return ImageReadError(
        ReadFailure.NO_PIXELS,
        f"{tag('PixelData')} is missing{kind}: there is no image in this file. Choose the image "
        "itself, not its report, presentation state or directory.",
    )


def preview_dicom(data: bytes) -> tuple[RawImage, tuple[int, int]] | None:
    """The image at a half, quarter or eighth of its sides, and the rows and columns of the whole.

    For JPEG 2000, whose resolution levels halve each other; otherwise None. The values are means:
    do not measure in them or draft from them. Errors are left to `read_dicom`.
    """
    dataset = parse(data)
    layout = read_layout(dataset)
    rows, columns = layout.rows, layout.columns
    is_suitable = (
        layout.photometric in ("MONOCHROME1", "MONOCHROME2")
        and not layout.signed
        and rows * columns >= _MIN_PREVIEWED_PIXELS
        and "ShutterShape" not in dataset  # a shutter is given in pixels of the whole image
        and is_square(pixel_aspect(dataset))
        and not find_reorientation(dataset, read_view(dataset), warnings=[])
    )
    if not is_suitable:
        return None
    frame = bytes(get_frame(raw_bytes(dataset, "PixelData"), 0, number_of_frames=layout.frames))
    stream = inspect(frame)
    matches = (stream.rows, stream.columns, stream.samples) == (rows, columns, 1)
    if stream.codec is not Codec.JPEG_2000 or not matches or layout.high_bit != stream.bits - 1:
        return None
    halvings = _halvings(rows, columns)
    pixels = decode(frame, stream, halvings=halvings)
    small_rows, small_columns = halved_size(rows, columns, halvings)
    small = replace(layout, rows=small_rows, columns=small_columns)
    image = _finish(grey_image(dataset, pixels, small), dataset, layout.warnings)
    return image, (rows, columns)


def _halvings(rows: int, columns: int) -> int:
    """How often to halve the sides: twice, or three times if that is still too large.

    Less often for sizes where Pillow's rounding differs from the standard's rounding up, such as
    one pixel over a multiple of four.
    """
    most = 3 if rows * columns > 16 * _FAST_PREVIEW_PIXELS else 2
    for times in range(most, 1, -1):
        rounded = tuple((side + 2 ** (times - 1)) >> times for side in (rows, columns))
        if rounded == halved_size(rows, columns, times):
            return times
    return 1
