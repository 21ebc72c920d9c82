"""Plots expert images with the heatmaps of their annotations; needs matplotlib.

``python -m experiments.plot_heatmaps OUT.png --config FILE.toml`` shows the first expert images of
a training configuration, squashed to a square as in training, to check the coordinates before a
long run.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders.annotations import REGION_THRESHOLD, Annotation, render_heatmap
from encoders.image_io import read_image
from encoders.training.config import read_settings
from encoders.training.dataset import TrainingDataError
from encoders.training.sources.load import load_dataset, study_source

_HEATMAP_PIXELS = 240
_COLUMNS = 4
_EXTENT = (0, 1, 1, 0)
"""Axes are fractions of the image, from its upper left corner."""

Panel = tuple[str, NDArray[np.float32], Annotation]


def plot(panels: Sequence[Panel]) -> Any:
    """A figure of all panels: image, heatmap in orange, contour of the annotation in blue."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(2.4 * columns, 2.6 * rows), layout="constrained", dpi=100)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.set_axis_off()
    for (caption, image, annotation), axis in zip(panels, axes, strict=False):
        heat = render_heatmap(annotation, height=_HEATMAP_PIXELS, width=_HEATMAP_PIXELS)
        axis.imshow(image, cmap="gray", vmin=0, vmax=1, extent=_EXTENT, aspect="equal")
        axis.imshow(heat, cmap="Oranges", vmin=-0.5, vmax=1.2, alpha=0.55 * heat, extent=_EXTENT)
        centres = (np.arange(_HEATMAP_PIXELS) + 0.5) / _HEATMAP_PIXELS
        axis.contour(centres, centres, heat, levels=[REGION_THRESHOLD], colors="#5adcff")
        axis.set_title(caption, fontsize=9)
    return figure


def panels_of(config: Path, *, count: int) -> list[Panel]:
    """The first expert images of a training configuration.

    Raises:
        TrainingDataError: the data cannot be used or has no expert image.
    """
    dataset = load_dataset(study_source(read_settings(config).data))
    if not dataset.experts:
        raise TrainingDataError(f"{config} names no expert image; see [[data.experts]]")
    return [
        (image.path.stem[:32], read_image(image.path).pixels, image.annotation)
        for image in dataset.experts[:count]
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the plot; exit status 0, or 1 with a message."""
    parser = argparse.ArgumentParser(prog="python -m experiments.plot_heatmaps")
    parser.add_argument("out", type=Path, help="picture to write: PNG, SVG, PDF")
    parser.add_argument("--config", type=Path, required=True, help="training settings")
    parser.add_argument("--count", type=int, default=8, help="how many images")
    options = parser.parse_args(arguments)
    try:
        panels = panels_of(options.config, count=max(options.count, 1))
    except TrainingDataError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    options.out.parent.mkdir(parents=True, exist_ok=True)
    plot(panels).savefig(options.out)
    sys.stderr.write(f"{len(panels)} images in {options.out}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
