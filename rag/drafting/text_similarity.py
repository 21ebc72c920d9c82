"""Word-overlap similarity between drafts and a pool of reference texts: n-grams and ROUGE-L."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Words = tuple[str, ...]
Floats = NDArray[np.float64]

NGRAM_ORDERS = 4
"""N-grams of one to four words. Arrays hold the order minus one: 0 for unigrams."""
_HASH_BASE = np.uint64(0x9E3779B97F4A7C15)
"""Base of the polynomial hash of an n-gram's words: odd, about 2^64 / golden ratio."""


class ReferenceNgrams:
    """How often each n-gram occurs in each reference, and its inverse document frequency.

    Attributes:
        ids: of all distinct n-grams, sorted, uint64 [n-grams].
        orders: words in each, minus one, int [n-grams].
        counts: sparse float64 [references, n-grams].
        idf: log(references / references that contain the n-gram), float64 [n-grams].
    """

    def __init__(self, references: Sequence[Words]) -> None:
        rows = [_count_ngrams(words) for words in references]
        ids = np.concatenate([row.ids for row in rows])
        self.ids, columns = np.unique(ids, return_inverse=True)
        self.orders = np.zeros(len(self.ids), int)
        self.orders[columns] = np.concatenate([row.orders for row in rows])
        self.counts = _count_matrix(columns, rows, len(self.ids))
        self.idf = np.log(len(references) / np.bincount(columns, minlength=len(self.ids)))

    def count(self, texts: Sequence[Words]) -> csr_matrix:
        """N-gram counts of texts taken from the references: sparse float64 [texts, n-grams]."""
        rows = [_count_ngrams(words) for words in texts]
        columns = np.searchsorted(self.ids, np.concatenate([row.ids for row in rows]))
        return _count_matrix(columns, rows, len(self.ids))

    def centrality(self, sentences: csr_matrix, weights: Floats) -> Floats:
        """Weighted mean cosine of sentences with the references: float64 [sentences]."""
        centroid = (weights / _norms(self.counts)) @ self.counts
        return np.asarray(sentences @ centroid / _norms(sentences))


class _NgramCounts(NamedTuple):
    """The distinct n-grams of one text."""

    ids: NDArray[np.uint64]
    counts: Floats
    orders: NDArray[np.int8]


@lru_cache(maxsize=30_000)
def _count_ngrams(words: Words) -> _NgramCounts:
    word_ids = np.array([_word_id(word) for word in words], np.uint64)
    by_order, ids = [], np.zeros(len(words) + 1, np.uint64)
    for n in range(NGRAM_ORDERS):
        ids = ids[:-1] * _HASH_BASE + word_ids[n:]
        by_order.append(np.unique(ids, return_counts=True))
    return _NgramCounts(
        ids=np.concatenate([ids for ids, _ in by_order]),
        counts=np.concatenate([counts for _, counts in by_order]).astype(float),
        orders=np.repeat(np.arange(NGRAM_ORDERS, dtype=np.int8), [len(ids) for ids, _ in by_order]),
    )


@lru_cache(maxsize=100_000)
def _word_id(word: str) -> int:
    """The same in every process, so that sums have one order and ties one winner."""
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest())


def _count_matrix(
    columns: NDArray[np.int64], rows: Sequence[_NgramCounts], width: int
) -> csr_matrix:
    row_starts = np.concatenate([[0], np.cumsum([len(row.ids) for row in rows])])
    counts = np.concatenate([row.counts for row in rows])
    return csr_matrix((counts, columns, row_starts), shape=(len(rows), width))


def _norms(rows: csr_matrix) -> Floats:
    squares = rows.multiply(rows).sum(1)
    return np.asarray(np.sqrt(np.maximum(np.asarray(squares).ravel(), 1.0)))


_MAX_LCS_WORDS = 64
"""One bit per word of a reference; later words are not compared."""


class RougeLScorer:
    """Longest common subsequences (LCS) with a set of references, all at once.

    Bit-parallel (Hyyrö, "Bit-parallel LCS-length computation revisited", 2004): a machine word
    holds one reference's row of the dynamic programme.
    """

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        self._lengths = np.array([len(words) for words in references], float)
        self._vocabulary: dict[str, int] = {}
        compared = [words[:_MAX_LCS_WORDS] for words in references]
        rows = [
            self._vocabulary.setdefault(word, len(self._vocabulary))
            for words in compared
            for word in words
        ]
        columns = np.repeat(np.arange(len(references)), [len(words) for words in compared])
        places = np.array([place for words in compared for place in range(len(words))], np.uint64)
        # bit i of [word, reference]: it is word i of the reference; the last row is for other words
        self._positions = np.zeros((len(self._vocabulary) + 1, len(references)), np.uint64)
        bits = np.left_shift(np.uint64(1), places)
        np.bitwise_or.at(self._positions, (np.array(rows, np.int64), columns), bits)

    def f1(self, drafts: Sequence[Sequence[str]]) -> Floats:
        """ROUGE-L F1 of each draft with each reference: float64 [drafts, references]."""
        lengths = np.array([len(draft) for draft in drafts], float)
        words = np.full((len(drafts), int(lengths.max(initial=0))), -1)
        for row, draft in zip(words, drafts, strict=True):
            row[: len(draft)] = [self._vocabulary.get(word, -1) for word in draft]
        free = np.full((len(drafts), self._positions.shape[1]), np.iinfo(np.uint64).max)
        for column in words.T:
            matched = free & self._positions[column]
            free = (free + matched) | (free - matched)
        lcs = np.bitwise_count(~free).astype(float)
        return np.asarray(2 * lcs / np.maximum(lengths[:, None] + self._lengths, 1.0))
