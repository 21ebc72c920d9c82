"""F1 of the findings that a report names: CheXpert-14 by this project's rule-based labeller."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from eval.io.studies import Pair
from eval.metrics.base import Card, Direction, Measure, MetricGroup, Setup, SufficientStats, divide
from eval.rules_version import rules_id
from rag.report_nlp.labeller import LABELS, label_text

FIVE = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")
"""The five competition labels of CheXpert (Irvin et al., AAAI 2019)."""

MAPPINGS = {"u=1": ("positive", "uncertain"), "u=0": ("positive",)}
"""What counts as positive, by the name printed with the score."""

_COUNTS = 3  # true positives, false positives, false negatives


def micro_f1(
    mapping: int, labels: Sequence[str], *, names: Sequence[str] = LABELS
) -> Callable[[SufficientStats], SufficientStats]:
    """F1 of the summed counts of some labels, under one mapping; ``names`` orders the columns."""
    return lambda rows: _f1(_counts(rows, mapping, labels, names).sum(axis=-2))


def macro_f1(
    mapping: int, labels: Sequence[str], *, names: Sequence[str] = LABELS
) -> Callable[[SufficientStats], SufficientStats]:
    """Mean F1 of some labels, under one mapping; a label that is nowhere counts 0."""
    return lambda rows: np.nan_to_num(_f1(_counts(rows, mapping, labels, names))).mean(axis=-1)


def _counts(
    rows: SufficientStats, mapping: int, labels: Sequence[str], names: Sequence[str]
) -> SufficientStats:
    """TP, FP, FN of some labels: float64 [..., L, 3]."""
    shaped = rows.reshape(*rows.shape[:-1], len(MAPPINGS), len(names), _COUNTS)
    return shaped[..., mapping, [names.index(label) for label in labels], :]


def _f1(counts: SufficientStats) -> SufficientStats:
    hits, false, missed = counts[..., 0], counts[..., 1], counts[..., 2]
    return divide(2 * hits, 2 * hits + false + missed)


MEASURES = tuple(
    Measure(
        f"{mean} F1-{size} ({mapping})",
        Direction.HIGHER,
        0.0,
        1.0,
        combine,
        single=mean == "micro",
    )
    for at, mapping in enumerate(MAPPINGS)
    for size, labels in ((14, LABELS), (5, FIVE))
    for mean, combine in (("micro", micro_f1(at, labels)), ("macro", macro_f1(at, labels)))
)


class LabelF1(MetricGroup):
    """See the card."""

    key = "labels"
    measures = MEASURES
    width = len(MAPPINGS) * len(LABELS) * _COUNTS
    card = Card(
        title="F1-14 and F1-5 of CheXpert labels",
        formula="F1 = 2TP / (2TP + FP + FN); micro sums the counts over labels, macro is the "
        "mean of the labels' F1",
        words="none: cxr-rag's rule-based labeller reads both texts; the version names its rules",
        convention="unmentioned = negative; u=1 counts 'uncertain' as positive, u=0 as "
        "negative; No Finding is one of the 14; a label that is nowhere has F1 0 in the macro "
        "mean, as in scikit-learn, and its interval is a little narrow (docs/metrics.md); F1-5: "
        + ", ".join(FIVE),
        source="Irvin et al., AAAI 2019; Smit et al., EMNLP 2020",
    )

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.version = f"1-{rules_id()}"

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair: float64 [N, 84], TP, FP and FN of each label under each mapping."""
        rows = np.zeros((len(pairs), len(MAPPINGS), len(LABELS), _COUNTS))
        for row, pair in zip(rows, pairs, strict=True):
            reference, draft = label_matrix(pair.reference), label_matrix(pair.draft)
            row[..., 0] = reference & draft
            row[..., 1] = ~reference & draft
            row[..., 2] = reference & ~draft
        return rows.reshape(len(pairs), self.width)


@lru_cache(maxsize=20_000)
def label_matrix(text: str) -> NDArray[np.bool_]:
    """Which labels a text is positive for: bool [2 mappings, 14]."""
    found = label_text(text)
    return np.array(
        [[found.get(label) in counts for label in LABELS] for counts in MAPPINGS.values()]
    )
