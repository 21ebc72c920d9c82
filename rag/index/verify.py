"""Verifies an index: what is wrong with it, and what to do. Changes nothing."""

import hashlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag.atomic_io import explain_disk_errors
from rag.errors import StoreError
from rag.index.chroma import VectorCollection, open_collections
from rag.index.client import ChromaLocation, chroma_location
from rag.index.content import group_by_text
from rag.index.embedding import EmbeddingCache
from rag.index.ids import ReportIds, id_rows
from rag.index.info import REBUILD_HINT, REINDEX_HINT, IndexInfo, read_info
from rag.index.version import read_content

_MAX_QUERIES, _K = 64, 10
_MIN_RECALL = 0.99
_SIMILARITY_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class IndexCheck:
    """The outcome of one check."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The outcome of `verify_index`."""

    checks: tuple[IndexCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


def verify_index(directory: Path, *, url: str = "") -> VerifyReport:
    """Check every record and every vector, and measure the recall of searches.

    Raises:
        StoreMissingError: the index does not exist.
        StoreError: ``index.json`` is damaged; the message says what to do.
    """
    info = read_info(directory)
    location = chroma_location(directory, info, url)
    checks = []
    for name, check in _CHECKS.items():
        try:
            with explain_disk_errors(directory, StoreError):
                checks.append(IndexCheck(name, True, check(directory, info, location)))
        except StoreError as error:
            checks.append(IndexCheck(name, False, str(error)))
    return VerifyReport(tuple(checks))


def _check_records(directory: Path, info: IndexInfo, location: ChromaLocation) -> str:
    """Every report is there once, word for word as it was indexed, and in the list of ids."""
    content = read_content(directory, info, location.url)
    texts = group_by_text(content.records)
    with closing(ReportIds(location.folder.parent)) as ids:
        if ids.rows() != sorted(id_rows(texts)):
            raise StoreError(f"the list of report ids is not that of the records: {REBUILD_HINT}")
    return f"{info.count} reports of {len(texts)} texts and {info.images} images, as indexed"


def _check_vectors(directory: Path, info: IndexInfo, location: ChromaLocation) -> str:
    """Vectors have norm 1 and, where cached, are those that were embedded."""
    if not info.texts:
        return "nothing to compare"
    with open_collections(location) as (texts, _):
        ids = texts.ids()
        vectors = texts.vectors(ids)
    complete = vectors.shape == (info.texts, info.dim)
    if not complete or not abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-3:
        raise StoreError(f"a vector is missing, not finite or not of norm 1: {REINDEX_HINT}")
    cache = EmbeddingCache(directory, info, read_only=True)
    cached = [row for row, name in enumerate(ids) if name in cache]
    if cached and abs(vectors[cached] - cache.vectors([ids[row] for row in cached])).max() > 1e-5:
        raise StoreError(f"a vector is not the one that was embedded: {REBUILD_HINT}")
    return f"{len(vectors)} vectors of norm 1, {len(cached)} compared with what was embedded"


def _check_neighbours(_: Path, info: IndexInfo, location: ChromaLocation) -> str:
    """Searches for indexed images, or for texts if there are none, have enough recall."""
    if not info.texts:
        return "nothing to find"
    with open_collections(location) as (texts, images):
        queried, kind = (images, "images") if info.images else (texts, "texts")
        names = sorted(queried.ids(), key=lambda name: hashlib.sha256(name.encode()).digest())
        if not (names and texts.count()):
            raise StoreError(f"Chroma lacks all {kind}: {REINDEX_HINT}")
        queries = queried.vectors(names[:_MAX_QUERIES])
        recall = measure_recall(texts, queries, k=min(_K, info.texts))
    if recall < _MIN_RECALL:
        raise StoreError(f"recall@{_K} of {kind} is {recall:.3f}: {REBUILD_HINT}")
    return f"recall@{_K} {recall:.3f} against exact search, {len(queries)} {kind}"


_CHECKS = {"records": _check_records, "vectors": _check_vectors, "neighbours": _check_neighbours}


def measure_recall(texts: VectorCollection, queries: NDArray[np.float32], *, k: int) -> float:
    """Share of the true ``k`` nearest (or equally near) that a search finds, in [0, 1]."""
    ids = texts.ids()
    similarities = queries @ texts.vectors(ids).T
    thresholds = np.partition(similarities, -k, axis=1)[:, -k] - _SIMILARITY_TOLERANCE
    row_of = {name: row for row, name in enumerate(ids)}
    hits = 0
    for query, row_similarities, threshold in zip(queries, similarities, thresholds, strict=True):
        found = [row_of[name] for name, _, _ in texts.nearest(query, k) if name in row_of]
        hits += int((row_similarities[found] >= threshold).sum())
    return hits / (k * len(queries))
