"""Word n-grams of a pool of texts as a sparse matrix, and how alike a draft and each text are."""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Words = tuple[str, ...]
Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

ORDERS = 4
"""N-grams of one to so many words."""


class NgramPool:
    """How often each n-gram is in each text of a pool.

    Attributes:
        ids: of all n-grams of the pool, rising, int64 [n-grams].
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
    """Hash, count and order (words less one) of each distinct n-gram."""
    grams = (zip(*(words[at:] for at in range(n)), strict=False) for n in range(1, ORDERS + 1))
    counts = Counter(chain.from_iterable(grams))
    ids = np.fromiter(map(hash, counts), np.int64, len(counts))
    orders = np.fromiter((len(gram) - 1 for gram in counts), np.int8, len(counts))
    return ids, np.fromiter(counts.values(), float, len(counts)), orders


def _matrix(
    columns: Ids, rows: Sequence[tuple[Ids, Floats, NDArray[np.int8]]], width: int
) -> csr_matrix:
    starts = np.concatenate([[0], np.cumsum([len(ids) for ids, _, _ in rows])])
    counts = np.concatenate([counts for _, counts, _ in rows])
    return csr_matrix((counts, columns, starts), shape=(len(rows), width))


def _lengths(rows: csr_matrix) -> Floats:
    return np.sqrt(np.maximum(np.asarray(rows.multiply(rows).sum(1)).ravel(), 1.0))
