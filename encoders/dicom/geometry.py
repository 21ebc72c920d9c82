"""Geometry of the stored pixels: spacing, orientation and shutter.

An upright chest has the patient's feet at the bottom; a frontal one has the patient's left on the
right of the image. Source: PS3.3 C.7.6.1.1.1 (PatientOrientation), C.8.11.4 (flip and rotation of
the detector's field of view), C.7.6.11 (display shutter).
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

from encoders.base import View
from encoders.dicom.header import code, codes, number, numbers, text_values
from encoders.dicom.layout import tag
from encoders.images.raw_image import MAX_PIXELS, RawImage

Mask = NDArray[np.bool_]

_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")

_SQUARE_TOLERANCE = 0.01
"""Relative difference of height and width up to which a pixel counts as square."""

_MAX_ASPECT = 4.0
"""No detector has pixels longer than this many times their width: the header is wrong."""

_MIN_OPEN_SHARE = 0.01
"""A shutter that leaves less of the image open than this is a mistake, not a collimation."""

_AXIS = {"L": 0, "R": 0, "A": 1, "P": 1, "H": 2, "F": 2}
_SIDES_UNCERTAIN = "sides may be swapped, compare with the markers on the image"


def pixel_spacing(dataset: Dataset) -> tuple[float, float] | None:
    """Row and column spacing in mm: in the patient, else at the detector, else of the scanner."""
    for keyword in _SPACINGS:
        values = numbers(dataset, keyword)
        if len(values) == 2 and all(0.01 <= value <= 10 for value in values):
            return values[0], values[1]
    return None


def pixel_aspect(dataset: Dataset) -> float:
    """Height / width of a pixel, by its spacing, else by PixelAspectRatio (0028,0034)."""
    ratio = pixel_spacing(dataset) or numbers(dataset, "PixelAspectRatio")
    return ratio[0] / ratio[1] if len(ratio) == 2 and min(ratio) > 0 else 1.0


def is_square(aspect: float) -> bool:
    """Whether a pixel of this height / width counts as square."""
    return math.isclose(aspect, 1.0, rel_tol=_SQUARE_TOLERANCE)


def resample_to_square_pixels(image: RawImage, aspect: float) -> RawImage | None:
    """The image with the longer side of its pixels interpolated; None if it would be too large.

    Codes are linear in the modality values, so they can be interpolated. ``aspect`` is height /
    width of a pixel.
    """
    rows, columns = image.codes.shape
    factor = max(aspect, 1 / aspect)
    if aspect > 1:
        rows = round(rows * factor)
    else:
        columns = round(columns * factor)
    if factor > _MAX_ASPECT or rows * columns > MAX_PIXELS:
        return None

    def resized(values: NDArray[Any]) -> NDArray[Any]:
        size = (columns, rows)
        return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR))

    hidden, spacing = image.hidden, image.spacing_mm
    return replace(
        image,
        codes=resized(image.codes),
        # a pixel with a hidden neighbour is hidden
        hidden=None if hidden is None else resized(hidden.astype(np.float32)) > 0,
        spacing_mm=(min(spacing), min(spacing)) if spacing else None,
    )


@dataclass(frozen=True, slots=True)
class Reorientation:
    """A transposition, then flips, of the stored pixels."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def __bool__(self) -> bool:
        return self.transpose or self.flip_rows or self.flip_columns

    def apply(self, image: RawImage) -> RawImage:
        """The image, its mask and spacing reoriented."""

        def reorient(values: NDArray[Any]) -> NDArray[Any]:
            values = values.T if self.transpose else values
            rows, columns = -1 if self.flip_rows else 1, -1 if self.flip_columns else 1
            return np.ascontiguousarray(values[::rows, ::columns])

        spacing = image.spacing_mm
        return replace(
            image,
            codes=reorient(image.codes),
            hidden=None if image.hidden is None else reorient(image.hidden),
            spacing_mm=spacing[::-1] if spacing and self.transpose else spacing,
        )


