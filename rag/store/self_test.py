"""How much of the true neighbourhood a search finds, asked with queries that are like images.

Image vectors lie far from every text vector, which is where graph indexes lose neighbours. So the
test asks with images of the index, or, where it holds none, with text vectors moved far away.
Images
that readers bring are not kept for it, and drawn ones are too like each other to be a sample (mean
cosine of two .95, of two Open-I images .20). Knows nothing of reports.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rag.store.exact import ExactSearch, Search, cosines

WANTED = 0.99
BROKEN = 0.5
"""Recall that no graph has by its nature: files are missing, which Chroma does not say."""

SAMPLE = 32
"""Queries of a self-test."""
_COSINE = 0.35  # of an image to its own report, as contrastive encoders have it
_TIE = 1e-6


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Recall@k of a search against exact search.

    Attributes:
        recall: share of the true ``k`` nearest that were found, in [0, 1], higher is better;
            another report that is just as near counts as found.
        queries: how many were asked.
        k: how many neighbours were compared.
        source: where the queries came from.
    """

    recall: float
    queries: int
    k: int
    source: str

    @property
    def passed(self) -> bool:
        """Whether it is good enough to trust the search."""
        return self.recall >= WANTED

    def __str__(self) -> str:
        return f"recall@{self.k} {self.recall:.3f} on {self.queries} {self.source}"


def measure_recall(
    search: Search,
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32] | None = None,
    *,
    k: int = 10,
) -> SelfTest:
    """Ask the same of a search and of `ExactSearch`, and compare.

    Args:
        search: what is tested.
        vectors: float32 [R, dim] of the index, rows of norm 1.
        queries: image vectors, float32 [N, dim], rows of norm 1; None makes some.
        k: neighbours to compare.
    """
    source = "image queries" if queries is not None else "perturbed text vectors"
    asked = image_like(vectors, SAMPLE) if queries is None else queries
    k = min(k, len(vectors))
    if not k or not len(asked):
        return SelfTest(1.0, 0, k, source)
    nothing = np.empty(0, np.intp)
    truth = ExactSearch(vectors).nearest(asked, k, excluded=nothing)
    found = search.nearest(asked, k, excluded=nothing)
    hits = 0
    for query, true, near in zip(asked, truth, found, strict=True):
        floor = np.sort(cosines(vectors, true, query))[-k]
        hits += min(k, int((cosines(vectors, near, query) >= floor - _TIE).sum()))
    return SelfTest(hits / (k * len(asked)), len(asked), k, source)


def image_like(vectors: NDArray[np.float32], count: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Text vectors moved as far away as images are from their reports: float32 [count, dim]."""
    rng = np.random.default_rng(seed)
    if not len(vectors):
        return np.empty((0, vectors.shape[1]), np.float32)
    chosen = vectors[rng.integers(0, len(vectors), count)]
    noise = rng.standard_normal(chosen.shape)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    moved = _COSINE * chosen + np.sqrt(1 - _COSINE**2) * noise
    return np.asarray(moved / np.linalg.norm(moved, axis=1, keepdims=True), np.float32)
