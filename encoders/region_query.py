"""The part of an image around a region, for searching with it.

Knows images; where a region came from is for callers. A trained heatmap processor does no better
than the crop (docs/experiments.md).
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from encoders.base import CxrImage

EDGE = float(np.exp(-0.5))
"""A heatmap this high or higher is region: one standard deviation, where a box has its sides."""

MARGIN = 0.25
"""Of the region's longer side, left around it on each side."""


def unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """The direction of a vector: float32 [dim], norm 1."""
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), np.float32)


def crop_to_region(image: CxrImage, heat: NDArray[np.float32]) -> CxrImage:
    """The square around the region, with a margin, as far as the image goes."""
    height, width = image.pixels.shape
    top, bottom = (end * height / heat.shape[0] for end in _ends(heat.max(1)))
    left, right = (end * width / heat.shape[1] for end in _ends(heat.max(0)))
    half = max(right - left, bottom - top) * (0.5 + MARGIN)
    column, row = (left + right) / 2, (top + bottom) / 2
    rows = slice(int(max(row - half, 0)), int(min(row + half, height)) + 1)
    columns = slice(int(max(column - half, 0)), int(min(column + half, width)) + 1)
    return replace(image, pixels=np.ascontiguousarray(image.pixels[rows, columns]))


def _ends(profile: NDArray[np.float32]) -> tuple[int, int]:
    inside = np.flatnonzero(profile >= EDGE * profile.max())
    return int(inside[0]), int(inside[-1]) + 1
