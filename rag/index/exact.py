"""Exact nearest neighbours: numpy over the vectors that Chroma gives back.

For tests and small collections; the yardstick of what the graph finds. Reading the vectors takes
about half a millisecond each, once.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Neighbours = tuple[list[str], list[float]]
"""Ids and cosine similarities in [-1, 1], nearest first."""


class ExactSearch:
    """Looks at every vector.

    Args:
        ids: of the rows.
        vectors: float32 [R, dim], rows of norm 1.
    """

    def __init__(self, ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        order = np.argsort(np.asarray(ids, dtype=np.str_), kind="stable")
        self.ids = [ids[place] for place in order]
        self.vectors = vectors[order]

    def nearest(self, queries: NDArray[np.float32], n: int) -> list[Neighbours]:
        """The ``n`` nearest to each row of ``queries`` (float32 [N, dim], norm 1), ties by id."""
        answers = []
        for query in queries:
            # einsum, because BLAS answers one query no faster on an idle machine, and 100 times
            # slower on a busy one, where its threads wait for each other
            similarities = np.einsum("rd,d->r", self.vectors, query)
            near = np.arange(len(similarities))
            if n < len(near):
                near = np.sort(np.argpartition(-similarities, n)[:n])
            near = near[np.argsort(-similarities[near], kind="stable")]
            found = np.clip(similarities[near], -1.0, 1.0)
            answers.append(([self.ids[row] for row in near], found.tolist()))
        return answers
