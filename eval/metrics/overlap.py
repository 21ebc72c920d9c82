"""Word overlap: BLEU, ROUGE-L and CIDEr-D."""

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
            length_ratio = np.nan_to_num(divide(rows[..., 9], rows[..., 8]), nan=np.inf)
        brevity_penalty = np.minimum(0.0, 1.0 - length_ratio)
        return np.asarray(np.exp(brevity_penalty + precision.mean(axis=-1)), dtype=np.float64)

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
            draft, reference = map(self.cleaning.clean, (pair.draft, pair.reference))
            score = self._counter.sentence_score(draft, [reference])
            row[:] = *score.counts, *score.totals, score.sys_len, score.ref_len
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

        self._google: Any = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
        self._coco: Any = rouge_scorer.RougeScorer(["rougeL"], tokenizer=Words())

    def score_pair(self, pair: Pair) -> tuple[float, float]:
        """ROUGE-L as in rouge-score, and with β = 1.2 as in COCO."""
        google = self._google.score(pair.reference, pair.draft)["rougeL"]
        coco = self._coco.score(pair.reference, pair.draft)["rougeL"]
        beta_squared = 1.2**2
        weighted_sum = coco.recall + beta_squared * coco.precision
        product = (1 + beta_squared) * coco.precision * coco.recall
        return google.fmeasure, product / weighted_sum if weighted_sum else 0.0


class CiderD(MeanMetric):
    """Cosine of tf-idf n-gram vectors, with document frequencies of the reference set.

    Implemented here because the reference implementation is a 104 MB package with a GPL library;
    tests compare the two.
    """

    key = "cider"
    measures = (mean_measure("CIDEr-D", Direction.HIGHER, column=0, high=10.0),)
    width = 2

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        references = setup.references
        if len(set(references)) < 2:
            raise NotAvailableError(
                "needs references that differ: with one distinct text every word has weight 0"
            )
        self._document_frequency: Counter[tuple[str, ...]] = Counter()
        for text in references:
            self._document_frequency.update(set(_ngrams(self.cleaning.words(text))))
        self._log_count = math.log(len(references))
        # every score depends on the document frequencies, so the cache key does, too
        digest = hashlib.sha256("\0".join(sorted(references)).encode()).hexdigest()[:16]
        self.version = f"1-{digest}"

    def score_pair(self, pair: Pair) -> tuple[float]:
        """CIDEr-D in [0, 10]."""
        draft, reference = map(self.cleaning.words, (pair.draft, pair.reference))
        if not draft or not reference:
            return (0.0,)
        # the reference implementation counts bigrams
        length_difference = max(len(draft) - 1, 0) - max(len(reference) - 1, 0)
        length_penalty = math.exp(-(length_difference**2) / (2 * 6.0**2))
        cosines = map(_clipped_cosine, self._tf_idf(draft), self._tf_idf(reference))
        return (10 * length_penalty * math.fsum(cosines) / 4,)

    def _tf_idf(self, words: Sequence[str]) -> list[dict[tuple[str, ...], float]]:
        vectors: list[dict[tuple[str, ...], float]] = [{} for _ in range(4)]
        for ngram, count in Counter(_ngrams(words)).items():
            idf = self._log_count - math.log(max(self._document_frequency[ngram], 1))
            vectors[len(ngram) - 1][ngram] = count * idf
        return vectors


def _ngrams(words: Sequence[str]) -> Iterable[tuple[str, ...]]:
    for order in range(1, 5):
        yield from zip(*(words[start:] for start in range(order)), strict=False)


def _clipped_cosine(
    draft: dict[tuple[str, ...], float], reference: dict[tuple[str, ...], float]
) -> float:
    dot = math.fsum(
        min(value, reference[ngram]) * reference[ngram]
        for ngram, value in draft.items()
        if ngram in reference
    )
    norm = math.hypot(*draft.values()) * math.hypot(*reference.values())
    return dot / norm if norm else 0.0
