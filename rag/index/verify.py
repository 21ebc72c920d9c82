"""Checks that an index is whole, or says what is wrong with it and what to do. Changes nothing."""

import hashlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag.corpus.records import fingerprint, text_hash
from rag.errors import StoreError
from rag.index.chroma import VectorCollection, open_collections
from rag.index.client import place_of
from rag.index.content import read_images, read_texts
from rag.index.embedding import EmbeddingCache
from rag.index.ids import ReportIds
from rag.index.info import REBUILD_HINT, REINDEX_HINT, IndexInfo, read_info
from rag.schema import ReportRecord

_SAMPLE, _K = 64, 10
_WANTED = 0.99
_SAME = 1e-6

Found = dict[str, list[ReportRecord]]
"""Reports by text id, as far as they can be read."""


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
    checks: list[IndexCheck] = []

    def check(name: str, look: Callable[[], str]) -> None:
        """Run one look; what it returns is the detail, what it raises is the fault."""
        try:
            checks.append(IndexCheck(name, True, look()))
        except StoreError as error:
            checks.append(IndexCheck(name, False, str(error)))

    try:
        with open_collections(place) as (texts, images):
            found: Found = {}
            check("records", lambda: _records(info, texts, found))
            check("ids", lambda: _ids(place.folder.parent, found))
            check("images", lambda: _images(info, images, found))
            check("vectors", lambda: _vectors(directory, info, texts))
            check("neighbours", lambda: _neighbours(info, texts, images))
    except StoreError as error:
        checks.append(IndexCheck("Chroma", False, str(error)))
    return VerifyReport(tuple(checks))


def _records(info: IndexInfo, texts: VectorCollection, found: Found) -> str:
    """Every report is there once, word for word as it was indexed; puts them into ``found``."""
    found |= read_texts(texts)
    records = sorted((r for reports in found.values() for r in reports), key=lambda r: r.report_id)
    ids = {record.report_id for record in records}
    if len(ids) < len(records):
        raise StoreError(f"{len(records) - len(ids)} reports stand twice: {REINDEX_HINT}")
    if len(records) != info.count:
        raise StoreError(f"{len(records)} reports, {info.count} expected: {REINDEX_HINT}")
    wrong = any(text_hash(r.text) != text_id for text_id, reports in found.items() for r in reports)
    if wrong or fingerprint(records) != info.fingerprint:
        raise StoreError(f"a report is not as it was indexed: {REINDEX_HINT}")
    return f"{len(records)} reports of {len(found)} texts, as they were indexed"


def _ids(folder: Path, found: Found) -> str:
    expected = sorted(
        (record.report_id, record.study_id, record.patient_id, text_id, len(reports))
        for text_id, reports in found.items()
        for record in reports
    )
    with closing(ReportIds(folder)) as ids:
        if ids.rows() != expected:
            raise StoreError(f"the list of report ids is not that of the records: {REBUILD_HINT}")
    return f"{len(expected)} reports, with their studies and patients"


def _images(info: IndexInfo, images: VectorCollection, found: Found) -> str:
    known = {record.report_id for reports in found.values() for record in reports}
    reports = read_images(images).values()
    if len(reports) != info.images or not all(of and known.issuperset(of) for of in reports):
        raise StoreError(f"the images are not those of the reports: {REINDEX_HINT}")
    return f"{len(reports)} images"


def _vectors(directory: Path, info: IndexInfo, texts: VectorCollection) -> str:
    """Vectors are those that were embedded, as far as the cache still has them."""
    ids = texts.ids()
    vectors = texts.vectors(ids) if ids else np.empty((0, info.dim), np.float32)
    norms = np.linalg.norm(vectors, axis=1)
    if vectors.shape[1] != info.dim or (len(norms) and not abs(norms - 1).max() < 1e-3):
        raise StoreError(f"a vector is not finite or not of norm 1: {REINDEX_HINT}")
    cache = EmbeddingCache(directory, info, changes=False)
    known = [row for row, name in enumerate(ids) if name in cache]
    if known and abs(vectors[known] - cache.vectors([ids[row] for row in known])).max() > 1e-5:
        raise StoreError(f"a vector is not the one that was embedded: {REBUILD_HINT}")
    return f"{len(vectors)} vectors of norm 1, {len(known)} compared with what was embedded"


def _neighbours(info: IndexInfo, texts: VectorCollection, images: VectorCollection) -> str:
    """What the graph finds, asked with images of the index, or where it has none with its texts."""
    if not info.texts:
        return "nothing to find"
    asked, what = (images, "images") if info.images else (texts, "texts")
    names = sorted(asked.ids(), key=lambda name: hashlib.sha256(name.encode()).digest())
    queries = asked.vectors(names[:_SAMPLE])
    recall = recall_of(texts, queries, k=min(_K, info.texts))
    if recall < _WANTED:
        raise StoreError(f"recall@{_K} of {what} is {recall:.3f}: {REBUILD_HINT}")
    return f"recall@{_K} {recall:.3f} against exact search, {len(queries)} {what}"


def recall_of(texts: VectorCollection, queries: NDArray[np.float32], *, k: int) -> float:
    """Share of the true ``k`` nearest that a search finds, or others as near, in [0, 1]."""
    ids = texts.ids()
    similarities = queries @ texts.vectors(ids).T
    floors = np.partition(similarities, -k, axis=1)[:, -k]
    row_of = {name: row for row, name in enumerate(ids)}
    hits = 0
    for near, floor, (found, _) in zip(
        similarities, floors, texts.nearest(queries, k), strict=True
    ):
        hits += sum(near[row_of[name]] >= floor - _SAME for name in found if name in row_of)
    return float(hits / (k * len(queries)))
