"""Exact nearest neighbours with numpy, and the one way similarities are computed.

Works on float32 [R, dim] unit rows, mapped from the disk or in memory, some of them equal. Knows
nothing of reports.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rag.store.catalogue import Groups, Rows

_TIE = 1e-6  # more than float32 can be wrong by, for unit vectors of 2048 dimensions or fewer
_CELLS = 2**25  # similarities held at a time: 128 MB
_GATHERED = 4096  # rows copied at a time


class Search(Protocol):
    """Finds candidates for the nearest rows."""

    def nearest(
        self, queries: NDArray[np.float32], k: int, *, excluded: Rows, distinct: bool = False
    ) -> list[Rows]:
        """Rows among which the ``k`` nearest to each query are, whatever their order.

        Rows that are as near as the k-th are all there, so that ties can be broken by the caller.

        Args:
            queries: float32 [N, dim], rows of norm 1.
            k: how many are wanted.
            excluded: rows that do not count; they may be among the candidates.
            distinct: rows of one text count once, so more rows are needed; of each text that is
                among the candidates, the first row that is not excluded is.
        """


class ExactSearch:
    """Looks at every vector.

    Args:
        vectors: float32 [R, dim], rows of norm 1.
        texts: which rows have equal texts, and so equal vectors; None: no two.
    """

    def __init__(self, vectors: NDArray[np.float32], texts: Groups | None = None) -> None:
        self._vectors = vectors
        self._texts = texts

    def nearest(
        self, queries: NDArray[np.float32], k: int, *, excluded: Rows, distinct: bool = False
    ) -> list[Rows]:
        """See `Search`; here nothing excluded is among the candidates."""
        rows = len(self._vectors)
        if distinct and self._texts is not None:
            excluded = np.concatenate([excluded, self._texts.repeats(excluded)])
        candidates = []
        for similarities in self._similarities(queries):
            similarities[excluded] = -np.inf
            floor = np.float32(-np.inf)
            if k < rows:
                floor = np.partition(similarities, rows - k)[rows - k]
            near = (similarities >= floor - _TIE) & (similarities > -np.inf)
            candidates.append(np.flatnonzero(near))
        return candidates

    def _similarities(self, queries: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """All similarities, a query at a time: float32 [R], the caller's to change."""
        if len(queries) == 1:
            # einsum, because BLAS answers one query no faster on an idle machine, and 100 times
            # slower on a busy one, where its threads wait for each other
            yield np.einsum("rd,d->r", self._vectors, queries[0])
            return
        step = max(1, _CELLS // max(1, len(self._vectors)))
        for start in range(0, len(queries), step):
            yield from queries[start : start + step] @ self._vectors.T


def cosines(
    vectors: NDArray[np.float32], rows: Rows, query: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Similarities of some rows to a query: float64 [len(rows)] in [-1, 1].

    Row by row in double precision, so that a row's similarity does not depend on the mode that
    found it nor on the rows beside it, and equal vectors have equal similarities.
    """
    wide = query.astype(np.float64)
    found = np.empty(len(rows))
    for start in range(0, len(rows), _GATHERED):
        part = vectors[rows[start : start + _GATHERED]].astype(np.float64)
        found[start : start + len(part)] = np.einsum("rd,d->r", part, wide)
    return np.clip(found, -1.0, 1.0, out=found)
