"""Sections of the page: tables, plots, confusion matrices.

templates/charts.html draws the plots.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_high
from typing import Any, NamedTuple

from eval.metrics.base import Direction
from eval.report.tables import cell
from eval.results import Result
from rag.report_nlp.labeller import LABELS

STATES = ("positive", "uncertain", "negative", "absent")
_DRAWN = ("BLEU-4", "ROUGE-L", "CIDEr-D", "micro F1-14 (u=1)", "unsupported-sentence rate")
"""Measures whose risk is drawn; the table has them all."""

_OF_RUNS, _OF_OTHERS = (0, 5, 6), (1, 2, 3, 4, 7)
"""Numbers of the style sheet's colours: strong ones for runs, the others for what stands beside."""

_System = tuple[Result, str, int]
"""A column of a table: where its numbers are, its name, its colour."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A label and a range; with ``low`` and ``high`` equal it is widened."""

    label: str
    low: float
    high: float

    def at(self, value: float) -> float:
        """Place of a value along the axis, in [0, 1] if it is within."""
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
    """A line's name, the number of its colour, and its points [x, y]."""

    name: str
    colour: int
    points: list[tuple[float, float]]


def _line(name: str, colour: int, x: Sequence[float], y: Sequence[float | None]) -> Line:
    return Line(name, colour, [(a, b) for a, b in zip(x, y, strict=True) if b is not None])


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines or bars over two axes.

    Attributes:
        bars: each with ``start``, ``end``, ``count``, ``colour`` and ``title``.
        diagonal: whether chance is drawn.
        words: sentences below.
        legend: whether the lines are named below.
    """

    title: str
    x: Axis
    y: Axis
    lines: Sequence[Line] = ()
    bars: Sequence[dict[str, Any]] = ()
    diagonal: bool = False
    words: Sequence[str] = ()
    legend: bool = False


@dataclass(frozen=True, slots=True)
class SavedRun:
    """A result, the scores of each study, and their texts (empty where they are not wanted)."""

    result: Result
    scores: list[dict[str, Any]]
    studies: list[dict[str, Any]]


def generation_section(runs: Sequence[SavedRun]) -> dict[str, Any]:
    """Drafts of one run or several on the same studies, beside the first run's baselines."""
    first = runs[0].result
    baselines = [(first, name) for name in first.systems() if name != first.name]
    return {
        **_section([run.result for run in runs], beside=baselines),
        "title": "Drafts",
        "plots": [*_risk_plots(runs), *_length_plot(runs)],
        "risk": _risk_curves(runs),
        "confusions": [_confusions(run) for run in runs if run.studies],
    }


def task_section(result: Result) -> dict[str, Any]:
    """Any other task: its tables, and the plots it described."""
    return _section([result], beside=[(result, name) for name in result.systems()[1:]])


def _section(results: Sequence[Result], beside: Sequence[tuple[Result, str]]) -> dict[str, Any]:
    first = results[0]
    systems = [(r, r.systems()[0], _run_colour(at)) for at, r in enumerate(results)]
    systems += [(r, s, _OF_OTHERS[at % len(_OF_OTHERS)]) for at, (r, s) in enumerate(beside)]
    return {
        "title": first.task.replace("-", " "),
        "results": results,
        "legend": [(name, colour) for _, name, colour in systems],
        "tables": [_table(systems, subset) for subset in first.subsets()],
        "plots": [_plot(plot) for plot in first.curves.get("plots", [])],
        "risk": [],
        "confusions": [],
        "cards": first.cards,
        "not_available": first.not_available,
    }


def _run_colour(at: int) -> int:
    return _OF_RUNS[at % len(_OF_RUNS)]


def _table(systems: Sequence[_System], subset: str) -> dict[str, Any]:
    """Rows of a subset, grouped by metric: a name, and a cell a system."""
    groups: list[dict[str, Any]] = []
    card_of = {name: card for card in systems[0][0].cards for name in card["measures"]}
    for measure in systems[0][0].measures():
        numbers = [r.number(system=s, subset=subset, measure=measure) for r, s, _ in systems]
        known = [number for number in numbers if number]
        if not known:
            continue
        title = card_of.get(measure, {}).get("title", "")
        if not groups or groups[-1]["title"] != title:
            groups.append({"title": title, "rows": []})
        groups[-1]["rows"].append(
            {
                "measure": measure + Direction(known[0].direction).arrow,
                "cells": [cell(number).partition(" ")[::2] for number in numbers],
                "n": max(number.n for number in known),
            }
        )
    n = max((row["n"] for group in groups for row in group["rows"]), default=0)
    return {"subset": subset, "n": n, "groups": groups}


