"""What reports state of findings, by this project's rules on both texts.

F1 of CheXpert-14 labels; and false findings, missed ones, details, words to change. A draft can be
right in every word that overlap measures count and still state a pneumothorax that is not there.
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

FIVE = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")
"""The five competition labels of CheXpert (Irvin et al., AAAI 2019)."""

MAPPINGS = {"u=1": ("positive", "uncertain"), "u=0": ("positive",)}
"""What counts as positive, by the name printed with the score."""

MUST_NOT_MISS = frozenset(
    ("pneumothorax", "lung_lesion", "pleural_effusion", "consolidation", "fracture", "free_air")
)
_DETAILS = ("side", "severity", "device kind")


def label_file(path: Path) -> Iterator[str]:
    """One JSON line for each line of a JSONL file with ``text``: ``{"labels": {...}}``.

    Raises:
        EvalUsageError: no such file.
        EvalDataError: names every line that is wrong, before the first label is printed.
    """
    found = parse_entries(path, _Labelled)
    if not found:
        raise EvalDataError(f"{path} holds no text")
    for each in found.values():
        yield json.dumps({"labels": label_text(each.text)}, ensure_ascii=False)


class _Labelled(Entry):
    text: str


@lru_cache(maxsize=1)
def rules_id() -> str:
    """Name of the rules as installed: a hash over the code and words of rag.report_nlp.

    The headings of `encoders.report_sections`, by which it knows what not to read, count too.
    """
    digest = hashlib.sha256(files("encoders").joinpath("report_sections.py").read_bytes())
    folder = files("rag.report_nlp")
    for place in (folder, folder.joinpath("data")):
        for file in sorted(place.iterdir(), key=lambda file: file.name):
            if file.name.endswith((".py", ".toml")):
                digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return f"rules@{digest.hexdigest()[:8]}"


def label_measures(prefix: str = "", names: Sequence[str] = LABELS) -> tuple[Measure, ...]:
    """Micro and macro F1 of fourteen labels and of five, under each mapping.

    Args:
        prefix: of the measures' names.
        names: of the labels, in the order of the row's columns.
    """
    return tuple(
        Measure(
            f"{prefix}{mean} F1-{len(labels)} ({name})",
            Direction.HIGHER,
            0.0,
            1.0,
            _f1_of(mapping, [names.index(label) for label in labels], macro=mean == "macro"),
            single=mean == "micro",
        )
        for mapping, name in enumerate(MAPPINGS)
        for labels in (names, FIVE)
        for mean in ("micro", "macro")
    )


def _f1_of(
    mapping: int, columns: list[int], *, macro: bool
) -> Callable[[SufficientStats], SufficientStats]:
    """F1 of the summed counts of some labels, or the mean of theirs, where an absent one has 0."""

    def combine(rows: SufficientStats) -> SufficientStats:
        row = rows[..., : LabelF1.width].reshape(*rows.shape[:-1], len(MAPPINGS), len(LABELS), 3)
        counts = row[..., mapping, columns, :]
        if not macro:
            return _f1(counts.sum(axis=-2))
        return np.asarray(np.nan_to_num(_f1(counts)).mean(axis=-1))

    return combine


def _f1(counts: SufficientStats) -> SufficientStats:
    hits, false, missed = counts[..., 0], counts[..., 1], counts[..., 2]
    return divide(2 * hits, 2 * hits + false + missed)


def label_counts(reference: NDArray[np.bool_], draft: NDArray[np.bool_]) -> SufficientStats:
    """True and false positives and false negatives of bool [2 mappings, 14]: float64 [84]."""
    counts = np.stack([reference & draft, ~reference & draft, reference & ~draft], axis=-1)
    return counts.reshape(-1).astype(np.float64)


class RulesMetric(MetricGroup):
    """A metric that reads reports by this project's rules; its version names them."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.version = f"1-{rules_id()}"


