"""A picture of what experts marked and of the heatmaps made of it; needs matplotlib.

``python -m experiments.plot_heatmaps OUT.png``: each kind of annotation on a drawn image.
``python -m experiments.plot_heatmaps OUT.png --config FILE.toml``: the first expert images of your
own data, to see before a long run that the marks are where they should be.

An image is shown as training sees it: squashed to a square.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demo.phantom import PhantomFinding, draw_phantom
from encoders.annotations import Annotation, Boxes, Ellipses, Fixations, Mask, render
from encoders.training.dataset import TrainingDataError

_SIDE = 240
"""Of a heatmap in pixels."""

_COLUMNS = 4
_LINE = "#5adcff"
_UNIT = (0, 1, 1, 0)
"""Places are fractions of the image, from its upper left corner."""

Panel = tuple[str, NDArray[np.float32], Annotation]


def plot(panels: Sequence[Panel]) -> Any:
    """A figure of all panels: image, heatmap in orange, marks as blue lines."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(2.4 * columns, 2.6 * rows), layout="constrained", dpi=100)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.set_axis_off()
    for (caption, image, annotation), axis in zip(panels, axes, strict=False):
        heat = render(annotation, height=_SIDE, width=_SIDE)
        axis.imshow(image, cmap="gray", vmin=0, vmax=1, extent=_UNIT, aspect="equal")
        axis.imshow(heat, cmap="Oranges", vmin=-0.5, vmax=1.2, alpha=0.55 * heat, extent=_UNIT)
        _draw_marks(axis, annotation)
        axis.set_title(caption, fontsize=9)
    return figure


def _draw_marks(axis: Any, annotation: Annotation) -> None:
    from matplotlib.patches import Ellipse, Rectangle  # noqa: PLC0415

    line: Any = {"fill": False, "edgecolor": _LINE}
    match annotation:
        case Fixations():
            x, y, seconds = np.asarray(annotation.points).T
            sizes = 100 * seconds / seconds.max()
            axis.scatter(x, y, s=sizes, facecolors="none", edgecolors=_LINE)
        case Boxes():
            for left, top, width, height in annotation.boxes:
                axis.add_patch(Rectangle((left, top), width, height, **line))
        case Ellipses():
            for x, y, across, down in annotation.ellipses:
                axis.add_patch(Ellipse((x, y), 2 * across, 2 * down, **line))
        case Mask():
            marked = render(annotation, height=_SIDE, width=_SIDE)
            middles = (np.arange(_SIDE) + 0.5) / _SIDE
            axis.contour(middles, middles, marked, levels=[0.5], colors=_LINE)


def drawn_panels() -> list[Panel]:
    """Each kind of annotation on the phantom with a nodule in its right upper lobe."""
    image = draw_phantom(finding=PhantomFinding.RIGHT_UPPER_LOBE_NODULE, size=2 * _SIDE)
    path = ((0.7, 0.3, 0.2), (0.72, 0.5, 0.2), (0.5, 0.6, 0.3), (0.33, 0.55, 0.2))
    nodule = ((0.3, 0.34, 0.8), (0.32, 0.345, 0.6))
    across, down = np.meshgrid(np.linspace(0, 1, 120), np.linspace(0, 1, 120))
    drawn = (across - 0.31) ** 2 + (down - 0.343) ** 2 < 0.05**2 * (1 + 0.2 * np.sin(60 * down))
    return [
        ("fixations, by duration", image, Fixations((*path, *nodule))),
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the picture; 0 when it is written, 1 with a reason."""
    parser = argparse.ArgumentParser(prog="python -m experiments.plot_heatmaps")
    parser.add_argument("out", type=Path, help="picture to write: PNG, SVG, PDF")
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
    plot(panels).savefig(chosen.out)
    sys.stderr.write(f"{len(panels)} images in {chosen.out}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
