"""BLEU-1 to BLEU-4 of a set of studies, from n-gram counts that sacrebleu makes."""

from collections.abc import Callable, Sequence

import numpy as np

from eval.io.studies import Pair
from eval.metrics.base import Card, Direction, Measure, MetricGroup, Setup, SufficientStats, divide

_ORDERS = 4
# A row: matched n-grams (4), n-grams of the draft (4), words of the draft, words of the reference.
_MATCHED, _TOTAL, _DRAFT, _REFERENCE = slice(0, 4), slice(4, 8), 8, 9


def _combine(orders: int) -> Callable[[SufficientStats], SufficientStats]:
    def combine(rows: SufficientStats) -> SufficientStats:
        matched, total = rows[..., _MATCHED][..., :orders], rows[..., _TOTAL][..., :orders]
        with np.errstate(divide="ignore"):
            precision = np.log(np.nan_to_num(divide(matched, total)))
            shortness = np.nan_to_num(divide(rows[..., _REFERENCE], rows[..., _DRAFT]), nan=np.inf)
        brevity = np.minimum(0.0, 1.0 - shortness)
        return np.asarray(np.exp(brevity + precision.mean(axis=-1)), dtype=np.float64)

    return combine


MEASURES = tuple(
    Measure(f"BLEU-{n}", Direction.HIGHER, 0.0, 1.0, _combine(n)) for n in range(1, _ORDERS + 1)
)


class Bleu(MetricGroup):
    """See the card."""

    key = "bleu"
    measures = MEASURES
    width = 10
    card = Card(
        title="BLEU-1 to BLEU-4",
        formula="brevity penalty times geometric mean of clipped n-gram precisions, counts "
        "summed over all studies (corpus BLEU), no smoothing; a single study has its own BLEU",
        words="{cleaning}",
        convention="one reference; 0 where an order has no match",
        source="Papineni et al., ACL 2002; counts from sacrebleu 2.6.0 (tokenize=none)",
    )

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        from sacrebleu.metrics.bleu import BLEU  # noqa: PLC0415 - an import of a second

        # effective_order only silences a warning here: we take the counts, never the score
        self._counter = BLEU(tokenize="none", force=True, effective_order=True)

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair: float64 [N, 10]."""
        rows = np.zeros((len(pairs), self.width))
        for row, pair in zip(rows, pairs, strict=True):
            draft, reference = map(self.cleaning.joined, (pair.draft, pair.reference))
            found = self._counter.sentence_score(draft, [reference])
            row[_MATCHED], row[_TOTAL] = found.counts, found.totals
            row[_DRAFT], row[_REFERENCE] = found.sys_len, found.ref_len
        return rows
