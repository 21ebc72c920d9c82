"""Findings that drafts state, read by this project's rules from draft and reference.

F1 of CheXpert-14 labels; false and missed findings, their details, and edit distance.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.entries import Entry, parse_entries
from eval.errors import EvalDataError
from eval.metrics.base import (
    Direction,
    Measure,
    MetricGroup,
    Setup,
    SufficientStats,
    divide,
    mean_measure,
)
from eval.studies import Pair
from rag.report_nlp.labeller import LABELS, NO_FINDING, label_text
from rag.report_nlp.lexicon import FindingKind
from rag.report_nlp.statements import Statement, statements_of

FIVE_LABELS = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")
"""The five competition labels of CheXpert (Irvin et al., AAAI 2019)."""

POSITIVE_STATES = {"u=1": ("positive", "uncertain"), "u=0": ("positive",)}
"""States that count as positive, by the name printed with the score."""

MUST_NOT_MISS = frozenset(
    ("pneumothorax", "lung_lesion", "pleural_effusion", "consolidation", "fracture", "free_air")
)
_DETAILS = ("side", "severity", "device kind")


def label_file(path: Path) -> Iterator[str]:
    """A line ``{"labels": {...}}`` for each line of a JSONL file with ``text``.

    Raises:
        EvalUsageError: no such file.
        EvalDataError: names every invalid line, before the first label is printed.
    """
    entries = parse_entries(path, _TextEntry)
    if not entries:
        raise EvalDataError(f"{path} holds no text")
    for entry in entries.values():
        yield json.dumps({"labels": label_text(entry.text)}, ensure_ascii=False)


class _TextEntry(Entry):
    text: str


@lru_cache(maxsize=1)
def rules_id() -> str:
    """Version of the labeller: a hash of rag.report_nlp and encoders/report_sections.py."""
    digest = hashlib.sha256(files("encoders").joinpath("report_sections.py").read_bytes())
    package = files("rag.report_nlp")
    for folder in (package, package.joinpath("data")):
        for file in sorted(folder.iterdir(), key=lambda file: file.name):
            if file.name.endswith((".py", ".toml")):
                digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return f"rules@{digest.hexdigest()[:8]}"


def label_measures(prefix: str = "", names: Sequence[str] = LABELS) -> tuple[Measure, ...]:
    """Micro and macro F1 of fourteen labels and of five, uncertain as positive or negative.

    Args:
        prefix: of the measures' names.
        names: of the labels, in the order of the row's columns.
    """
    return tuple(
        Measure(
            f"{prefix}{average} F1-{len(labels)} ({name})",
            Direction.HIGHER,
            0.0,
            1.0,
            _combine_f1(i, [names.index(label) for label in labels], macro=average == "macro"),
            per_study=average == "micro",
        )
        for i, name in enumerate(POSITIVE_STATES)
        for labels in (names, FIVE_LABELS)
        for average in ("micro", "macro")
    )


def _combine_f1(
    mapping: int, columns: list[int], *, macro: bool
) -> Callable[[SufficientStats], SufficientStats]:
    """Micro or macro F1 of some labels; in the macro mean an absent label has 0."""

    def combine(rows: SufficientStats) -> SufficientStats:
        shape = (*rows.shape[:-1], len(POSITIVE_STATES), len(LABELS), 3)
        counts = rows[..., : LabelF1.width].reshape(shape)[..., mapping, columns, :]
        if not macro:
            return _f1(counts.sum(axis=-2))
        return np.asarray(np.nan_to_num(_f1(counts)).mean(axis=-1))

    return combine


def _f1(counts: SufficientStats) -> SufficientStats:
    true_positives, false_positives, false_negatives = np.moveaxis(counts, -1, 0)
    return divide(2 * true_positives, 2 * true_positives + false_positives + false_negatives)


def label_counts(reference: NDArray[np.bool_], draft: NDArray[np.bool_]) -> SufficientStats:
    """True and false positives and false negatives of bool [2 mappings, 14]: float64 [84]."""
    counts = np.stack([reference & draft, ~reference & draft, reference & ~draft], axis=-1)
    return counts.reshape(-1).astype(np.float64)


class RulesMetric(MetricGroup):
    """A metric that reads reports by this project's rules and is versioned with them."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.version = f"1-{rules_id()}"