def find_reorientation(dataset: Dataset, view: View, warnings: list[str]) -> Reorientation:
    """What makes the image upright; nothing, with a warning, if the header leaves it uncertain."""
    letters = [value.upper()[:1] for value in text_values(dataset, "PatientOrientation")]
    name, shown = tag("PatientOrientation"), "\\".join(letters)
    if not letters:
        facts = []
        if code(dataset, "FieldOfViewHorizontalFlip") == "YES":
            facts.append(f"{tag('FieldOfViewHorizontalFlip')} = YES")
        if rotation := number(dataset, "FieldOfViewRotation"):
            facts.append(f"{tag('FieldOfViewRotation')} = {rotation:g}")
        if facts:
            warnings.append(f"{' and '.join(facts)}, but {name} is missing: {_SIDES_UNCERTAIN}")
        return Reorientation()
    axes = [_AXIS.get(letter) for letter in letters]
    if len(axes) != 2 or None in axes or axes[0] == axes[1] or 2 not in axes:
        warnings.append(f"{name} cannot be understood: {_SIDES_UNCERTAIN}")
        return Reorientation()
    frontal = 0 in axes
    if frontal == (view is View.LATERAL) and view is not View.UNKNOWN:
        warnings.append(f"{name} = {shown} does not fit the view {view}: {_SIDES_UNCERTAIN}")
        return Reorientation()
    upright = _make_upright(letters[0], letters[1], frontal=frontal)
    if upright:
        how = "turned" if upright.transpose or upright.flip_rows else "mirrored"
        warnings.append(f"{name} = {shown}: stored {how}, shown upright")
    return upright


def _make_upright(row: str, column: str, *, frontal: bool) -> Reorientation:
    """What makes rows run towards L (in a frontal) and columns towards F (PatientOrientation)."""
    transpose = _AXIS[row] == 2
    horizontal, vertical = (column, row) if transpose else (row, column)
    flip_rows = vertical == "H"
    # A lateral is correct from either side: it is rotated, never mirrored.
    flip_columns = horizontal == "R" if frontal else transpose != flip_rows
    return Reorientation(transpose, flip_rows, flip_columns)


def shutter_mask(dataset: Dataset, rows: int, columns: int, warnings: list[str]) -> Mask | None:
    """True outside the shutter: bool [rows, columns], or None without a shutter.

    With several shapes, a pixel is shown if it is inside all of them. Rows and columns count from
    1, and the edges are shown.
    """
    mask = np.zeros((rows, columns), np.bool_)
    for shape in codes(dataset, "ShutterShape"):
        inside = _SHUTTERS[shape](dataset, rows, columns) if shape in _SHUTTERS else None
        if inside is None or inside.mean() < _MIN_OPEN_SHARE:
            warnings.append("a shutter of the file is incomplete or covers all: not used")
        else:
            mask |= ~inside
    return mask if mask.any() else None


def _rectangle(dataset: Dataset, rows: int, columns: int) -> Mask | None:
    sides = ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal")
    edges = [number(dataset, f"Shutter{side}Edge") for side in sides]
    if None in edges:
        return None
    left, right, upper, lower = (max(int(edge), 0) for edge in edges if edge is not None)
    inside = np.zeros((rows, columns), np.bool_)
    inside[max(upper - 1, 0) : lower, max(left - 1, 0) : right] = True
    return inside


def _circle(dataset: Dataset, rows: int, columns: int) -> Mask | None:
    centre = numbers(dataset, "CenterOfCircularShutter")
    radius = number(dataset, "RadiusOfCircularShutter")
    if len(centre) != 2 or radius is None:
        return None
    down = np.arange(1, rows + 1, dtype=np.float64)[:, None] - centre[0]
    right = np.arange(1, columns + 1, dtype=np.float64)[None, :] - centre[1]
    return np.asarray(down**2 + right**2 <= radius**2)


def _polygon(dataset: Dataset, rows: int, columns: int) -> Mask | None:
    vertices = numbers(dataset, "VerticesOfThePolygonalShutter")
    if len(vertices) < 6 or len(vertices) % 2:
        return None
    corners = [
        (column - 1, row - 1) for row, column in zip(vertices[::2], vertices[1::2], strict=True)
    ]
    canvas = Image.new("1", (columns, rows))
    ImageDraw.Draw(canvas).polygon(corners, fill=1, outline=1)
    return np.asarray(canvas)


_SHUTTERS = {"RECTANGULAR": _rectangle, "CIRCULAR": _circle, "POLYGONAL": _polygon}
