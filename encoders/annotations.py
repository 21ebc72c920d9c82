"""Boxes, ellipses, gaze and masks on an image, each as a heatmap over it.

Used for a reader's region and in training. A heatmap is float32 [H, W] in [0, 1] with a largest
value of 1, or 0 everywhere where nothing is marked. Places are fractions of the image's width and
height, so that a heatmap can be made at any size.

Source: eye gaze as in EGD-CXR (Karargyris et al., Scientific Data 2021): a Gaussian at every
fixation, about 5-6 % of the image's width; arXiv 2403.10153 for its use.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = tuple[tuple[float, ...], ...]

GAZE_SIGMA = 0.055
"""Of a fixation, as a fraction of the image's width: 150 px at DICOM size."""

LEAST_SIGMA = 0.02
"""Of a box or ellipse, as a fraction of the image's side: a nodule's box is a few pixels."""


@dataclass(frozen=True, slots=True)
class Fixations:
    """Eye gaze.

    Attributes:
        points: (x, y, seconds) each; x and y are fractions of the image. Of a fixation beside the
            image only the tail lies on it.
        sigma: of each Gaussian, as a fraction of the width.
        by_duration: weight a fixation by its length; else all count alike.
    """

    points: Rows
    sigma: float = GAZE_SIGMA
    by_duration: bool = True

    @property
    def on_image(self) -> bool:
        """Whether any fixation is: without one, a heatmap would be tails scaled up."""
        return any(0 <= x <= 1 and 0 <= y <= 1 for x, y, _ in self.points)


@dataclass(frozen=True, slots=True)
class Boxes:
    """Rectangles (left, top, width, height), fractions of the image."""

    boxes: Rows


@dataclass(frozen=True, slots=True)
class Ellipses:
    """Ellipses (centre x, centre y, half width, half height), fractions of the image."""

    ellipses: Rows


@dataclass(frozen=True, slots=True)
class Mask:
    """A drawn region of the whole image, bool or grey values [H, W] of any size."""

    pixels: NDArray[np.generic]


Outline = tuple[tuple[float, float], ...]
"""Corners (x, y) of a drawn polygon, fractions of the image; a box has four."""


def outline_of_box(left: float, top: float, right: float, bottom: float) -> Outline:
    """A rectangle as an outline."""
    return ((left, top), (right, top), (right, bottom), (left, bottom))


def bounding_box(outline: Outline) -> tuple[float, float, float, float]:
    """(left, top, width, height) of the rectangle around an outline."""
    across, down = zip(*outline, strict=True)
    return min(across), min(down), max(across) - min(across), max(down) - min(down)


def filled(outlines: Sequence[Outline], *, side: int) -> NDArray[np.uint8]:
    """uint8 [side, side] over the whole image, 255 inside any of the outlines."""
    from PIL import Image, ImageDraw  # noqa: PLC0415 - everything else here needs numpy only

    canvas = Image.new("L", (side, side))
    for outline in outlines:
        corners = [(x * side, y * side) for x, y in outline]
        ImageDraw.Draw(canvas).polygon(corners, fill=255, outline=255)
    return np.array(canvas)


Annotation = Fixations | Boxes | Ellipses | Mask


def render(annotation: Annotation, *, height: int, width: int) -> Floats:
    """The heatmap of an annotation, float32 [height, width] in [0, 1].

    Raises:
        ValueError: a place, size or duration is not a finite number, or a size is not positive.
    """
    heat: NDArray[np.floating]
    match annotation:
        case Fixations():
            heat = _gaze(annotation, height, width)
        case Boxes():
            ellipses = [(x + w / 2, y + h / 2, w / 2, h / 2) for x, y, w, h in annotation.boxes]
            heat = _regions(ellipses, height, width)
        case Ellipses():
            heat = _regions(annotation.ellipses, height, width)
        case Mask():
            heat = _resized(annotation.pixels, height, width)
    return as_share_of_peak(heat)


def as_share_of_peak(heat: NDArray[np.floating]) -> Floats:
    """Divide by the map's own maximum (never the batch's); nothing stays nothing."""
    return (heat / max(float(heat.max(initial=0)), 1e-6)).astype(np.float32)


def _gaze(gaze: Fixations, height: int, width: int) -> NDArray[np.floating]:
    heat = np.zeros((height, width))
    down = gaze.sigma * width / height  # sigma is of the width: round on the image
    for x, y, seconds in gaze.points:
        _refuse_nonsense("fixation", (x, y, seconds), sizes=(seconds, gaze.sigma))
        weight = seconds if gaze.by_duration else 1.0
        heat += weight * _gaussian(height, width, centre=(x, y), sigma=(gaze.sigma, down))
    return heat


def _regions(
    ellipses: Sequence[tuple[float, ...]], height: int, width: int
) -> NDArray[np.floating]:
    """The largest of the Gaussians at every pixel: an overlap does not count twice."""
    heat = np.zeros((height, width))
    for x, y, across, down in ellipses:
        _refuse_nonsense("region", (x, y, across, down), sizes=(across, down))
        sigma = (max(across, LEAST_SIGMA), max(down, LEAST_SIGMA))
        heat = np.maximum(heat, _gaussian(height, width, centre=(x, y), sigma=sigma))
    return heat


def _gaussian(
    height: int, width: int, *, centre: tuple[float, float], sigma: tuple[float, float]
) -> NDArray[np.floating]:
    """exp(-d²/2) at the pixels' centres, [height, width]; all lengths are fractions of a side."""
    across = ((np.arange(width) + 0.5) / width - centre[0]) / sigma[0]
    down = ((np.arange(height) + 0.5) / height - centre[1]) / sigma[1]
    return np.asarray(np.exp(-0.5 * down**2)[:, None] * np.exp(-0.5 * across**2)[None])


def _resized(pixels: NDArray[np.generic], height: int, width: int) -> NDArray[np.floating]:
    import torch  # noqa: PLC0415 - everything else here needs numpy only
    from torch.nn import functional  # noqa: PLC0415

    grey = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))[None, None]
    if not bool(torch.isfinite(grey).all()) or float(grey.min()) < 0:
        raise ValueError("a mask holds values that are negative or not finite")
    small = functional.interpolate(grey, (height, width), mode="bilinear", antialias=True)
    return np.asarray(small[0, 0].numpy())


def _refuse_nonsense(what: str, values: tuple[float, ...], *, sizes: tuple[float, ...]) -> None:
    if not np.isfinite(values).all() or min(sizes) <= 0:
        raise ValueError(f"{what} {values} must be finite, with sizes and seconds above 0")