def _risk_curves(runs: Sequence[SavedRun]) -> list[dict[str, Any]]:
    """Every curve of every run, with the run's name and its colour."""
    return [
        {"run": run.result.name, "colour": _run_colour(at), **curve}
        for at, run in enumerate(runs)
        for curve in run.result.curves.get("risk_coverage", [])
    ]


def _risk_plots(runs: Sequence[SavedRun]) -> list[Plot]:
    plots = []
    for measure in _DRAWN:
        curves = [found for found in _risk_curves(runs) if found["measure"] == measure]
        if not curves:
            continue
        lines = [_line(c["run"], c["colour"], c["coverage"], c["score"]) for c in curves]
        top = max(y for line in lines for _, y in line.points)
        words = [
            f"{c['run']}: {c['score_all']:.3f} at all studies, {c['score_at']:.3f} "
            f"[{c['score_at_low']:.3f}, {c['score_at_high']:.3f}] at {c['at']:.0%} coverage"
            for c in curves
        ]
        x = Axis("share of studies kept, most confident first", 0, 1)
        y = Axis(measure, 0, top or 1)
        plots.append(Plot(f"Risk and coverage: {measure}", x, y, lines, words=words))
    return plots


def _length_plot(runs: Sequence[SavedRun]) -> list[Plot]:
    """Words of drafts and references over the same bins, side by side."""
    having = [run for run in runs if run.studies]
    if not having:
        return []
    groups = [
        (r.result.name, [len(s["draft"].split()) for s in r.studies if s["draft"]], _run_colour(at))
        for at, r in enumerate(having)
    ]
    groups.append(("references", [len(s["reference"].split()) for s in having[0].studies], 7))
    top = max(value for _, values, _ in groups for value in values)
    step = max(1, math.ceil(top / 20))
    width = step / (len(groups) + 0.4)
    bars: list[dict[str, Any]] = [
        {
            "start": at * step + (0.2 + place) * width,
            "end": at * step + (1.12 + place) * width,
            "count": count,
            "colour": colour,
            "title": f"{name}: {count} with {at * step} to {(at + 1) * step - 1}",
        }
        for place, (name, values, colour) in enumerate(groups)
        for at, count in sorted(Counter(value // step for value in values).items())
    ]
    words = [
        f"{name}: median {median_high(values)} words, n = {len(values)}"
        for name, values, _ in groups
        if values
    ]
    x = Axis("words of a report", 0, (top // step + 1) * step)
    y = Axis("studies", 0, 1.05 * max(bar["count"] for bar in bars))
    return [Plot("Length of drafts and references", x, y, bars=bars, words=words)]


def _plot(plot: dict[str, Any]) -> Plot:
    """A plot that a task described as plain JSON."""
    lines = [_line(s["name"], at, s["x"], s["y"]) for at, s in enumerate(plot["series"])]
    x, y, chance = Axis(*plot["x"]), Axis(*plot["y"]), plot.get("diagonal", False)
    return Plot(plot["title"], x, y, lines, diagonal=chance, legend=True)


def _confusions(run: SavedRun) -> dict[str, Any]:
    """A matrix per label, the most frequent first; labels that nobody names are left out."""
    matrices = []
    for label in LABELS:
        counts = Counter(
            tuple(study["labels"][side].get(label, "absent") for side in ("reference", "draft"))
            for study in run.studies
        )
        named = len(run.studies) - counts["absent", "absent"]
        if named:
            rows = [(state, [_cell(counts, state, said) for said in STATES]) for state in STATES]
            matrices.append((named, {"label": label, "rows": rows}))
    matrices.sort(key=lambda item: -item[0])
    return {
        "name": run.result.name,
        "n": len(run.studies),
        "states": STATES,
        "matrices": [matrix for _, matrix in matrices],
    }


def _cell(counts: Counter[tuple[str, ...]], reference: str, draft: str) -> dict[str, Any]:
    """A count with its share of the row; denied and not mentioned differ in words only."""
    total = sum(counts[reference, said] for said in STATES)
    alike = {reference, draft} <= {"negative", "absent"}
    return {
        "count": counts[reference, draft],
        "share": f"{counts[reference, draft] / (total or 1):.2f}",
        "css": "right" if reference == draft else "same" if alike else "wrong",
        "title": f"reference {reference}, draft {draft}",
    }
