"""Turning an image upright and making its pixels square.

Owns what is done to the arrays; why is for the reader of a format to say.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from encoders.images.raw_image import MAX_PIXELS, RawImage

SQUARE = 0.01
"""How far height and width of a pixel may differ before it is not square."""

_MOST = 4.0
"""Pixels longer than this many times their width come of a wrong header, of no detector."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What is done to the stored pixels, in this order.

    Attributes:
        transpose: rows become columns.
        flip_rows: the last row becomes the first.
        flip_columns: the last column becomes the first.
    """

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def __bool__(self) -> bool:
        return self.transpose or self.flip_rows or self.flip_columns


def turned(image: RawImage, how: Turn) -> RawImage:
    """The image turned."""

    def turn(values: NDArray[Any]) -> NDArray[Any]:
        values = values.T if how.transpose else values
        rows, columns = -1 if how.flip_rows else 1, -1 if how.flip_columns else 1
        return np.ascontiguousarray(values[::rows, ::columns])

    spacing = image.spacing_mm
    return replace(
        image,
        codes=turn(image.codes),
        hidden=None if image.hidden is None else turn(image.hidden),
        spacing_mm=spacing[::-1] if spacing and how.transpose else spacing,
    )


def with_square_pixels(image: RawImage, aspect: float) -> RawImage | None:
    """The image with its longer pixels divided; None where that cannot be done.

    Args:
        image: uint16 codes on a line with the values, so that they can be interpolated.
        aspect: height of a pixel by its width.
    """
    rows, columns = image.codes.shape
    axis = 0 if aspect > 1 else 1
    factor = aspect if axis == 0 else 1 / aspect
    length = round((rows, columns)[axis] * factor)
    if factor > _MOST or length * (columns if axis == 0 else rows) > MAX_PIXELS:
        return None
    size = (columns, length) if axis == 0 else (length, rows)
    hidden, spacing = image.hidden, image.spacing_mm
    return replace(
        image,
        codes=_resized(image.codes, size),
        # a pixel that is made of a hidden one is hidden
        hidden=None if hidden is None else _resized(hidden.astype(np.float32), size) > 0,
        spacing_mm=(min(spacing), min(spacing)) if spacing else None,
    )


def is_square(aspect: float) -> bool:
    """Whether a pixel of this height by width may be taken for a square."""
    return math.isclose(aspect, 1.0, rel_tol=SQUARE)


def _resized(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Linear interpolation to (width, height), in the type of the values."""
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR))
