"""Boxes and gaze as heatmaps, drawn outlines as masks, and the crop around a region.

Used for a reader's region and in training. A heatmap is float32 [H, W] in [0, 1] with a maximum of
1, or 0 everywhere if nothing is marked. Coordinates are fractions of the image's width and height.

Source: eye gaze as in EGD-CXR (Karargyris et al., Scientific Data 2021), a Gaussian at every
fixation; arXiv 2403.10153 for its use.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from encoders.base import CxrImage

Floats = NDArray[np.float32]
Rows = tuple[tuple[float, ...], ...]

GAZE_SIGMA = 0.055
"""Standard deviation of a fixation, as a fraction of the image's width: 150 px at DICOM size."""

MIN_SIGMA = 0.02
"""Least standard deviation of a box, as a fraction of a side: a nodule's box is a few pixels."""

REGION_THRESHOLD = float(np.exp(-0.5))
"""The region of a heatmap is where it reaches this share of its maximum: one standard deviation,
the sides of a box."""

CROP_MARGIN = 0.25
"""Margin around a region on each side, as a share of its longer side."""


@dataclass(frozen=True, slots=True)
class Fixations:
    """Eye gaze.

    Attributes:
        points: (x, y, seconds) per fixation.
        sigma: standard deviation of each Gaussian, as a fraction of the width.
        by_duration: weight fixations by their duration; else equally.
    """

    points: Rows
    sigma: float = GAZE_SIGMA
    by_duration: bool = True


@dataclass(frozen=True, slots=True)
class Boxes:
    """Rectangles (left, top, width, height)."""

    boxes: Rows


Annotation = Fixations | Boxes

Outline = tuple[tuple[float, float], ...]
"""Corners (x, y) of a polygon; a box has four."""


def box_outline(left: float, top: float, right: float, bottom: float) -> Outline:
    """A rectangle as an outline."""
    return ((left, top), (right, top), (right, bottom), (left, bottom))


def bounding_box(outline: Outline) -> tuple[float, float, float, float]:
    """(left, top, width, height) of the rectangle around an outline."""
    x, y = zip(*outline, strict=True)
    return min(x), min(y), max(x) - min(x), max(y) - min(y)


def fill_outlines(outlines: Sequence[Outline], *, side: int) -> NDArray[np.uint8]:
    """uint8 [side, side] over the whole image, 255 inside any of the outlines."""
    from PIL import Image, ImageDraw  # noqa: PLC0415 - the rest of the module needs numpy only

    canvas = Image.new("L", (side, side))
    for outline in outlines:
        corners = [(x * side, y * side) for x, y in outline]
        ImageDraw.Draw(canvas).polygon(corners, fill=255, outline=255)
    return np.array(canvas)


def render_heatmap(annotation: Annotation, *, height: int, width: int) -> Floats:
    """The heatmap of an annotation, float32 [height, width] in [0, 1].

    The sum of a Gaussian per fixation; or the maximum of a Gaussian per box, with half the box's
    width and height as standard deviations.

    Raises:
        ValueError: a value is not finite, or a size or duration not positive.
    """
    heat = np.zeros((height, width))
    if isinstance(annotation, Fixations):
        # circular on the image: annotation.sigma is a fraction of the width
        sigma = (annotation.sigma, annotation.sigma * width / height)
        for x, y, seconds in annotation.points:
            _check_finite("fixation", (x, y, seconds), positive=(seconds, annotation.sigma))
            weight = seconds if annotation.by_duration else 1.0
            heat += weight * _gaussian(heat.shape, centre=(x, y), sigma=sigma)
    else:
        for box in annotation.boxes:
            left, top, box_width, box_height = box
            _check_finite("box", box, positive=(box_width, box_height))
            sigma = (max(box_width / 2, MIN_SIGMA), max(box_height / 2, MIN_SIGMA))
            centre = (left + box_width / 2, top + box_height / 2)
            heat = np.maximum(heat, _gaussian(heat.shape, centre=centre, sigma=sigma))
    return (heat / max(float(heat.max(initial=0)), 1e-6)).astype(np.float32)


def _gaussian(
    shape: tuple[int, ...], *, centre: tuple[float, float], sigma: tuple[float, float]
) -> NDArray[np.floating]:
    """exp(-d²/2) at the pixels' centres, [height, width]; all lengths are fractions of a side."""
    height, width = shape
    x = ((np.arange(width) + 0.5) / width - centre[0]) / sigma[0]
    y = ((np.arange(height) + 0.5) / height - centre[1]) / sigma[1]
    return np.asarray(np.exp(-0.5 * y**2)[:, None] * np.exp(-0.5 * x**2)[None])


def _check_finite(kind: str, values: tuple[float, ...], *, positive: tuple[float, ...]) -> None:
    if not np.isfinite(values).all() or min(positive) <= 0:
        raise ValueError(f"{kind} {values} must be finite, with sizes and seconds above 0")


def crop_to_region(image: CxrImage, heat: Floats) -> CxrImage:
    """The square around a heatmap's region, with a margin, cut to the image."""
    height, width = image.pixels.shape
    top, bottom = (row * height / heat.shape[0] for row in _extent(heat.max(1)))
    left, right = (column * width / heat.shape[1] for column in _extent(heat.max(0)))
    half = max(right - left, bottom - top) * (0.5 + CROP_MARGIN)
    x, y = (left + right) / 2, (top + bottom) / 2
    rows = slice(int(max(y - half, 0)), int(min(y + half, height)) + 1)
    columns = slice(int(max(x - half, 0)), int(min(x + half, width)) + 1)
    return replace(image, pixels=np.ascontiguousarray(image.pixels[rows, columns]))


def _extent(profile: Floats) -> tuple[int, int]:
    inside = np.flatnonzero(profile >= REGION_THRESHOLD * profile.max())
    return int(inside[0]), int(inside[-1]) + 1
