"""Turning an image upright and making its pixels square.

Owns what is done to the arrays; why is for the reader of a format to say.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders.images.raw_image import MAX_PIXELS, RawImage

SQUARE = 0.01
"""How far height and width of a pixel may differ before it is not square."""

_MOST = 4.0
"""Pixels longer than this many times their width come of a wrong header, of no detector."""

_BLOCK = 128


def turned(image: RawImage, *, transpose: bool, flip_rows: bool, flip_columns: bool) -> RawImage:
    """The image turned: transposed first, then flipped."""

    def turn(values: NDArray[Any]) -> NDArray[Any]:
        values = values.T if transpose else values
        return np.ascontiguousarray(values[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1])

    spacing = image.spacing_mm
    return replace(
        image,
        codes=turn(image.codes),
        hidden=None if image.hidden is None else turn(image.hidden),
        spacing_mm=spacing[::-1] if spacing and transpose else spacing,
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
    spacing = image.spacing_mm
    return replace(
        image,
        codes=_stretched(image.codes, length, axis),
        hidden=None if image.hidden is None else _stretched_mask(image.hidden, length, axis),
        spacing_mm=(min(spacing), min(spacing)) if spacing else None,
    )


def is_square(aspect: float) -> bool:
    """Whether a pixel of this height by width may be taken for a square."""
    return math.isclose(aspect, 1.0, rel_tol=SQUARE)


def _neighbours(old: int, new: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[Any]]:
    """For each new pixel the two old ones around its centre, and the share of the second."""
    centres = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    first = np.floor(centres).astype(np.intp)
    second = np.minimum(first + 1, old - 1)
    return first, second, (centres - first).astype(np.float32)


def _stretched(codes: NDArray[np.uint16], length: int, axis: int) -> NDArray[np.uint16]:
    """Linear interpolation along one axis, in blocks of rows."""
    if axis == 1:
        first, second, share = _neighbours(codes.shape[1], length)
        out = np.empty((codes.shape[0], length), np.uint16)
        for row in range(0, len(codes), _BLOCK):
            block = codes[row : row + _BLOCK].astype(np.float32)
            mixed = block[:, first] * (1 - share) + block[:, second] * share
            out[row : row + _BLOCK] = np.rint(mixed)
        return out
    first, second, share = _neighbours(codes.shape[0], length)
    out = np.empty((length, codes.shape[1]), np.uint16)
    for row in range(0, length, _BLOCK):
        part = slice(row, row + _BLOCK)
        weight = share[part, None]
        out[part] = np.rint(codes[first[part]] * (1 - weight) + codes[second[part]] * weight)
    return out


def _stretched_mask(mask: NDArray[np.bool_], length: int, axis: int) -> NDArray[np.bool_]:
    """True where a pixel is made of a hidden one."""
    first, second, share = _neighbours(mask.shape[axis], length)
    second = np.where(share > 0, second, first)
    hidden: NDArray[np.bool_] = np.take(mask, first, axis) | np.take(mask, second, axis)
    return hidden
