"""CIDEr-D: agreement of n-grams, weighed by how rare they are in the reference set.

Written here because the reference implementation comes in a package of 104 MB with a GPL library;
tests hold it against that implementation, number by number.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence

from eval.errors import NotAvailableError
from eval.io.studies import Pair
from eval.metrics.base import (
    Card,
    Direction,
    MetricGroup,
    Setup,
    SufficientStats,
    mean_measure,
    mean_rows,
)

_ORDERS = 4
_SIGMA = 6.0
_Gram = tuple[str, ...]


class CiderD(MetricGroup):
    """See the card."""

    key = "cider"
    width = 2
    card = Card(
        title="CIDEr-D",
        formula="10 * mean over n = 1..4 of the clipped cosine of tf-idf n-gram vectors, times "
        "exp(-(length difference)² / 72); mean over studies; not multiplied by 100",
        words="{cleaning}",
        convention="document frequencies from the references of the study set, all subsets and "
        "bootstrap samples included; another study set gives another scale",
        source="Vedantam et al., CVPR 2015; agrees with pycocoevalcap 1.2",
    )
    measures = (mean_measure("CIDEr-D", Direction.HIGHER, column=0, high=10.0),)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        references = setup.references
        if len(set(references)) < 2:
            raise NotAvailableError(
                "references that differ: with one distinct text every word has weight 0"
            )
        self._documents: Counter[_Gram] = Counter()
        for text in references:
            self._documents.update(set(_grams(self.cleaning.words(text))))
        self._log_count = math.log(max(len(references), 1))
        # the weights are part of every number, so they are part of the cache key
        weights = hashlib.sha256("\0".join(sorted(references)).encode()).hexdigest()[:16]
        self.version = f"1-{weights}"

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair: float64 [N, 2]."""
        return mean_rows([[self._one(pair)] for pair in pairs])

    def _one(self, pair: Pair) -> float:
        draft, reference = map(self.cleaning.words, (pair.draft, pair.reference))
        if not draft or not reference:
            return 0.0
        drafted, referred = self._weigh(draft), self._weigh(reference)
        # the reference implementation measures length in bigrams
        apart = max(len(draft) - 1, 0) - max(len(reference) - 1, 0)
        near = math.exp(-(apart**2) / (2 * _SIGMA**2))
        cosines = map(_clipped_cosine, drafted, referred)
        return 10 * near * math.fsum(cosines) / _ORDERS

    def _weigh(self, words: Sequence[str]) -> list[dict[_Gram, float]]:
        vectors: list[dict[_Gram, float]] = [{} for _ in range(_ORDERS)]
        for gram, count in Counter(_grams(words)).items():
            rarity = self._log_count - math.log(max(self._documents[gram], 1))
            vectors[len(gram) - 1][gram] = count * rarity
        return vectors


def _grams(words: Sequence[str]) -> Iterable[_Gram]:
    for order in range(1, _ORDERS + 1):
        yield from zip(*(words[start:] for start in range(order)), strict=False)


def _clipped_cosine(draft: dict[_Gram, float], reference: dict[_Gram, float]) -> float:
    dot = math.fsum(
        min(value, reference[gram]) * reference[gram]
        for gram, value in draft.items()
        if gram in reference
    )
    norm = math.hypot(*draft.values()) * math.hypot(*reference.values())
    return dot / norm if norm else 0.0
