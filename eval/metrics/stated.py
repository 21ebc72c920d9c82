"""What drafts state of findings, and whether it is so: false findings, details, words to change.

By this project's rules on both texts; uncertain counts as stated. A draft can be right in every
word that overlap measures count and still state a pneumothorax that is not there.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from eval.io.studies import Pair
from eval.metrics.base import (
    Card,
    Direction,
    Measure,
    MetricGroup,
    Setup,
    SufficientStats,
    divide,
    mean_measure,
)
from eval.rules_version import rules_id
from rag.report_nlp.assertion import Polarity
from rag.report_nlp.labeller import LABELS, NO_FINDING
from rag.report_nlp.sentences import sentence_spans
from rag.report_nlp.statements import Statement, read_sentence

MUST_NOT_MISS = (
    "pneumothorax",
    "lung_lesion",
    "pleural_effusion",
    "consolidation",
    "fracture",
    "free_air",
)
_DETAILS = ("side", "severity", "device kind")


def _ratio(name: str, direction: Direction, right: int, of: int) -> Measure:
    """A ratio of two columns, summed over studies."""
    return Measure(
        name,
        direction,
        0.0,
        1.0,
        lambda rows: divide(rows[..., right], rows[..., of]),
        lambda rows: rows[..., of],
        single=False,
    )


MEASURES = (
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


class Stated(MetricGroup):
    """See the card."""

    key = "stated"
    measures = MEASURES
    width = 18
    card = Card(
        title="Findings that drafts state",
        formula="false-finding drafts = share of drafts with a CheXpert label (No Finding aside) "
        "that the reference lacks; precision and recall = of these labels, counts summed over "
        "studies; devices = the label Support Devices; must-not-miss = pneumothorax, nodule or "
        "mass, effusion, consolidation, fracture, free air of the references that the draft does "
        "not state, or denies; accuracy of side, severity, device kind = of findings that both "
        "state with one, the share where they are equal (sides: not opposite); edit distance = "
        "words to insert, delete or replace",
        words="findings by cxr-rag's rules; the version names them; words split at blanks, lower "
        "case, punctuation at their ends dropped",
        convention="uncertain = stated; a missing draft states nothing and its edit distance is "
        "the reference's length; a ratio of nothing is undefined",
        source="this project",
    )

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.version = f"1-{rules_id()}"

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair: float64 [N, 18]."""
        return np.array([_row(pair) for pair in pairs], float).reshape(len(pairs), self.width)


def _row(pair: Pair) -> list[float]:
    drafted, referred = _statements(pair.draft), _statements(pair.reference)
    said, true = _labels(drafted), _labels(referred)
    grave = {s.finding for s in referred if _present(s)} & set(MUST_NOT_MISS)
    stated = {s.finding for s in drafted if _present(s)}
    denied = {s.finding for s in drafted if s.polarity is Polarity.NEGATIVE} - stated
    device = "Support Devices"
    details = [count for name in _DETAILS for count in _same(name, drafted, referred)]
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
        *details,
        _edits(_words(pair.draft), _words(pair.reference)),
        1.0,
    ]


@lru_cache(maxsize=20_000)
def _statements(text: str) -> tuple[Statement, ...]:
    return tuple(
        statement
        for start, end in sentence_spans(text)
        for statement in read_sentence(text[start:end]).statements
        if statement.polarity is not None
    )


def _present(statement: Statement) -> bool:
    return statement.polarity in (Polarity.POSITIVE, Polarity.UNCERTAIN)


def _labels(statements: Sequence[Statement]) -> set[str]:
    return {s.label for s in statements if _present(s) and s.label in LABELS} - {NO_FINDING}


def _same(
    detail: str, drafted: Sequence[Statement], referred: Sequence[Statement]
) -> tuple[int, int]:
    """Of the findings that both state with this detail: how often they agree, and how many."""
    if detail == "device kind":
        mine, theirs = _devices(drafted), _devices(referred)
        return len(mine & theirs), len(mine) if theirs else 0
    ours, others = _by_finding(detail, drafted), _by_finding(detail, referred)
    both = ours.keys() & others.keys()
    return sum(bool(ours[name] & others[name]) for name in both), len(both)


def _devices(statements: Sequence[Statement]) -> set[str]:
    return {s.finding for s in statements if s.device and _present(s)}


def _by_finding(detail: str, statements: Sequence[Statement]) -> dict[str, set[str]]:
    """Sides or degrees of each stated finding; both sides are either."""
    found: dict[str, set[str]] = {}
    for statement in filter(_present, statements):
        values = statement.sides if detail == "side" else statement.severities
        names = {"left", "right"} if "bilateral" in values else {str(value) for value in values}
        if names:
            found.setdefault(statement.concept, set()).update(names)
    return found


def _words(text: str) -> list[str]:
    return [word.strip(".,;:()") for word in text.lower().split() if word.strip(".,;:()")]


def _edits(some: Sequence[str], others: Sequence[str]) -> int:
    """Levenshtein distance in words."""
    row = list(range(len(others) + 1))
    for at, word in enumerate(some, 1):
        before, row[0] = row[0], at
        for to, other in enumerate(others, 1):
            changed = before + (word != other)
            before, row[to] = row[to], min(changed, row[to] + 1, row[to - 1] + 1)
    return row[-1]
