"""The training curves of a run as a picture: one panel for each number, with its running median."""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_log = logging.getLogger(__name__)

FILE = "curves.svg"
_COLUMNS = 3
_POINTS = 50
"""A series of at most so many values is drawn with points, a longer one with its median."""

Series = dict[str, list[tuple[int, float]]]


def write_curves(series: Series, folder: Path) -> None:
    """Draw metrics (step, value) by name as curves.svg; without matplotlib, say so and go on."""
    try:
        from matplotlib import rc_context  # noqa: PLC0415 - optional
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError:
        _log.info('no %s: it needs matplotlib (pip install "cxr-rag[plots]")', FILE)
        return
    if not series:
        return
    rows = -(-len(series) // _COLUMNS)
    with rc_context({"svg.hashsalt": "curves"}):  # the same numbers give the same bytes
        figure = Figure(figsize=(4 * _COLUMNS, 2.4 * rows), layout="constrained")
        panels = figure.subplots(rows, _COLUMNS, squeeze=False, sharex=True).flat
        for (name, points), panel in zip(series.items(), panels, strict=False):
            steps, values = np.asarray(points).T
            panel.set_title(name)
            if len(values) <= _POINTS:
                panel.plot(steps, values, "o-")
            else:
                panel.plot(steps, values, alpha=0.3)
                panel.plot(steps, _running_median(values), color="C0")
        for panel in panels:  # those that are left
            panel.set_axis_off()
        figure.savefig(folder / FILE, metadata={"Date": None})


def _running_median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over a twentieth of the values."""
    from scipy.ndimage import median_filter  # noqa: PLC0415 - at the end of a run only

    return np.asarray(median_filter(values, size=len(values) // 20 | 1, mode="nearest"))
