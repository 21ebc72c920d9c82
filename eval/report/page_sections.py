"""Data of the page's sections: tables, plots (drawn by templates/charts.html), confusions."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_high
from typing import Any, NamedTuple

from eval.results import Result
from eval.tables import measure_rows
from rag.report_nlp.labeller import LABELS

STATES = ("positive", "uncertain", "negative", "absent")
_RISK_PLOTS = ("BLEU-4", "ROUGE-L", "CIDEr-D", "micro F1-14 (u=1)", "unsupported-sentence rate")
"""Measures whose risk is plotted; the table has them all."""

_RUN_COLOURS, _BASELINE_COLOURS, _REFERENCE_COLOUR = (0, 5, 6), (1, 2, 3, 4, 7), 7
"""Classes s0 to s7 of the style sheet."""

_System = tuple[Result, str, int]
"""A column of a table: its result, name and colour."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A label and a range, treated as 1 wide if it is empty."""

    label: str
    low: float
    high: float

    def position(self, value: float) -> float:
        """Position of a value along the axis, in [0, 1] if it is in range."""
        return (value - self.low) / ((self.high - self.low) or 1.0)

    def ticks(self, count: int = 5) -> list[float]:
        """Round numbers within the range."""
        span = (self.high - self.low) or 1.0
        step = 10 ** math.floor(math.log10(span / count))
        step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= count)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [tick * step for tick in range(first, last + 1)]


class Line(NamedTuple):
    """A named line through points (x, y)."""

    name: str
    colour: int
    points: list[tuple[float, float]]


def _line(name: str, colour: int, xs: Sequence[float], ys: Sequence[float | None]) -> Line:
    return Line(name, colour, [(x, y) for x, y in zip(xs, ys, strict=True) if y is not None])


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines or bars over two axes.

    Attributes:
        bars: each with ``start``, ``end``, ``count``, ``colour`` and ``title``.
        diagonal: whether the line of chance is drawn.
        captions: sentences below the plot.
        legend: whether the lines are named below the plot.
    """

    title: str
    x: Axis
    y: Axis
    lines: Sequence[Line] = ()
    bars: Sequence[dict[str, Any]] = ()
    diagonal: bool = False
    captions: Sequence[str] = ()
    legend: bool = False


@dataclass(frozen=True, slots=True)
class SavedRun:
    """A result, with the lines of scores.jsonl and studies.jsonl (none for a page without text)."""

    result: Result
    scores: list[dict[str, Any]]
    studies: list[dict[str, Any]]


def generation_section(runs: Sequence[SavedRun]) -> dict[str, Any]:
    """Drafts of one or more runs on the same studies, beside the first run's baselines."""
    first = runs[0].result
    baselines = [(first, name) for name in first.systems() if name != first.name]
    return {
        **_section([run.result for run in runs], baselines),
        "title": "Drafts",
        "plots": [*_risk_plots(runs), *_length_plot(runs)],
        "risk": _risk_curves(runs),
        "confusions": [_confusions(run) for run in runs if run.studies],
    }


def task_section(result: Result) -> dict[str, Any]:
    """Any other task."""
    return _section([result], [(result, name) for name in result.systems()[1:]])


def _section(results: Sequence[Result], baselines: Sequence[tuple[Result, str]]) -> dict[str, Any]:
    first = results[0]
    systems = [(r, r.systems()[0], _run_colour(i)) for i, r in enumerate(results)]
    systems += [
        (result, name, _BASELINE_COLOURS[i % len(_BASELINE_COLOURS)])
        for i, (result, name) in enumerate(baselines)
    ]
    return {
        "title": first.task.replace("-", " "),
        "results": results,
        "legend": [(name, colour) for _, name, colour in systems],
        "tables": [_table(systems, subset) for subset in first.subsets()],
        "plots": [_task_plot(plot) for plot in first.curves.get("plots", [])],
        "risk": [],
        "confusions": [],
        "cards": first.cards,
        "not_available": first.not_available,
    }


def _run_colour(index: int) -> int:
    return _RUN_COLOURS[index % len(_RUN_COLOURS)]


def _table(systems: Sequence[_System], subset: str) -> dict[str, Any]:
    """Rows of a subset, grouped by metric, with a cell per system."""
    groups: list[dict[str, Any]] = []
    first = systems[0][0]
    titles = {name: card["title"] for card in first.cards for name in card["measures"]}
    columns = [(result, name) for result, name, _ in systems]
    for measure, name, counts, cells in measure_rows(columns, subset):
        title = titles.get(measure, "")
        if not groups or groups[-1]["title"] != title:
            groups.append({"title": title, "rows": []})
        values = [cell.partition(" ")[::2] for cell in cells]
        groups[-1]["rows"].append({"measure": name, "cells": values, "n": max(counts)})
    n = max((row["n"] for group in groups for row in group["rows"]), default=0)
    return {"subset": subset, "n": n, "groups": groups}


