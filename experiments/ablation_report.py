"""The table of arms: mean, 95 % interval over seeds, paired test against the baseline; a figure.

Owns the statistics over seeds and the two files, table.md and figure.svg. Knows measures by name
only.

The unit is the seed: intervals are Student's over seeds; an arm and the baseline are paired by seed
(two-sided paired t test, Holm over all arms and measures of the table). They say how sure the
difference is for these validation studies, not for other ones. A permutation test over five seeds
cannot fall below p = 0.06, hence t. Two seeds are shown and not tested: recalls come in steps, two
equal differences are common, and a t test would call them certain.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from experiments.ablation_measures import LOWER_IS_BETTER

SHOWN = (
    "R@1 image to text",
    "R@5 image to text",
    "R@10 image to text",
    "R@1 text to image",
    "R@5 text to image",
    "R@10 text to image",
    "zero-shot AUC",
    "probe AUC",
    "alignment",
    "uniformity",
    "modality gap",
)
FIGURE = ("R@10 image to text", "R@10 text to image", "zero-shot AUC", "probe AUC")

LEAST_TESTED = 3
"""Seeds that an arm must share with the baseline to be tested."""

Floats = NDArray[np.float64]


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
        for measure in SHOWN:
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
    tests = [
        (cell.p, arm, measure)
        for arm, measures in cells.items()
        for measure, cell in measures.items()
        if not np.isnan(cell.p)
    ]
    adjusted = holm([p for p, _, _ in tests])
    lookup = {(arm, measure): p for (_, arm, measure), p in zip(tests, adjusted, strict=True)}
    return {
        arm: {
            measure: Cell(
                cell.mean,
                cell.half,
                cell.n,
                cell.difference,
                cell.difference_half,
                cell.p,
                lookup.get((arm, measure), float("nan")),
            )
            for measure, cell in measures.items()
        }
        for arm, measures in cells.items()
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the given order."""
    order = np.argsort(p_values)
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, at in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = highest
    return adjusted


def write_report(rows: Sequence[Mapping[str, str]], *, baseline: str, folder: Path) -> None:
    """Write table.md and figure.svg."""
    cells = summarise(rows, baseline=baseline)
    (folder / "table.md").write_text(as_markdown(cells, baseline=baseline), encoding="utf-8")
    (folder / "figure.svg").write_text(as_svg(cells, baseline=baseline), encoding="utf-8")


def as_markdown(cells: Mapping[str, Mapping[str, Cell]], *, baseline: str) -> str:
    """One table of means with intervals, one of differences with p values."""
    arms = list(cells)
    head = "| measure |" + "".join(f" {arm} (n={cells[arm][SHOWN[0]].n}) |" for arm in arms)
    lines = [head, "|---|" + "---:|" * len(arms)]
    for measure in SHOWN:
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
    for measure in SHOWN:
        shown = (cells[arm][measure] for arm in others)
        lines.append(f"| {measure} |" + "".join(f" {_difference(cell)} |" for cell in shown))
    return "\n".join(lines) + "\n"


def _difference(cell: Cell) -> str:
    if np.isnan(cell.difference):
        return "one seed"
    tested = "" if np.isnan(cell.p) else f", p {cell.p_holm:.2f} ({cell.p:.3f})"
    return f"{cell.difference:+.3f} ± {cell.difference_half:.3f}{tested}"


_ROW, _PANEL, _LEFT, _TOP = 22, 210, 150, 40


def as_svg(cells: Mapping[str, Mapping[str, Cell]], *, baseline: str) -> str:
    """Dots with intervals, an arm a line, a measure a panel; the baseline's mean is dashed."""
    height = _TOP + _ROW * len(cells) + 40
    width = _LEFT + _PANEL * len(FIGURE)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for at, arm in enumerate(cells):
        y = _TOP + _ROW * at + _ROW / 2
        parts.append(
            f'<text x="8" y="{y + 4:.1f}">{escape(arm)} ({cells[arm][FIGURE[0]].n})</text>'
        )
    for column, measure in enumerate(FIGURE):
        parts += _panel(cells, measure, baseline=baseline, left=_LEFT + _PANEL * column)
    return "\n".join([*parts, "</svg>", ""])


def _panel(
    cells: Mapping[str, Mapping[str, Cell]], measure: str, *, baseline: str, left: float
) -> list[str]:
    column = {arm: measures[measure] for arm, measures in cells.items()}
    half = {arm: cell.half if cell.n >= LEAST_TESTED else 0.0 for arm, cell in column.items()}
    low = min(cell.mean - half[arm] for arm, cell in column.items())
    high = max(cell.mean + half[arm] for arm, cell in column.items())
    room, bottom = max(high - low, 1e-6), _TOP + _ROW * len(cells)

    def x(value: float) -> float:
        return left + 15 + (_PANEL - 40) * (value - low) / room

    parts = [f'<text x="{left + 15}" y="24" font-weight="bold">{escape(measure)}</text>']
    parts += [
        f'<text x="{x(value):.1f}" y="{bottom + 18}" text-anchor="middle" fill="#555">'
        f"{value:.3f}</text>"
        for value in (low, high)
    ]
    if baseline in column:
        at = x(column[baseline].mean)
        parts.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{bottom}" stroke="#999" '
            'stroke-dasharray="4 3"/>'
        )
    for row, (arm, cell) in enumerate(column.items()):
        y = _TOP + _ROW * row + _ROW / 2
        parts.append(
            f'<line x1="{x(cell.mean - half[arm]):.1f}" x2="{x(cell.mean + half[arm]):.1f}" '
            f'y1="{y}" y2="{y}" stroke="#1f5f8b" stroke-width="2"/>'
        )
        parts.append(f'<circle cx="{x(cell.mean):.1f}" cy="{y}" r="4" fill="#1f5f8b"/>')
    return parts
