"""Boxes and gaze on an image as a heatmap over it, drawn outlines, and the image around a region.

Used for a reader's region and in training. A heatmap is float32 [H, W] in [0, 1] with a largest
value of 1, or 0 everywhere where nothing is marked. Places are fractions of the image's width and
height, so that a heatmap can be made at any size.

Source: eye gaze as in EGD-CXR (Karargyris et al., Scientific Data 2021): a Gaussian at every
fixation, about 5-6 % of the image's width; arXiv 2403.10153 for its use.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from encoders.base import CxrImage

Floats = NDArray[np.float32]
Rows = tuple[tuple[float, ...], ...]

GAZE_SIGMA = 0.055
"""Of a fixation, as a fraction of the image's width: 150 px at DICOM size."""

MIN_SIGMA = 0.02
"""Of a box, as a fraction of the image's side: a nodule's box is a few pixels."""

REGION_THRESHOLD = float(np.exp(-0.5))
"""A heatmap this high or higher is region: one standard deviation, where a box has its sides."""

CROP_MARGIN = 0.25
"""Of a region's longer side, left around it on each side."""


@dataclass(frozen=True, slots=True)
class Fixations:
    """Eye gaze.

    Attributes:
        points: (x, y, seconds) each; x and y are fractions of the image.
        sigma: of each Gaussian, as a fraction of the width.
        by_duration: weight a fixation by its length; else all count alike.
    """

    points: Rows
    sigma: float = GAZE_SIGMA
    by_duration: bool = True


@dataclass(frozen=True, slots=True)
class Boxes:
    """Rectangles (left, top, width, height), fractions of the image."""

    boxes: Rows


Annotation = Fixations | Boxes

Outline = tuple[tuple[float, float], ...]
"""Corners (x, y) of a drawn polygon, fractions of the image; a box has four."""


def box_outline(left: float, top: float, right: float, bottom: float) -> Outline:
    """A rectangle as an outline."""
    return ((left, top), (right, top), (right, bottom), (left, bottom))


def bounding_box(outline: Outline) -> tuple[float, float, float, float]:
    """(left, top, width, height) of the rectangle around an outline."""
    across, down = zip(*outline, strict=True)
    return min(across), min(down), max(across) - min(across), max(down) - min(down)


def fill_outlines(outlines: Sequence[Outline], *, side: int) -> NDArray[np.uint8]:
    """uint8 [side, side] over the whole image, 255 inside any of the outlines."""
    from PIL import Image, ImageDraw  # noqa: PLC0415 - everything else here needs numpy only

    canvas = Image.new("L", (side, side))
    for outline in outlines:
        corners = [(x * side, y * side) for x, y in outline]
        ImageDraw.Draw(canvas).polygon(corners, fill=255, outline=255)
    return np.array(canvas)


def render_heatmap(annotation: Annotation, *, height: int, width: int) -> Floats:
    """The heatmap of an annotation, float32 [height, width] in [0, 1].

    A fixation is a Gaussian, fixations add up; a box is one of half its width and height, and
    where boxes overlap the larger value counts.

    Raises:
        ValueError: a place, size or duration is not a finite number, or a size is not positive.
    """
    heat = np.zeros((height, width))
    if isinstance(annotation, Fixations):
        across = annotation.sigma
        down = across * width / height  # sigma is of the width: round on the image
        for x, y, seconds in annotation.points:
            _refuse_nonsense("fixation", (x, y, seconds), sizes=(seconds, across))
            weight = seconds if annotation.by_duration else 1.0
            heat += weight * _gaussian(heat.shape, centre=(x, y), sigma=(across, down))
    else:
        for left, top, wide, high in annotation.boxes:
            _refuse_nonsense("box", (left, top, wide, high), sizes=(wide, high))
            sigma = (max(wide / 2, MIN_SIGMA), max(high / 2, MIN_SIGMA))
            centre = (left + wide / 2, top + high / 2)
            heat = np.maximum(heat, _gaussian(heat.shape, centre=centre, sigma=sigma))
    # by the map's own maximum, never the batch's; nothing stays nothing
    return (heat / max(float(heat.max(initial=0)), 1e-6)).astype(np.float32)


def _gaussian(
    shape: tuple[int, ...], *, centre: tuple[float, float], sigma: tuple[float, float]
) -> NDArray[np.floating]:
    """exp(-d²/2) at the pixels' centres, [height, width]; all lengths are fractions of a side."""
    height, width = shape
    across = ((np.arange(width) + 0.5) / width - centre[0]) / sigma[0]
    down = ((np.arange(height) + 0.5) / height - centre[1]) / sigma[1]
    return np.asarray(np.exp(-0.5 * down**2)[:, None] * np.exp(-0.5 * across**2)[None])


def _refuse_nonsense(what: str, values: tuple[float, ...], *, sizes: tuple[float, ...]) -> None:
    if not np.isfinite(values).all() or min(sizes) <= 0:
        raise ValueError(f"{what} {values} must be finite, with sizes and seconds above 0")


def crop_to_region(image: CxrImage, heat: Floats) -> CxrImage:
    """The square around a heatmap's region, with a margin, as far as the image goes."""
    height, width = image.pixels.shape
    top, bottom = (end * height / heat.shape[0] for end in _ends(heat.max(1)))
    left, right = (end * width / heat.shape[1] for end in _ends(heat.max(0)))
    half = max(right - left, bottom - top) * (0.5 + CROP_MARGIN)
    column, row = (left + right) / 2, (top + bottom) / 2
    rows = slice(int(max(row - half, 0)), int(min(row + half, height)) + 1)
    columns = slice(int(max(column - half, 0)), int(min(column + half, width)) + 1)
    return replace(image, pixels=np.ascontiguousarray(image.pixels[rows, columns]))


def _ends(profile: Floats) -> tuple[int, int]:
    inside = np.flatnonzero(profile >= REGION_THRESHOLD * profile.max())
    return int(inside[0]), int(inside[-1]) + 1
