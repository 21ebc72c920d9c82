"""A picture of what experts marked and of the heatmaps that become of it.

``python -m experiments.plot_heatmaps OUT.png``: each kind of annotation on a drawn image.
``python -m experiments.plot_heatmaps OUT.png --config FILE.toml``: the first expert images of your
own data, to see before a long run that the marks are where they should be.

Owns the drawing. An image is shown as training sees it: squashed to a square.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from demo.phantom import PhantomFinding, draw_phantom
from encoders.annotations import Annotation, Boxes, Ellipses, Fixations, Mask, render
from encoders.training.dataset import TrainingDataError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

SIDE = 240
"""Pixels of an image in the picture."""

_CAPTION, _GAP, _COLUMNS, _COLOURS = 20, 4, 4, 256
_GLOW = np.array([255.0, 120.0, 0.0])
_STRONGEST = 0.55
"""Share of the glow where a heatmap is 1: the image stays visible below."""

_LINE = (90, 220, 255)

Panel = tuple[str, NDArray[np.float32], Annotation]


def overlay(image: NDArray[np.float32], annotation: Annotation) -> "Image":
    """An image float32 [H, W] in [0, 1] with its heatmap and its marks, `SIDE` square."""
    from PIL import Image, ImageDraw  # noqa: PLC0415 - only who draws needs it

    grey = Image.fromarray((image * 255).round().astype(np.uint8))
    pixels = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64)
    share = _STRONGEST * render(annotation, height=SIDE, width=SIDE)[..., None]
    mixed = pixels[..., None] * (1 - share) + _GLOW * share
    picture = Image.fromarray(mixed.round().astype(np.uint8))
    _draw_marks(ImageDraw.Draw(picture), annotation)
    return picture


def picture_of(panels: Sequence[Panel]) -> "Image":
    """All panels with their captions, in rows of four; few colours, for a small file."""
    from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415

    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    size = (columns * (SIDE + _GAP) - _GAP, rows * (SIDE + _CAPTION))
    whole = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(13)
    for at, (caption, image, annotation) in enumerate(panels):
        left, top = at % columns * (SIDE + _GAP), at // columns * (SIDE + _CAPTION)
        whole.paste(overlay(image, annotation), (left, top))
        pen.text((left + 2, top + SIDE + 2), caption, fill="black", font=font)
    return whole.quantize(_COLOURS, dither=Image.Dither.NONE)


def drawn_panels() -> list[Panel]:
    """Each kind of annotation on the phantom with a nodule in its right upper lobe."""
    image = draw_phantom(finding=PhantomFinding.RIGHT_UPPER_LOBE_NODULE, size=2 * SIDE)
    looks = ((0.7, 0.3, 0.2), (0.72, 0.5, 0.2), (0.5, 0.6, 0.3), (0.33, 0.55, 0.2))
    nodule = ((0.3, 0.34, 0.8), (0.32, 0.345, 0.6))
    across, down = np.meshgrid(np.linspace(0, 1, 120), np.linspace(0, 1, 120))
    drawn = (across - 0.31) ** 2 + (down - 0.343) ** 2 < 0.05**2 * (1 + 0.2 * np.sin(60 * down))
    return [
        ("fixations, by duration", image, Fixations((*looks, *nodule))),
        ("boxes", image, Boxes(((0.25, 0.285, 0.11, 0.11), (0.4, 0.45, 0.3, 0.25)))),
        ("ellipses", image, Ellipses(((0.31, 0.343, 0.05, 0.045), (0.55, 0.58, 0.16, 0.11)))),
        ("mask", image, Mask(drawn)),
    ]


def panels_of(config: Path, *, cache: Path, count: int) -> list[Panel]:
    """The first expert images that a training configuration names.

    Raises:
        TrainingDataError: the data cannot be used or has no expert image.
    """
    from encoders.images.image_io import read_image  # noqa: PLC0415
    from encoders.training.config import read_settings  # noqa: PLC0415
    from encoders.training.sources.load import load_collection, source_of  # noqa: PLC0415

    collection = load_collection(source_of(read_settings(config)), cache=cache)
    if not collection.experts:
        raise TrainingDataError(f"{config} names no expert image; see [[data.experts]]")
    return [
        (image.image.stem[:32], read_image(image.image).pixels, image.annotation)
        for image in collection.experts[:count]
    ]


def _draw_marks(pen: "ImageDraw", annotation: Annotation) -> None:
    match annotation:
        case Fixations():
            longest = max((seconds for *_, seconds in annotation.points), default=1)
            for x, y, seconds in annotation.points:
                radius = 2 + 5 * (seconds / longest) ** 0.5
                pen.ellipse(_corners(x, y, radius / SIDE, radius / SIDE), outline=_LINE)
        case Boxes():
            for left, top, width, height in annotation.boxes:
                pen.rectangle(
                    _corners(left + width / 2, top + height / 2, width / 2, height / 2),
                    outline=_LINE,
                )
        case Ellipses():
            for ellipse in annotation.ellipses:
                pen.ellipse(_corners(*ellipse), outline=_LINE)
        case Mask():
            marked = render(annotation, height=SIDE, width=SIDE) > 0.5
            inside = marked.copy()
            for axis in (0, 1):
                inside &= np.roll(marked, 1, axis) & np.roll(marked, -1, axis)
            pen.point([(x, y) for y, x in np.argwhere(marked & ~inside).tolist()], fill=_LINE)


def _corners(x: float, y: float, across: float, down: float) -> tuple[float, float, float, float]:
    """Pixels of a mark's bounding box."""
    return (x - across) * SIDE, (y - down) * SIDE, (x + across) * SIDE, (y + down) * SIDE


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the picture; 0 when it is written, 1 with a reason."""
    parser = argparse.ArgumentParser(prog="python -m experiments.plot_heatmaps")
    parser.add_argument("out", type=Path, help="PNG to write")
    parser.add_argument("--config", type=Path, help="training settings, to see their expert images")
    parser.add_argument("--cache", type=Path, help="for shards; beside the picture if left out")
    parser.add_argument("--count", type=int, default=8, help="images of --config")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.config is None:
            panels = drawn_panels()
        else:
            cache = chosen.cache or chosen.out.parent / "cache"
            panels = panels_of(chosen.config, cache=cache, count=max(chosen.count, 1))
    except TrainingDataError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    picture_of(panels).save(chosen.out, "PNG", optimize=True)
    sys.stderr.write(f"{len(panels)} images in {chosen.out}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
