"""Labels the texts of a file, and measures the labeller on texts with known labels."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from eval.errors import EvalDataError
from eval.io.entries import Entry, FieldError, T, parse_entries
from eval.metrics.findings import rules_id
from eval.report.tables import markdown_table
from rag.report_nlp.assertion import Polarity
from rag.report_nlp.labeller import LABELS, label_text

STATES = (*(polarity.value for polarity in Polarity), "absent")
"""What a label can be in a text."""


def label_file(path: Path) -> Iterator[str]:
    """One JSON line for each line of a JSONL file with ``text``: ``{"labels": {...}}``.

    Raises:
        EvalUsageError: no such file.
        EvalDataError: names every line that is wrong, before the first label is printed.
    """
    for labels in _parse(path, lambda entry: _labels(entry.values)):
        yield json.dumps({"labels": labels}, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labels of a text by a person and by the labeller."""

    split: str
    category: str
    truth: dict[str, str]
    found: dict[str, str]


def read_labelled(path: Path) -> list[Labelled]:
    """Texts with their known labels: JSONL with ``text``, ``labels``, ``split``, ``category``.

    Raises:
        EvalDataError: names every line that is wrong.
    """
    return _parse(path, _labelled)


def accuracy_report(rows: Sequence[Labelled]) -> str:
    """Accuracy and confusion of the labeller, as Markdown, a part for each split."""
    parts = [f"Labeller {rules_id()}, {len(rows)} texts; 95 % Wilson intervals."]
    for split in sorted({row.split for row in rows}):
        part = [row for row in rows if row.split == split]
        title = f"### {split or 'all'}: {len(part)} texts"
        parts += [title, _shares(part), _confusion(part), _per_label(part), _per_category(part)]
    return "\n\n".join(parts)


def _shares(rows: Sequence[Labelled]) -> str:
    """Texts that are right as a whole, and precision and recall of each state over all labels."""
    right = sum(row.truth == row.found for row in rows)
    table = [["texts with every label right", _share(right, len(rows))]]
    for state in STATES[:-1]:
        hits, false, missed = _counts(rows, LABELS, state)
        table.append([f"precision of {state}", _share(hits, hits + false)])
        table.append([f"recall of {state}", _share(hits, hits + missed)])
    return markdown_table(["share ↑", "value [95 %]"], table)


def _confusion(rows: Sequence[Labelled]) -> str:
    """All 14 labels pooled: rows are the truth, columns what the labeller said."""
    counts = {(truth, found): 0 for truth in STATES for found in STATES}
    for row in rows:
        for label in LABELS:
            counts[row.truth.get(label, "absent"), row.found.get(label, "absent")] += 1
    table = [[f"**{truth}**", *(str(counts[truth, found]) for found in STATES)] for truth in STATES]
    return markdown_table(["truth, then labeller →", *STATES], table)


def _per_label(rows: Sequence[Labelled]) -> str:
    table = [
        [label, *(" / ".join(map(str, _counts(rows, [label], state))) for state in STATES[:-1])]
        for label in LABELS
    ]
    return markdown_table(["label: hits / false / missed", *STATES[:-1]], table)


def _per_category(rows: Sequence[Labelled]) -> str:
    table = []
    for category in sorted({row.category for row in rows}):
        part = [row.truth == row.found for row in rows if row.category == category]
        table.append([category, str(len(part)), f"{sum(part) / len(part):.2f}"])
    return markdown_table(["kind of sentence", "n", "every label right ↑"], table)


def _counts(rows: Sequence[Labelled], labels: Sequence[str], state: str) -> tuple[int, int, int]:
    """Hits, false alarms and misses of one state."""
    pairs = [
        (row.truth.get(label) == state, row.found.get(label) == state)
        for row in rows
        for label in labels
    ]
    return pairs.count((True, True)), pairs.count((False, True)), pairs.count((True, False))


def _share(hits: int, count: int) -> str:
    """A share with its Wilson interval, which stays honest where all are right."""
    if not count:
        return "-"
    interval = binomtest(hits, count).proportion_ci(method="wilson")
    return f"{hits / count:.3f} [{interval.low:.3f}, {interval.high:.3f}] ({hits}/{count})"


def _parse(path: Path, parse: Callable[[Entry], T]) -> list[T]:
    found = list(parse_entries(path, parse).values())
    if not found:
        raise EvalDataError(f"{path} holds no text")
    return found


def _labelled(entry: Entry) -> Labelled:
    found, truth = _labels(entry.values), entry.values.get("labels")
    if not isinstance(truth, dict):
        raise FieldError("has no labels {...}")
    for label, state in truth.items():
        if label not in LABELS:
            raise FieldError(f"{label!r} is no CheXpert label")
        if state not in STATES[:-1]:
            raise FieldError(f"{label} is {state!r}, not one of {', '.join(STATES[:-1])}")
    split, category = (str(entry.values.get(name, "")) for name in ("split", "category"))
    return Labelled(split, category, truth=truth, found=found)


def _labels(values: dict[str, Any]) -> dict[str, str]:
    text = values.get("text")
    if not isinstance(text, str):
        raise FieldError("has no text" if text is None else f"text is a {type(text).__name__}")
    return {label: polarity.value for label, polarity in label_text(text).items()}
