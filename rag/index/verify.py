"""Checks that an index is whole, or says what is wrong with it and what to do. Changes nothing."""

import hashlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag.atomic_io import explain_disk_errors
from rag.errors import StoreError
from rag.index.chroma import VectorCollection, open_collections
from rag.index.client import Place, place_of
from rag.index.content import by_text
from rag.index.embedding import EmbeddingCache
from rag.index.ids import ReportIds, id_rows
from rag.index.info import REBUILD_HINT, REINDEX_HINT, IndexInfo, read_info
from rag.index.version import read_content

_SAMPLE, _K = 64, 10
_WANTED = 0.99
_SAME = 1e-6


@dataclass(frozen=True, slots=True)
class IndexCheck:
    """One thing that was looked at."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify_index` found."""

    checks: tuple[IndexCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether the index is whole."""
        return all(check.passed for check in self.checks)


def verify_index(directory: Path, *, url: str = "") -> VerifyReport:
    """Look at every record and every vector, and measure what the graph finds of them.

    Raises:
        StoreMissingError: nothing has been indexed here.
        StoreError: ``index.json`` is damaged; the message says what helps.
    """
    info = read_info(directory)
    place = place_of(directory, info, url)
    checks = []
    for name, look in _LOOKS.items():
        try:
            with explain_disk_errors(directory, StoreError):
                checks.append(IndexCheck(name, True, look(directory, info, place)))
        except StoreError as error:
            checks.append(IndexCheck(name, False, str(error)))
    return VerifyReport(tuple(checks))


def _records(directory: Path, info: IndexInfo, place: Place) -> str:
    """Every report is there once, word for word as it was indexed, and in the list of ids."""
    content = read_content(directory, info, place.url)
    texts = by_text(content.records)
    with closing(ReportIds(place.folder.parent)) as ids:
        if ids.rows() != sorted(id_rows(texts)):
            raise StoreError(f"the list of report ids is not that of the records: {REBUILD_HINT}")
    return f"{info.count} reports of {len(texts)} texts and {info.images} images, as indexed"


def _vectors(directory: Path, info: IndexInfo, place: Place) -> str:
    """Vectors are those that were embedded, as far as the cache still has them."""
    if not info.texts:
        return "nothing to compare"
    with open_collections(place) as (texts, _):
        ids = texts.ids()
        vectors = texts.vectors(ids)
    whole = vectors.shape == (info.texts, info.dim)
    if not whole or not abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-3:
        raise StoreError(f"a vector is missing, not finite or not of norm 1: {REINDEX_HINT}")
    cache = EmbeddingCache(directory, info, changes=False)
    known = [row for row, name in enumerate(ids) if name in cache]
    if known and abs(vectors[known] - cache.vectors([ids[row] for row in known])).max() > 1e-5:
        raise StoreError(f"a vector is not the one that was embedded: {REBUILD_HINT}")
    return f"{len(vectors)} vectors of norm 1, {len(known)} compared with what was embedded"


def _neighbours(_: Path, info: IndexInfo, place: Place) -> str:
    """What the graph finds, asked with images of the index, or where it has none with its texts."""
    if not info.texts:
        return "nothing to find"
    with open_collections(place) as (texts, images):
        asked, what = (images, "images") if info.images else (texts, "texts")
        names = sorted(asked.ids(), key=lambda name: hashlib.sha256(name.encode()).digest())
        if not (names and texts.count()):
            raise StoreError(f"Chroma lacks all {what}: {REINDEX_HINT}")
        queries = asked.vectors(names[:_SAMPLE])
        recall = recall_of(texts, queries, k=min(_K, info.texts))
    if recall < _WANTED:
        raise StoreError(f"recall@{_K} of {what} is {recall:.3f}: {REBUILD_HINT}")
    return f"recall@{_K} {recall:.3f} against exact search, {len(queries)} {what}"


_LOOKS = {"records": _records, "vectors": _vectors, "neighbours": _neighbours}


def recall_of(texts: VectorCollection, queries: NDArray[np.float32], *, k: int) -> float:
    """Share of the true ``k`` nearest that a search finds, or others as near, in [0, 1]."""
    ids = texts.ids()
    similarities = queries @ texts.vectors(ids).T
    floors = np.partition(similarities, -k, axis=1)[:, -k]
    row_of = {name: row for row, name in enumerate(ids)}
    hits = 0
    for query, near, floor in zip(queries, similarities, floors, strict=True):
        found = [row_of[name] for name, _, _ in texts.nearest(query, k) if name in row_of]
        hits += int((near[found] >= floor - _SAME).sum())
    return hits / (k * len(queries))
