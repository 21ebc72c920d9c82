"""How many reports, and how unlike each other: adaptive k and maximal marginal relevance."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rag.schema import Hit


def cut_at_drop(hits: Sequence[Hit], *, drop: float, least: int = 1) -> list[Hit]:
    """Leave out what is much less similar than the nearest.

    Args:
        hits: nearest first.
        drop: the largest difference of cosine similarity to the nearest that is kept.
        least: so many are kept in any case.
    """
    if not hits:
        return []
    floor = hits[0].similarity - drop
    return [hit for at, hit in enumerate(hits) if at < least or hit.similarity >= floor]


def diversify(
    hits: Sequence[Hit], vectors: NDArray[np.float32], *, k: int, relevance: float
) -> list[Hit]:
    """Maximal marginal relevance: near to the image, unlike what was chosen before.

    Source: Carbonell & Goldstein, SIGIR 1998.

    Args:
        hits: nearest first.
        vectors: of their texts, float32 [len(hits), D], rows of norm 1.
        k: how many to choose.
        relevance: 1 looks at similarity to the image only, 0 at unlikeness only.
    """
    similar = vectors @ vectors.T
    left, chosen = list(range(len(hits))), list[int]()
    while left and len(chosen) < k:
        twin = similar[:, chosen].max(axis=1) if chosen else np.zeros(len(hits))
        best = max(left, key=lambda i: relevance * hits[i].similarity - (1 - relevance) * twin[i])
        chosen.append(best)
        left.remove(best)
    return [hits[i] for i in chosen]
