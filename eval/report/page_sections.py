"""Sections of the page: tables with strips of intervals, plots, confusion matrices."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from eval.report.charts import Axis, Series, histogram, line_chart, strip
from eval.report.tables import cell
from eval.results import MetricValue, Result, SavedRun
from rag.report_nlp.labeller import LABELS

STATES = ("positive", "uncertain", "negative", "absent")
_DRAWN = ("BLEU-4", "ROUGE-L", "CIDEr-D", "micro F1-14 (u=1)", "unsupported-sentence rate")
"""Measures whose risk is drawn; the table has them all."""

_OF_RUNS, _OF_OTHERS = (0, 5, 6), (1, 2, 3, 4, 7)
"""Numbers of the style sheet's colours: strong ones for runs, the others for what stands beside."""


def generation_section(runs: Sequence[SavedRun]) -> dict[str, Any]:
    """Drafts of one run or several on the same studies, beside the first run's baselines."""
    first = runs[0].result
    baselines = [(first, name) for name in first.systems() if name != first.name]
    return {
        **_section([run.result for run in runs], beside=baselines),
        "title": "Drafts",
        "plots": [*_risk_plots(runs), *_length_plot(runs)],
        "risk": _risk_rows(runs),
        "confusions": [_confusions(run) for run in runs if run.studies],
    }


def task_section(result: Result) -> dict[str, Any]:
    """Any other task: its tables, and the plots it described."""
    return _section([result], beside=[(result, name) for name in result.systems()[1:]])


def _section(results: Sequence[Result], beside: Sequence[tuple[Result, str]]) -> dict[str, Any]:
    first, runs = results[0], len(results)
    systems = [(result, result.systems()[0]) for result in results] + list(beside)
    return {
        "title": first.task.replace("-", " "),
        "results": results,
        "legend": _legend(systems, runs),
        "tables": [_table(systems, subset, runs) for subset in first.subsets()],
        "plots": [_plot(plot) for plot in first.curves.get("plots", [])],
        "risk": [],
        "confusions": [],
        "cards": first.cards,
        "not_available": first.not_available,
    }


def _run_colour(at: int) -> int:
    return _OF_RUNS[at % len(_OF_RUNS)]


def _colour(at: int, runs: int) -> int:
    """Colour of a system: the first are runs."""
    return _run_colour(at) if at < runs else _OF_OTHERS[(at - runs) % len(_OF_OTHERS)]


def _legend(systems: Sequence[tuple[Result, str]], runs: int) -> list[tuple[str, int]]:
    return [(name, _colour(at, runs)) for at, (_, name) in enumerate(systems)]


def _table(systems: Sequence[tuple[Result, str]], subset: str, runs: int) -> dict[str, Any]:
    """Rows of a subset, grouped by metric: a name, a strip of intervals, a cell a system."""
    groups: list[dict[str, Any]] = []
    card_of = {name: card for card in systems[0][0].cards for name in card["measures"]}
    for measure in systems[0][0].measures():
        numbers = [r.number(system=s, subset=subset, measure=measure) for r, s in systems]
        known = next((number for number in numbers if number), None)
        if known is None:
            continue
        title = card_of.get(measure, {}).get("title", "")
        if not groups or groups[-1]["title"] != title:
            groups.append({"title": title, "rows": []})
        groups[-1]["rows"].append(
            {
                "measure": measure,
                "direction": known.direction,
                "strip": Markup(_strip(systems, numbers, runs)),  # noqa: S704 - escaped in charts
                "cells": [_split(number) for number in numbers],
                "n": max(number.n for number in numbers if number),
            }
        )
    n = max(row["n"] for group in groups for row in group["rows"]) if groups else 0
    return {"subset": subset, "n": n, "systems": _legend(systems, runs), "groups": groups}


def _strip(
    systems: Sequence[tuple[Result, str]], numbers: Sequence[MetricValue | None], runs: int
) -> str:
    marks = []
    for at, ((_, name), n) in enumerate(zip(systems, numbers, strict=True)):
        if n is not None and n.value is not None:
            low = n.value if n.low is None else n.low
            high = n.value if n.high is None else n.high
            marks.append((name, n.value, low, high, _colour(at, runs)))
    if not marks:
        return ""
    low, high = min(0.0, *(mark[2] for mark in marks)), max(0.0, *(mark[3] for mark in marks))
    return strip(marks, low=low, high=high if high > low else low + 1)


def _split(number: MetricValue | None) -> dict[str, Any]:
    value, _, interval = cell(number).partition(" ")
    return {"value": value, "interval": interval, "n": number.n if number else 0}


def _risk_curves(runs: Sequence[SavedRun]) -> list[tuple[str, int, dict[str, Any]]]:
    """Every curve of every run: the run's name, its colour, the curve."""
    return [
        (run.result.name, _run_colour(at), curve)
        for at, run in enumerate(runs)
        for curve in run.result.curves.get("risk_coverage", [])
    ]


def _risk_plots(runs: Sequence[SavedRun]) -> list[dict[str, Any]]:
    plots = []
    for measure in _DRAWN:
        curves = [found for found in _risk_curves(runs) if found[2]["measure"] == measure]
        if not curves:
            continue
        series = [Series(name, c["coverage"], c["score"], colour) for name, colour, c in curves]
        top = max(y for line in series for y in line.y if y is not None)
        chart = line_chart(
            f"risk and coverage: {measure}",
            series,
            x=Axis("share of studies kept, most confident first", 0, 1),
            y=Axis(measure, 0, top or 1),
        )
        words = [
            f"{name}: {c['score_all']:.3f} at all studies, {c['score_at']:.3f} "
            f"[{c['score_at_low']:.3f}, {c['score_at_high']:.3f}] at {c['at']:.0%} coverage"
            for name, _, c in curves
        ]
        plots.append(_figure(f"Risk and coverage: {measure}", chart, words))
    return plots


def _risk_rows(runs: Sequence[SavedRun]) -> list[dict[str, Any]]:
    """The risk table: AURC beside that of no knowledge, the score of all and at the coverage."""
    return [{"run": name, "colour": colour} | curve for name, colour, curve in _risk_curves(runs)]


def _length_plot(runs: Sequence[SavedRun]) -> list[dict[str, Any]]:
    having = [run for run in runs if run.studies]
    if not having:
        return []
    drafts = [
        (r.result.name, [len(s["draft"].split()) for s in r.studies if s["draft"]], _run_colour(at))
        for at, r in enumerate(having)
    ]
    references = [len(study["reference"].split()) for study in having[0].studies]
    groups = [*drafts, ("references", references, 7)]
    words = [
        f"{name}: median {sorted(values)[len(values) // 2]} words, n = {len(values)}"
        for name, values, _ in groups
        if values
    ]
    chart = histogram("report length", groups, label="words of a report")
    return [_figure("Length of drafts and references", chart, words)]


def _plot(plot: dict[str, Any]) -> dict[str, Any]:
    """A plot that a task described as plain JSON."""
    series = [
        Series(line["name"], line["x"], line["y"], colour)
        for colour, line in enumerate(plot["series"])
    ]
    chart = line_chart(
        plot["title"],
        series,
        x=Axis(*plot["x"]),
        y=Axis(*plot["y"]),
        diagonal=plot.get("diagonal", False),
    )
    return _figure(plot["title"], chart, plot.get("words", []), [line.name for line in series])


def _figure(
    title: str, chart: str, words: Sequence[str], legend: Sequence[str] = ()
) -> dict[str, Any]:
    svg = Markup(chart)  # noqa: S704 - charts escape every text
    return {"title": title, "svg": svg, "words": words, "legend": list(enumerate(legend))}


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
