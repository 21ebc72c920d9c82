"""Measures on words: BLEU, ROUGE-L and CIDEr-D."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from eval.errors import NotAvailableError
from eval.metrics.base import (
    Direction,
    MeanMetric,
    Measure,
    MetricGroup,
    Setup,
    SufficientStats,
    divide,
    mean_measure,
)
from eval.studies import Pair


def _bleu(orders: int) -> Callable[[SufficientStats], SufficientStats]:
    def combine(rows: SufficientStats) -> SufficientStats:
        matched, total = rows[..., :orders], rows[..., 4 : 4 + orders]
        with np.errstate(divide="ignore"):
            precision = np.log(np.nan_to_num(divide(matched, total)))
            shortness = np.nan_to_num(divide(rows[..., 9], rows[..., 8]), nan=np.inf)
        brevity = np.minimum(0.0, 1.0 - shortness)
        return np.asarray(np.exp(brevity + precision.mean(axis=-1)), dtype=np.float64)

    return combine


class Bleu(MetricGroup):
    """Corpus BLEU from n-gram counts that sacrebleu makes.

    A row: matched n-grams (4), n-grams of the draft (4), words of the draft, of the reference.
    """

    key = "bleu"
    measures = tuple(
        Measure(f"BLEU-{n}", Direction.HIGHER, 0.0, 1.0, _bleu(n)) for n in range(1, 5)
    )
    width = 10

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
            row[:] = *found.counts, *found.totals, found.sys_len, found.ref_len
        return rows


class RougeL(MeanMetric):
    """ROUGE-L by rouge-score: the longest common subsequence of draft and reference."""

    key = "rouge"
    measures = (
        mean_measure("ROUGE-L", Direction.HIGHER, column=0),
        mean_measure("ROUGE-L β1.2", Direction.HIGHER, column=2),
    )
    width = 4

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        cleaning = setup.cleaning
        # imported late, because it brings nltk along
        from rouge_score import rouge_scorer, tokenizers  # type: ignore[import-untyped] # noqa: PLC0415

        class Words(tokenizers.Tokenizer):  # type: ignore[misc] # rouge-score has no types
            def tokenize(self, text: str) -> list[str]:
                return cleaning.words(text)

        self._own: Any = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
        self._coco: Any = rouge_scorer.RougeScorer(["rougeL"], tokenizer=Words())

    def one(self, pair: Pair) -> tuple[float, float]:
        """Both conventions."""
        own = self._own.score(pair.reference, pair.draft)["rougeL"]
        coco = self._coco.score(pair.reference, pair.draft)["rougeL"]
        square = 1.2**2
        below = coco.recall + square * coco.precision
        weighted = (1 + square) * coco.precision * coco.recall / below if below else 0.0
        return own.fmeasure, weighted


class CiderD(MeanMetric):
    """Agreement of n-grams, weighed by how rare they are in the reference set.

    Written here because the reference implementation comes in a package of 104 MB with a GPL
    library; tests hold it against that implementation, number by number.
    """

    key = "cider"
    measures = (mean_measure("CIDEr-D", Direction.HIGHER, column=0, high=10.0),)
    width = 2

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        references = setup.references
        if len(set(references)) < 2:
            raise NotAvailableError(
                "references that differ: with one distinct text every word has weight 0"
            )
        self._documents: Counter[tuple[str, ...]] = Counter()
        for text in references:
            self._documents.update(set(_grams(self.cleaning.words(text))))
        self._log_count = math.log(len(references))
        # the weights are part of every number, so they are part of the cache key
        weights = hashlib.sha256("\0".join(sorted(references)).encode()).hexdigest()[:16]
        self.version = f"1-{weights}"

    def one(self, pair: Pair) -> tuple[float]:
        """CIDEr-D in [0, 10]."""
        draft, reference = map(self.cleaning.words, (pair.draft, pair.reference))
        if not draft or not reference:
            return (0.0,)
        # the reference implementation measures length in bigrams
        apart = max(len(draft) - 1, 0) - max(len(reference) - 1, 0)
        near = math.exp(-(apart**2) / (2 * 6.0**2))
        cosines = map(_clipped_cosine, self._weigh(draft), self._weigh(reference))
        return (10 * near * math.fsum(cosines) / 4,)

    def _weigh(self, words: Sequence[str]) -> list[dict[tuple[str, ...], float]]:
        vectors: list[dict[tuple[str, ...], float]] = [{} for _ in range(4)]
        for gram, count in Counter(_grams(words)).items():
            rarity = self._log_count - math.log(max(self._documents[gram], 1))
            vectors[len(gram) - 1][gram] = count * rarity
        return vectors


def _grams(words: Sequence[str]) -> Iterable[tuple[str, ...]]:
    for order in range(1, 5):
        yield from zip(*(words[start:] for start in range(order)), strict=False)


def _clipped_cosine(
    draft: dict[tuple[str, ...], float], reference: dict[tuple[str, ...], float]
) -> float:
    dot = math.fsum(
        min(value, reference[gram]) * reference[gram]
        for gram, value in draft.items()
        if gram in reference
    )
    norm = math.hypot(*draft.values()) * math.hypot(*reference.values())
    return dot / norm if norm else 0.0
