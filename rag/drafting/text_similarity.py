"""How alike a draft and each text of a pool are: word n-grams and longest common subsequences."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Words = tuple[str, ...]
Floats = NDArray[np.float64]
Ids = NDArray[np.uint64]

ORDERS = 4
"""N-grams of one to so many words."""
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""Odd, about 2^64 / golden ratio: of the polynomial whose coefficients are an n-gram's words."""


class NgramPool:
    """How often each n-gram is in each text of a pool.

    Attributes:
        ids: of all n-grams of the pool, rising, uint64 [n-grams].
        orders: words of each, less one, int [n-grams].
        counts: float64 [texts, n-grams].
        rarity: log of the inverse share of the texts that have it, float64 [n-grams].
    """

    def __init__(self, texts: Sequence[Words]) -> None:
        rows = [_ngrams(words) for words in texts]
        self.ids, columns = np.unique(np.concatenate([r[0] for r in rows]), return_inverse=True)
        self.orders = np.zeros(len(self.ids), int)
        self.orders[columns] = np.concatenate([orders for _, _, orders in rows])
        self.counts = _matrix(columns, rows, len(self.ids))
        self.rarity = np.log(len(texts) / np.bincount(columns, minlength=len(self.ids)))

    def rows(self, texts: Sequence[Words]) -> csr_matrix:
        """The same of texts that only have n-grams of the pool: float64 [texts, n-grams]."""
        rows = [_ngrams(words) for words in texts]
        columns = np.searchsorted(self.ids, np.concatenate([ids for ids, _, _ in rows]))
        return _matrix(columns, rows, len(self.ids))

    def typical(self, sentences: csr_matrix, weights: Floats) -> Floats:
        """Weighted mean cosine of sentences with the texts of the pool: float64 [sentences]."""
        mean = (weights / _lengths(self.counts)) @ self.counts
        return np.asarray(sentences @ mean / _lengths(sentences))


@lru_cache(maxsize=30_000)
def _ngrams(words: Words) -> tuple[Ids, Floats, NDArray[np.int8]]:
    """Id, count and order (words less one) of each distinct n-gram."""
    single = np.array([_id(word) for word in words], np.uint64)
    found, ids = [], np.zeros(len(words) + 1, np.uint64)
    for n in range(ORDERS):
        ids = ids[:-1] * _FACTOR + single[n:]
        found.append(np.unique(ids, return_counts=True))
    orders = np.repeat(np.arange(ORDERS, dtype=np.int8), [len(each) for each, _ in found])
    counts = np.concatenate([count for _, count in found]).astype(float)
    return np.concatenate([each for each, _ in found]), counts, orders


@lru_cache(maxsize=100_000)
def _id(word: str) -> int:
    """The same in every process, so that sums are added up in one order and ties fall alike."""
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest())


def _matrix(
    columns: NDArray[np.int64], rows: Sequence[tuple[Ids, Floats, NDArray[np.int8]]], width: int
) -> csr_matrix:
    starts = np.concatenate([[0], np.cumsum([len(ids) for ids, _, _ in rows])])
    counts = np.concatenate([counts for _, counts, _ in rows])
    return csr_matrix((counts, columns, starts), shape=(len(rows), width))


def _lengths(rows: csr_matrix) -> Floats:
    squares = rows.multiply(rows).sum(1)
    return np.asarray(np.sqrt(np.maximum(np.asarray(squares).ravel(), 1.0)))


_BITS = 64
"""Words of a text that are compared; of longer ones the first."""


class Subsequences:
    """What drafts have in common with some texts, in order."""

    def __init__(self, texts: Sequence[Sequence[str]]) -> None:
        self._lengths = np.array([len(text) for text in texts], float)
        self._row: dict[str, int] = {}
        compared = [text[:_BITS] for text in texts]
        rows = [self._row.setdefault(word, len(self._row)) for text in compared for word in text]
        columns = np.repeat(np.arange(len(texts)), [len(text) for text in compared])
        places = np.array([place for text in compared for place in range(len(text))], np.uint64)
        self._where = np.zeros((len(self._row) + 1, len(texts)), np.uint64)
        bits = np.left_shift(np.uint64(1), places)
        np.bitwise_or.at(self._where, (np.array(rows, np.int64), columns), bits)

    def f1(self, drafts: Sequence[Sequence[str]]) -> Floats:
        """ROUGE-L's F1 of each draft with each text: float64 [drafts, texts]."""
        lengths = np.array([len(draft) for draft in drafts], float)
        words = np.full((len(drafts), int(lengths.max(initial=0))), -1)  # a word of no text
        for row, draft in zip(words, drafts, strict=True):
            row[: len(draft)] = [self._row.get(word, -1) for word in draft]
        free = np.full((len(drafts), self._where.shape[1]), np.iinfo(np.uint64).max)
        for column in words.T:
            matched = free & self._where[column]
            free = (free + matched) | (free - matched)
        common = np.bitwise_count(~free).astype(float)
        return np.asarray(2 * common / np.maximum(lengths[:, None] + self._lengths, 1.0))
