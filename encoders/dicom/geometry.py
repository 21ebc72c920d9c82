"""How the stored pixels lie: spacing, orientation, shutter, and what makes an image upright.

An upright chest has the patient's feet at the bottom; a frontal one has the patient's left on the
right of the image. Source: PS3.3 C.7.6.1.1.1 (PatientOrientation), C.8.11.4 (flip and turn of the
detector's field of view), C.7.6.11 (display shutter).
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

_SQUARE = 0.01
"""How far height and width of a pixel may differ before it is not square."""

_LONGEST = 4.0
"""Pixels longer than this many times their width come of a wrong header, of no detector."""

_LEAST_OPEN = 0.01
"""A shutter that leaves less than this share of the image open is a mistake, not a collimation."""

_AXIS = {"L": 0, "R": 0, "A": 1, "P": 1, "H": 2, "F": 2}
_SWAPPED = "sides may be swapped, compare with the markers on the image"


def spacing_of(dataset: Dataset) -> tuple[float, float] | None:
    """Row and column spacing in mm: in the patient, else at the detector, else of the scanner."""
    for keyword in _SPACINGS:
        values = numbers(dataset, keyword)
        if len(values) == 2 and all(0.01 <= value <= 10 for value in values):
            return values[0], values[1]
    return None


def aspect_of(dataset: Dataset) -> float:
    """Height of a pixel by its width: by its spacing, else by PixelAspectRatio (0028,0034)."""
    ratio = spacing_of(dataset) or numbers(dataset, "PixelAspectRatio")
    return ratio[0] / ratio[1] if len(ratio) == 2 and min(ratio) > 0 else 1.0


def is_square(aspect: float) -> bool:
    """Whether a pixel of this height by width may be taken for a square."""
    return math.isclose(aspect, 1.0, rel_tol=_SQUARE)


def with_square_pixels(image: RawImage, aspect: float) -> RawImage | None:
    """The image with its longer pixels divided; None where that cannot be done.

    Codes lie on a line with the values, so that they can be interpolated. ``aspect`` is the height
    of a pixel by its width.
    """
    rows, columns = image.codes.shape
    factor = max(aspect, 1 / aspect)
    if aspect > 1:
        rows = round(rows * factor)
    else:
        columns = round(columns * factor)
    if factor > _LONGEST or rows * columns > MAX_PIXELS:
        return None

    def resized(values: NDArray[Any]) -> NDArray[Any]:
        size = (columns, rows)
        return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR))

    hidden, spacing = image.hidden, image.spacing_mm
    return replace(
        image,
        codes=resized(image.codes),
        # a pixel that is made of a hidden one is hidden
        hidden=None if hidden is None else resized(hidden.astype(np.float32)) > 0,
        spacing_mm=(min(spacing), min(spacing)) if spacing else None,
    )


@dataclass(frozen=True, slots=True)
class Turn:
    """What is done to the stored pixels, in this order; a flip makes the last one the first."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def __bool__(self) -> bool:
        return self.transpose or self.flip_rows or self.flip_columns

    def apply(self, image: RawImage) -> RawImage:
        """The image turned."""

        def turn(values: NDArray[Any]) -> NDArray[Any]:
            values = values.T if self.transpose else values
            rows, columns = -1 if self.flip_rows else 1, -1 if self.flip_columns else 1
            return np.ascontiguousarray(values[::rows, ::columns])

        spacing = image.spacing_mm
        return replace(
            image,
            codes=turn(image.codes),
            hidden=None if image.hidden is None else turn(image.hidden),
            spacing_mm=spacing[::-1] if spacing and self.transpose else spacing,
        )


def turn_of(dataset: Dataset, view: View) -> tuple[Turn, tuple[str, ...]]:
    """What turns the image upright, and sentences about it."""
    letters = [value.upper()[:1] for value in text_values(dataset, "PatientOrientation")]
    if not letters:
        return Turn(), _unknown_flip(dataset)
    name = tag("PatientOrientation")
    axes = [_AXIS.get(letter) for letter in letters]
    if len(axes) != 2 or None in axes or axes[0] == axes[1] or 2 not in axes:
        return Turn(), (f"{name} cannot be understood: {_SWAPPED}",)
    frontal = 0 in axes
    shown = "\\".join(letters)
    if frontal == (view is View.LATERAL) and view is not View.UNKNOWN:
        return Turn(), (f"{name} = {shown} does not fit the view {view}: {_SWAPPED}",)
    turn = _upright(letters[0], letters[1], frontal=frontal)
    if not turn:
        return turn, ()
    how = "turned" if turn.transpose or turn.flip_rows else "mirrored"
    return turn, (f"{name} = {shown}: stored {how}, shown upright",)


def _upright(row: str, column: str, *, frontal: bool) -> Turn:
    """Directions of a row and of a column, to the right and down, become L (frontal) and F."""
    transpose = _AXIS[row] == 2
    across, down = (column, row) if transpose else (row, column)
    flip_rows = down == "H"
    # A lateral is right from either side: it is turned, never mirrored.
    flip_columns = across == "R" if frontal else transpose != flip_rows
    return Turn(transpose, flip_rows, flip_columns)


def _unknown_flip(dataset: Dataset) -> tuple[str, ...]:
    found = []
    if code(dataset, "FieldOfViewHorizontalFlip") == "YES":
        found.append(f"{tag('FieldOfViewHorizontalFlip')} = YES")
    if turned := number(dataset, "FieldOfViewRotation"):
        found.append(f"{tag('FieldOfViewRotation')} = {turned:g}")
    if not found:
        return ()
    return (f"{' and '.join(found)}, but {tag('PatientOrientation')} is missing: {_SWAPPED}",)


def outside_shutter(dataset: Dataset, rows: int, columns: int, warnings: list[str]) -> Mask | None:
    """True where a pixel is shuttered: bool [rows, columns], or None without a shutter.

    Several shapes may be given; a pixel is shown where it is inside all of them. Rows and
    columns count from 1, and the edges named are shown.
    """
    mask = np.zeros((rows, columns), np.bool_)
    for shape in codes(dataset, "ShutterShape"):
        inside = _INSIDE[shape](dataset, rows, columns) if shape in _INSIDE else None
        if inside is None or inside.mean() < _LEAST_OPEN:
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


_INSIDE = {"RECTANGULAR": _rectangle, "CIRCULAR": _circle, "POLYGONAL": _polygon}
