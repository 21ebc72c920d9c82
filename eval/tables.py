"""Numbers as Markdown and CSV: every cell with its interval, every row with its n."""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from typing import Any

from eval.metrics.base import KEYS, Direction, card, metric_class
from eval.results import MetricValue, Result
from eval.text import COCO_PTB


def as_markdown(result: Result) -> str:
    """Settings, one table per subset, and cards."""
    parts = [f"# {escape(result.name)}: {result.task}", _facts(result)]
    header = ["measure", "n", *map(escape, result.systems())]
    for subset in result.subsets():
        parts += [f"## {subset.capitalize()}", markdown_table(header, _rows(result, subset))]
    if risk := result.curves.get("risk_coverage"):
        parts += ["## Risk and coverage", _risk_table(risk)]
    if result.not_available:
        lines = [f"- {name}: not available: {why}" for name, why in result.not_available.items()]
        parts += ["## Not available", "\n".join(lines)]
    cards = [
        f"- **{card['title']}** ({', '.join(card['measures'])}). {card['formula']}. "
        f"Words: {card['words']}. Convention: {card['convention']}. Source: {card['source']}."
        for card in result.cards
    ]
    parts += ["## Cards", "\n".join(cards)]
    return "\n\n".join(parts) + "\n"


def _rows(result: Result, subset: str) -> list[list[str]]:
    """Measure, n, and a cell per system."""
    rows = []
    columns = [(result, system) for system in result.systems()]
    for _, name, counts, cells in measure_rows(columns, subset):
        n = "-".join(map(str, dict.fromkeys((min(counts), max(counts)))))
        rows.append([name, n, *cells])
    return rows


def measure_rows(
    columns: Sequence[tuple[Result, str]], subset: str
) -> Iterator[tuple[str, str, list[int], list[str]]]:
    """Measure, its name with an arrow, each n, and a cell per column (a result and a system)."""
    for measure in columns[0][0].measures():
        numbers = [r.number(system=s, subset=subset, measure=measure) for r, s in columns]
        present = [number for number in numbers if number]
        if present:
            name = measure + Direction(present[0].direction).arrow
            cells = [_format_interval(n.value, n.low, n.high) if n else "-" for n in numbers]
            yield measure, name, [number.n for number in present], cells


def _format_interval(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "-"
    digits = 1 if abs(value) >= 10 else 3
    if low is None or high is None:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _risk_table(curves: Iterable[dict[str, Any]]) -> str:
    rows = []
    for curve in curves:
        aurc, score_at = (
            _format_interval(curve[name], curve[f"{name}_low"], curve[f"{name}_high"])
            for name in ("aurc", "score_at")
        )
        random, score_all = f"{curve['aurc_random']:.3f}", f"{curve['score_all']:.3f}"
        rows.append([curve["measure"], aurc, random, score_all, score_at])
    coverage = next((f"{curve['at']:.0%}" for curve in curves), "")
    header = ["measure", "AURC ↓", "AURC at random", "at 100 % coverage", f"at {coverage} coverage"]
    return markdown_table(header, rows)


def all_cards() -> str:
    """Every metric's card with the default cleaning."""
    parts = []
    for key in KEYS:
        text = card(key, cleaning=str(COCO_PTB))
        rows = [
            [m.name, m.direction.value, f"{_format_bound(m.low)} to {_format_bound(m.high)}"]
            for m in metric_class(key).measures
        ]
        parts += [
            f"### {text['title']} (`{key}`)",
            markdown_table(["measure", "direction", "range"], rows),
            f"- Formula: {text['formula']}.\n- Words: {text['words']}.\n"
            f"- Convention: {text['convention']}.\n- Source: {text['source']}.",
        ]
    return "\n\n".join(parts)


def _format_bound(value: float) -> str:
    if math.isinf(value):
        return "unbounded"
    return f"{value:.2f}".rstrip("0").rstrip(".")


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in GitHub's Markdown."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def as_csv(result: Result) -> str:
    """Every number, one per row, unrounded."""
    out = io.StringIO()
    names = [field.name for field in fields(MetricValue)]
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    for number in result.numbers:
        writer.writerow({name: _escape_formula(value) for name, value in asdict(number).items()})
    return out.getvalue()


def _facts(result: Result) -> str:
    facts = {**result.settings, **{k: v for k, v in result.dataset.items() if v not in (None, "")}}
    listed = [f"{name}: {escape(str(_shorten(value)))}" for name, value in facts.items()]
    lines = [f"Made {result.created} by `{result.command}`.", "; ".join(listed) + "."]
    lines += [f"Note: {note}." for note in result.notes]
    return "\n\n".join(lines)


def _shorten(value: Any) -> Any:
    if isinstance(value, dict) and "sha256" in value:
        return f"{value['name']} ({value['sha256'][:12]})"
    if isinstance(value, str) and len(value) == 64:
        return value[:12]
    return value


def escape(text: str) -> str:
    """Text that cannot break a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def _escape_formula(value: Any) -> Any:
    """A value that a spreadsheet does not take for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(tuple("=+-@\t")) else value


def as_terminal(result: Result) -> str:
    """The tables in aligned columns, for a terminal; for drafts only that of all studies."""
    subsets = ["all"] if result.task == "generation" else result.subsets()
    lines = [line for subset in subsets for line in _align(result, subset)]
    lines += [f"{name}: not available: {why}" for name, why in result.not_available.items()]
    lines += [f"note: {note}" for note in result.notes]
    missing = result.dataset.get("missing_predictions") or {}
    lines += [f"no draft ({why}): {n} studies, scored as the worst" for why, n in missing.items()]
    return "\n".join(lines)


def _align(result: Result, subset: str) -> list[str]:
    rows = [[subset, "n", *result.systems()], *_rows(result, subset)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]