class LabelF1(RulesMetric):
    """F1 of the labels that this project's rule-based labeller reads."""

    key = "labels"
    measures = label_measures()
    width = len(MAPPINGS) * len(LABELS) * 3

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair: float64 [N, 84], counts of each label under each mapping."""
        rows = [label_counts(label_matrix(p.reference), label_matrix(p.draft)) for p in pairs]
        return np.array(rows).reshape(len(pairs), self.width)


@lru_cache(maxsize=20_000)
def label_matrix(text: str) -> NDArray[np.bool_]:
    """Which labels a text is positive for: bool [2 mappings, 14]."""
    return positive_labels(label_text(text), LABELS)


def positive_labels(found: Mapping[str, str], names: Sequence[str]) -> NDArray[np.bool_]:
    """Which of these labels are positive under each mapping: bool [2, L]."""
    return np.array([[found.get(name) in counts for name in names] for counts in MAPPINGS.values()])


def _ratio(name: str, direction: Direction, part: int, whole: int) -> Measure:
    """A share: a quotient of two columns, each summed over studies."""
    return Measure(
        name,
        direction,
        0.0,
        1.0,
        lambda rows: divide(rows[..., part], rows[..., whole]),
        lambda rows: rows[..., whole],
        single=False,
    )


class Stated(RulesMetric):
    """False, missed and denied findings; details; words to change. Uncertain counts as stated."""

    key = "stated"
    measures = (
        mean_measure("false-finding drafts", Direction.LOWER, column=0),
        _ratio("precision of stated findings", Direction.HIGHER, 2, 3),
        _ratio("recall of stated findings", Direction.HIGHER, 2, 4),
        _ratio("precision of stated devices", Direction.HIGHER, 5, 6),
        _ratio("missed must-not-miss findings", Direction.LOWER, 7, 8),
        _ratio("denied must-not-miss findings", Direction.LOWER, 9, 8),
        *(
            _ratio(f"accuracy of {name}", Direction.HIGHER, 10 + 2 * at, 11 + 2 * at)
            for at, name in enumerate(_DETAILS)
        ),
        mean_measure("edit distance in words", Direction.LOWER, column=16, high=float("inf")),
    )
    width = 18

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair: float64 [N, 18]."""
        return np.array([_row(pair) for pair in pairs], float).reshape(len(pairs), self.width)


def _row(pair: Pair) -> list[float]:
    drafted, referred = _statements(pair.draft), _statements(pair.reference)
    said, true = _labels(drafted), _labels(referred)
    grave = {s.finding.name for s in referred if s.is_present} & MUST_NOT_MISS
    stated = {s.finding.name for s in drafted if s.is_present}
    denied = {s.finding.name for s in drafted if s.is_denied} - stated
    device = "Support Devices"
    return [
        float(bool(said - true)),
        1.0,
        len(said & true),
        len(said),
        len(true),
        device in said & true,
        device in said,
        len(grave - stated),
        len(grave),
        len(grave & denied),
        *(count for name in _DETAILS for count in _same(name, drafted, referred)),
        _edits(_words(pair.draft), _words(pair.reference)),
        1.0,
    ]


@lru_cache(maxsize=20_000)
def _statements(text: str) -> tuple[Statement, ...]:
    return tuple(each for each in statements_of(text) if each.polarity is not None)


def _labels(statements: Sequence[Statement]) -> set[str]:
    return {s.label for s in statements if s.is_present and s.label in LABELS} - {NO_FINDING}


def _same(
    detail: str, drafted: Sequence[Statement], referred: Sequence[Statement]
) -> tuple[int, int]:
    """Of the findings that both state with this detail: how often they agree, and how many."""
    if detail == "device kind":
        mine, theirs = (
            {s.finding for s in each if s.finding.kind is FindingKind.DEVICE and s.is_present}
            for each in (drafted, referred)
        )
        return len(mine & theirs), len(mine) if theirs else 0
    ours, others = _by_finding(detail, drafted), _by_finding(detail, referred)
    both = ours.keys() & others.keys()
    return sum(bool(ours[name] & others[name]) for name in both), len(both)


def _by_finding(detail: str, statements: Sequence[Statement]) -> dict[str, set[str]]:
    """Sides or degrees of each stated finding; both sides are either."""
    found: dict[str, set[str]] = {}
    for statement in (each for each in statements if each.is_present):
        values = statement.sides if detail == "side" else statement.severities
        names = {"left", "right"} if "bilateral" in values else {str(value) for value in values}
        if names:
            found.setdefault(statement.concept, set()).update(names)
    return found


def _words(text: str) -> list[str]:
    return [word for each in text.lower().split() if (word := each.strip(".,;:()"))]


def _edits(some: Sequence[str], others: Sequence[str]) -> int:
    """Levenshtein distance in words."""
    row = list(range(len(others) + 1))
    for at, word in enumerate(some, 1):
        before, row[0] = row[0], at
        for to, other in enumerate(others, 1):
            changed = before + (word != other)
            before, row[to] = row[to], min(changed, row[to] + 1, row[to - 1] + 1)
    return row[-1]