class LabelF1(RulesMetric):
    """F1 of the labels of this project's rule-based labeller."""

    key = "labels"
    measures = label_measures()
    width = len(POSITIVE_STATES) * len(LABELS) * 3

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair: float64 [N, 84], counts of each label under each mapping."""
        rows = [label_counts(label_matrix(p.reference), label_matrix(p.draft)) for p in pairs]
        return np.array(rows).reshape(len(pairs), self.width)


@lru_cache(maxsize=20_000)
def label_matrix(text: str) -> NDArray[np.bool_]:
    """Which labels a text is positive for: bool [2 mappings, 14]."""
    return positive_labels(label_text(text), LABELS)


def positive_labels(states: Mapping[str, str], names: Sequence[str]) -> NDArray[np.bool_]:
    """Which of these labels are positive under each mapping: bool [2, L]."""
    return np.array(
        [[states.get(name) in positive for name in names] for positive in POSITIVE_STATES.values()]
    )


def _ratio(name: str, direction: Direction, part: int, whole: int) -> Measure:
    """A quotient of two columns summed over studies."""
    return Measure(
        name,
        direction,
        0.0,
        1.0,
        lambda rows: divide(rows[..., part], rows[..., whole]),
        lambda rows: rows[..., whole],
        per_study=False,
    )


class StatedFindings(RulesMetric):
    """False, missed and denied findings, details, edit distance; uncertain counts as stated."""

    key = "stated"
    measures = (
        mean_measure("false-finding drafts", Direction.LOWER, column=0),
        _ratio("precision of stated findings", Direction.HIGHER, 2, 3),
        _ratio("recall of stated findings", Direction.HIGHER, 2, 4),
        _ratio("precision of stated devices", Direction.HIGHER, 5, 6),
        _ratio("missed must-not-miss findings", Direction.LOWER, 7, 8),
        _ratio("denied must-not-miss findings", Direction.LOWER, 9, 8),
        *(
            _ratio(f"accuracy of {name}", Direction.HIGHER, 10 + 2 * i, 11 + 2 * i)
            for i, name in enumerate(_DETAILS)
        ),
        mean_measure("edit distance in words", Direction.LOWER, column=16, high=float("inf")),
    )
    width = 18

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair: float64 [N, 18]."""
        return np.array([_stated_row(pair) for pair in pairs], float).reshape(-1, self.width)


def _stated_row(pair: Pair) -> list[float]:
    draft, reference = _statements(pair.draft), _statements(pair.reference)
    draft_labels, reference_labels = _labels(draft), _labels(reference)
    shared_labels = draft_labels & reference_labels
    critical = {s.finding.name for s in reference if s.is_present} & MUST_NOT_MISS
    stated = {s.finding.name for s in draft if s.is_present}
    denied = {s.finding.name for s in draft if s.is_denied} - stated
    device = "Support Devices"
    return [
        float(bool(draft_labels - reference_labels)),
        1.0,
        len(shared_labels),
        len(draft_labels),
        len(reference_labels),
        device in shared_labels,
        device in draft_labels,
        len(critical - stated),
        len(critical),
        len(critical & denied),
        *(count for detail in _DETAILS for count in _agreement(detail, draft, reference)),
        _edit_distance(_words(pair.draft), _words(pair.reference)),
        1.0,
    ]


@lru_cache(maxsize=20_000)
def _statements(text: str) -> tuple[Statement, ...]:
    return tuple(s for s in statements_of(text) if s.polarity is not None)


def _labels(statements: Sequence[Statement]) -> set[str]:
    return {s.label for s in statements if s.is_present and s.label in LABELS} - {NO_FINDING}


def _agreement(
    detail: str, draft: Sequence[Statement], reference: Sequence[Statement]
) -> tuple[int, int]:
    """How often the details agree, and how many findings both texts state with this detail."""
    if detail == "device kind":
        draft_devices, reference_devices = (
            {s.finding for s in text if s.finding.kind is FindingKind.DEVICE and s.is_present}
            for text in (draft, reference)
        )
        shared = draft_devices & reference_devices
        return len(shared), len(draft_devices) if reference_devices else 0
    ours, theirs = _details(detail, draft), _details(detail, reference)
    both = ours.keys() & theirs.keys()
    return sum(bool(ours[name] & theirs[name]) for name in both), len(both)


def _details(detail: str, statements: Sequence[Statement]) -> dict[str, set[str]]:
    """Sides or severities of each stated finding; bilateral agrees with left and right."""
    details: dict[str, set[str]] = {}
    for statement in (s for s in statements if s.is_present):
        values = statement.sides if detail == "side" else statement.severities
        names = {"left", "right"} if "bilateral" in values else {str(value) for value in values}
        if names:
            details.setdefault(statement.concept, set()).update(names)
    return details


def _words(text: str) -> list[str]:
    return [word for token in text.lower().split() if (word := token.strip(".,;:()"))]


def _edit_distance(first: Sequence[str], second: Sequence[str]) -> int:
    """Levenshtein distance in words."""
    row = list(range(len(second) + 1))
    for i, word in enumerate(first, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(second, 1):
            replaced = diagonal + (word != other)
            diagonal, row[j] = row[j], min(replaced, row[j] + 1, row[j - 1] + 1)
    return row[-1]
