"""Nearest neighbours through Chroma's graph, made complete where the graph alone would not be."""

import numpy as np
from numpy.typing import NDArray

from rag.errors import StoreError
from rag.store.catalogue import Catalogue, Rows
from rag.store.chroma import ChromaIndex
from rag.store.client import REBUILD_HINT
from rag.store.exact import Search

_MOST_FETCHED = 512  # neighbours to ask the graph for; exact search is as quick beyond


class GraphSearch:
    """A `rag.store.exact.Search` through Chroma's graph; exact where that is the wrong tool."""

    def __init__(self, index: ChromaIndex, catalogue: Catalogue, exact: Search) -> None:
        self._index = index
        self._catalogue = catalogue
        self._exact = exact

    def nearest(
        self, queries: NDArray[np.float32], k: int, *, excluded: Rows, distinct: bool = False
    ) -> list[Rows]:
        """See `rag.store.exact.Search`.

        More are fetched by as many as are excluded, which keeps the graph's recall and speed; a
        filter inside Chroma loses both. The graph holds each text once: the reports that share it
        are added here, whether or not they count once.
        """
        fetched = k + len(excluded)
        if fetched > _MOST_FETCHED or fetched >= len(self._catalogue):
            return self._exact.nearest(queries, k, excluded=excluded, distinct=distinct)
        row_of, texts = self._catalogue.row_of, self._catalogue.texts
        candidates = []
        for report_ids in self._index.nearest(queries, fetched):
            try:
                rows = [row_of[report_id] for report_id in report_ids]
            except KeyError as error:
                raise StoreError(f"Chroma holds a report that we do not: {REBUILD_HINT}") from error
            # the first ones are enough: more than these are neither wanted nor excluded
            found = [texts.members(code)[:fetched] for code in texts.codes[rows].tolist()]
            candidates.append(np.concatenate(found))
        return candidates