def _risk_curves(runs: Sequence[SavedRun]) -> list[dict[str, Any]]:
    return [
        {"run": run.result.name, "colour": _run_colour(i), **curve}
        for i, run in enumerate(runs)
        for curve in run.result.curves.get("risk_coverage", [])
    ]


def _risk_plots(runs: Sequence[SavedRun]) -> list[Plot]:
    plots = []
    for measure in _RISK_PLOTS:
        curves = [curve for curve in _risk_curves(runs) if curve["measure"] == measure]
        if not curves:
            continue
        lines = [_line(c["run"], c["colour"], c["coverage"], c["score"]) for c in curves]
        top = max(y for line in lines for _, y in line.points)
        captions = [
            f"{c['run']}: {c['score_all']:.3f} at all studies, {c['score_at']:.3f} "
            f"[{c['score_at_low']:.3f}, {c['score_at_high']:.3f}] at {c['at']:.0%} coverage"
            for c in curves
        ]
        x = Axis("share of studies kept, most confident first", 0, 1)
        y = Axis(measure, 0, top or 1)
        plots.append(Plot(f"Risk and coverage: {measure}", x, y, lines, captions=captions))
    return plots


def _length_plot(runs: Sequence[SavedRun]) -> list[Plot]:
    """Histogram of the words of drafts and references."""
    runs = [run for run in runs if run.studies]
    if not runs:
        return []
    groups = [
        (r.result.name, [len(s["draft"].split()) for s in r.studies if s["draft"]], _run_colour(i))
        for i, r in enumerate(runs)
    ]
    references = [len(study["reference"].split()) for study in runs[0].studies]
    groups.append(("references", references, _REFERENCE_COLOUR))
    longest = max(length for _, lengths, _ in groups for length in lengths)
    step = max(1, math.ceil(longest / 20))
    width = step / (len(groups) + 0.4)
    bars: list[dict[str, Any]] = [
        {
            "start": i * step + (0.2 + group) * width,
            "end": i * step + (1.12 + group) * width,
            "count": count,
            "colour": colour,
            "title": f"{name}: {count} with {i * step} to {(i + 1) * step - 1}",
        }
        for group, (name, lengths, colour) in enumerate(groups)
        for i, count in sorted(Counter(length // step for length in lengths).items())
    ]
    captions = [
        f"{name}: median {median_high(lengths)} words, n = {len(lengths)}"
        for name, lengths, _ in groups
        if lengths
    ]
    x = Axis("words of a report", 0, (longest // step + 1) * step)
    y = Axis("studies", 0, 1.05 * max(bar["count"] for bar in bars))
    return [Plot("Length of drafts and references", x, y, bars=bars, captions=captions)]


def _task_plot(plot: dict[str, Any]) -> Plot:
    """A plot from `Result.curves`."""
    lines = [_line(s["name"], i, s["x"], s["y"]) for i, s in enumerate(plot["series"])]
    x, y, diagonal = Axis(*plot["x"]), Axis(*plot["y"]), plot.get("diagonal", False)
    return Plot(plot["title"], x, y, lines, diagonal=diagonal, legend=True)


def _confusions(run: SavedRun) -> dict[str, Any]:
    """A matrix per label that is mentioned, the most frequent first."""
    matrices = []
    for label in LABELS:
        counts = Counter(
            tuple(study["labels"][side].get(label, "absent") for side in ("reference", "draft"))
            for study in run.studies
        )
        mentions = len(run.studies) - counts["absent", "absent"]
        if mentions:
            rows = [(state, [_cell(counts, state, draft) for draft in STATES]) for state in STATES]
            matrices.append((mentions, {"label": label, "rows": rows}))
    matrices.sort(key=lambda item: -item[0])
    return {
        "name": run.result.name,
        "n": len(run.studies),
        "states": STATES,
        "matrices": [matrix for _, matrix in matrices],
    }


def _cell(counts: Counter[tuple[str, ...]], reference: str, draft: str) -> dict[str, Any]:
    """A count with its share of the row; denying a finding and not mentioning it mean the same."""
    total = sum(counts[reference, state] for state in STATES)
    is_same = {reference, draft} <= {"negative", "absent"}
    return {
        "count": counts[reference, draft],
        "share": f"{counts[reference, draft] / (total or 1):.2f}",
        "css": "right" if reference == draft else "same" if is_same else "wrong",
        "title": f"reference {reference}, draft {draft}",
    }
