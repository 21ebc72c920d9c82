"""The table of arms: mean, 95 % interval over seeds, paired test against the baseline; a figure.

Owns the statistics over seeds and the two files, table.md and figure.svg.

The unit is the seed: intervals are Student's over seeds; an arm and the baseline are paired by seed
(two-sided paired t test, Holm over all arms and measures of the table). They say how sure the
difference is for these validation studies, not for other ones. A permutation test over five seeds
cannot fall below p = 0.06, hence t. Two seeds are shown and not tested: recalls come in steps, two
equal differences are common, and a t test would call them certain.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from eval.stats import holm
from experiments.ablation_scores import LOWER_IS_BETTER, MEASURES

_log = logging.getLogger(__name__)

FIGURE = ("R@10 image to text", "R@10 text to image", "zero-shot AUC", "probe AUC, 100%")

LEAST_TESTED = 3
"""Seeds that an arm must share with the baseline to be tested."""

Floats = NDArray[np.float64]
Table = Mapping[str, Mapping[str, "Cell"]]
"""Cells by arm and measure."""


@dataclass(frozen=True, slots=True)
class Cell:
    """An arm's measure: mean and half width of its interval (NaN for one seed), n seeds.

    ``difference`` to the baseline over the shared seeds with its half width, and the p value
    before and after Holm; NaN for the baseline and for fewer than two shared seeds, the p values
    also for fewer than `LEAST_TESTED` and where all differences are equal.
    """

    mean: float
    half: float
    n: int
    difference: float = float("nan")
    difference_half: float = float("nan")
    p: float = float("nan")
    p_holm: float = float("nan")


def summarise(rows: Sequence[Mapping[str, str]], *, baseline: str) -> dict[str, dict[str, Cell]]:
    """Cells by arm and measure, from the lines of finished runs."""
    values: dict[str, dict[str, dict[int, float]]] = {}
    for row in rows:
        for measure in MEASURES:
            seeds = values.setdefault(row["arm"], {}).setdefault(measure, {})
            seeds[int(row["seed"])] = float(row[measure])
    cells = {
        arm: {
            measure: _cell(
                seeds, None if arm == baseline else values.get(baseline, {}).get(measure)
            )
            for measure, seeds in measures.items()
        }
        for arm, measures in values.items()
    }
    return _with_holm(cells)


def _cell(seeds: dict[int, float], base: dict[int, float] | None) -> Cell:
    own = np.asarray(list(seeds.values()))
    shared = sorted(seeds.keys() & (base or {}).keys())
    if base is None or len(shared) < 2:
        return Cell(float(own.mean()), _half_width(own), len(own))
    apart = np.asarray([seeds[seed] - base[seed] for seed in shared])
    testable = len(shared) >= LEAST_TESTED and np.ptp(apart) > 0
    p = float(stats.ttest_1samp(apart, 0).pvalue) if testable else float("nan")
    return Cell(
        float(own.mean()),
        _half_width(own),
        len(own),
        float(apart.mean()),
        _half_width(apart),
        p,
    )


def _half_width(values: Floats) -> float:
    if len(values) < 2:
        return float("nan")
    spread = values.std(ddof=1) / np.sqrt(len(values))
    return float(stats.t.ppf(0.975, len(values) - 1) * spread)


def _with_holm(cells: dict[str, dict[str, Cell]]) -> dict[str, dict[str, Cell]]:
    adjusted = iter(holm([cell.p for row in cells.values() for cell in row.values()]))
    return {
        arm: {measure: replace(cell, p_holm=next(adjusted)) for measure, cell in row.items()}
        for arm, row in cells.items()
    }


def write_report(rows: Sequence[Mapping[str, str]], *, baseline: str, folder: Path) -> None:
    """Write table.md, and figure.svg where matplotlib is installed."""
    cells = summarise(rows, baseline=baseline)
    (folder / "table.md").write_text(as_markdown(cells, baseline=baseline), encoding="utf-8")
    plot(cells, baseline=baseline, path=folder / "figure.svg")


def as_markdown(cells: Table, *, baseline: str) -> str:
    """One table of means with intervals, one of differences with p values."""
    arms = list(cells)
    head = "| measure |" + "".join(f" {arm} (n={cells[arm][FIGURE[0]].n}) |" for arm in arms)
    lines = [head, "|---|" + "---:|" * len(arms)]
    for measure in MEASURES:
        better = "lower" if measure in LOWER_IS_BETTER else "higher"
        shown = (cells[arm][measure] for arm in arms)
        lines.append(
            f"| {measure} ({better}) |" + "".join(f" {c.mean:.3f} ± {c.half:.3f} |" for c in shown)
        )
    others = [arm for arm in arms if arm != baseline]
    lines += ["", f"MetricDifference to {baseline}, paired by seed; p is Holm's (before Holm)", ""]
    lines += [
        "| measure |" + "".join(f" {arm} |" for arm in others),
        "|---|" + "---:|" * len(others),
    ]
    for measure in MEASURES:
        shown = (cells[arm][measure] for arm in others)
        lines.append(f"| {measure} |" + "".join(f" {_difference(cell)} |" for cell in shown))
    return "\n".join(lines) + "\n"


def _difference(cell: Cell) -> str:
    if np.isnan(cell.difference):
        return "one seed"
    tested = "" if np.isnan(cell.p) else f", p {cell.p_holm:.2f} ({cell.p:.3f})"
    return f"{cell.difference:+.3f} ± {cell.difference_half:.3f}{tested}"


def plot(cells: Table, *, baseline: str, path: Path) -> None:
    """Dots with intervals, an arm a line, a measure a panel; the baseline's mean is dashed."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - optional
    except ImportError:
        _log.info('no %s: it needs matplotlib (pip install "cxr-rag[plots]")', path.name)
        return
    arms = list(cells)
    size = (3 * len(FIGURE), 0.4 * len(arms) + 1)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(FIGURE), sharey=True)
    for panel, measure in zip(panels, FIGURE, strict=True):
        row = [cells[arm][measure] for arm in arms]
        half = [cell.half if cell.n >= LEAST_TESTED else 0.0 for cell in row]
        panel.errorbar([cell.mean for cell in row], range(len(arms)), xerr=half, fmt="o")
        panel.set_title(measure)
        if baseline in cells:
            panel.axvline(cells[baseline][measure].mean, color="gray", linestyle="--")
    panels[0].set_yticks(range(len(arms)), [f"{arm} ({cells[arm][FIGURE[0]].n})" for arm in arms])
    panels[0].invert_yaxis()
    figure.savefig(path)
