"""Proves that an index is whole, or says what is wrong with it and what mends it. Changes nothing.

Knows what an edition must look like; does not know encoders.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag.corpus import fingerprint, text_hash
from rag.errors import StoreError, StoreInUseError
from rag.index.embedding import sentences_of
from rag.store.catalogue import Edition, open_edition
from rag.store.chroma import ChromaIndex, chroma_metadata
from rag.store.client import REBUILD_HINT
from rag.store.exact import ExactSearch
from rag.store.files import REINDEX_HINT, Manifest, check_files
from rag.store.graph_search import GraphSearch
from rag.store.opening import open_chroma
from rag.store.self_test import measure_recall
from rag.store.side import Kind, read_sides

_SAMPLE = 100
_PROBES = 64


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify_index` found."""

    index_id: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether the index is whole."""
        return all(check.passed for check in self.checks)


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """An index as it is shown to users.

    Attributes:
        directory, edition: where it is, and the folder that counts.
        manifest: what it was made with.
        bytes_on_disk: of that folder.
        beside: how many vectors there are of sentences and of images.
    """

    directory: Path
    edition: str
    manifest: Manifest
    bytes_on_disk: int
    beside: dict[Kind, int]


def index_info(directory: Path) -> IndexInfo:
    """What is in a store; may be asked while another process owns it.

    Raises:
        StoreMissingError: nothing has been indexed here.
        StoreError: it is damaged.
    """
    edition = open_edition(directory)
    sizes = (path.stat().st_size for path in edition.path.rglob("*") if path.is_file())
    beside = {kind: len(side.reports) for kind, side in read_sides(edition).items()}
    return IndexInfo(directory, edition.path.name, edition.manifest, sum(sizes), beside)


def verify_index(directory: Path) -> VerifyReport:
    """Look at every file, every record and every vector, and ask Chroma for a sample of each.

    Raises:
        StoreMissingError: nothing has been indexed here.
        StoreInUseError: another process owns the store and does not serve it.
        StoreError: our own files are too damaged to be opened; the message says what helps.
    """
    edition = open_edition(directory)
    checks = [
        _check("files", lambda: _files(edition)),
        _check("records", lambda: _records(edition)),
        _check("vectors", lambda: _vectors(edition)),
        _check("beside the reports", lambda: _beside(edition)),
    ]
    try:
        _, index, lock = open_chroma(directory, None)
    except StoreInUseError:
        raise
    except StoreError as error:
        return VerifyReport(
            edition.manifest.index_id, (*checks, Check("Chroma", False, str(error)))
        )
    ids = cache(index.ids)  # all of them: read once, and a failure is that of the checks
    try:
        checks.append(_check("Chroma", lambda: _chroma_ids(edition, ids())))
        checks.append(_check("Chroma's records", lambda: _chroma_records(edition, index, ids())))
        checks.append(_check("neighbours", lambda: _neighbours(edition, index)))
    finally:
        index.close()
        if lock is not None:
            lock.release()
    return VerifyReport(edition.manifest.index_id, tuple(checks))


def _check(name: str, look: Callable[[], str]) -> Check:
    """Run one look; what it returns is the detail, what it raises is the fault."""
    try:
        return Check(name, True, look())
    except StoreError as error:
        return Check(name, False, str(error))


def _files(edition: Edition) -> str:
    check_files(edition.path, edition.manifest)
    return f"{len(edition.manifest.sha256)} files have their SHA-256"


def _records(edition: Edition) -> str:
    records = list(edition.catalogue.records())
    if fingerprint(records) != edition.manifest.fingerprint:
        raise StoreError(f"the records are not those of the manifest: {REINDEX_HINT}")
    keys = edition.catalogue.texts.keys
    if {text_hash(record.text) for record in records} != set(keys):
        raise StoreError(f"the records' text hashes are wrong: {REINDEX_HINT}")
    return f"{len(records)} reports have the fingerprint {edition.manifest.fingerprint[:12]}"


def _beside(edition: Edition) -> str:
    """Sentences are those of the records; images stand for reports that are here."""
    found = read_sides(edition)
    for kind, side in found.items():
        _unit_rows(side.vectors, kind)
        if list(side.reports) != sorted(side.reports):
            raise StoreError(f"the {kind} are not in order: {REINDEX_HINT}")
    if sentences := found.get(Kind.SENTENCES):
        _, reports = sentences_of(edition.catalogue.records())
        if {key: tuple(names) for key, names in reports.items()} != sentences.reports:
            raise StoreError(f"the sentences are not those of the records: {REINDEX_HINT}")
    return ", ".join(f"{len(side.reports)} {kind}" for kind, side in found.items()) or "nothing"


def _vectors(edition: Edition) -> str:
    _unit_rows(edition.vectors, "reports")
    return f"{len(edition.vectors)} vectors of norm 1, {edition.manifest.dim} dimensions"


def _unit_rows(vectors: NDArray[np.float32], what: str) -> None:
    for start in range(0, len(vectors), 4096):
        norms = np.linalg.norm(vectors[start : start + 4096], axis=1)
        if not np.isfinite(norms).all() or abs(norms - 1).max() > 1e-3:
            raise StoreError(
                f"a vector of the {what} is not finite or not of norm 1: {REINDEX_HINT}"
            )


def _chroma_ids(edition: Edition, ids: Sequence[str]) -> str:
    if not edition.catalogue.has_each_text_once(ids):
        raise StoreError(f"Chroma's report ids are not ours: {REBUILD_HINT}")
    return f"{len(ids)} texts of {len(edition.catalogue)} reports, each once"


def _chroma_records(edition: Edition, index: ChromaIndex, ids: Sequence[str]) -> str:
    catalogue, names = edition.catalogue, sorted(ids)
    places = np.linspace(0, len(names) - 1, min(len(names), _SAMPLE)).astype(int)
    sample = [names[place] for place in places]
    held = index.metadatas(sample) if sample else {}
    for name in sample:
        row = catalogue.row_of.get(name)
        if row is None or held.get(name) != chroma_metadata(catalogue.record(row)):
            raise StoreError(f"Chroma's copy of a report differs from ours: {REBUILD_HINT}")
    return f"{len(sample)} of {len(names)} compared word for word"


def _neighbours(edition: Edition, index: ChromaIndex) -> str:
    """Stored vectors' own neighbourhoods; how image queries fare is the store's self-test."""
    count = len(edition.catalogue)
    rows = np.linspace(0, count - 1, min(count, _PROBES)).astype(int)
    exact = ExactSearch(edition.vectors)
    search = GraphSearch(index, edition.catalogue, exact)
    found = measure_recall(search, edition.vectors, edition.vectors[rows])
    if not found.passed:
        raise StoreError(
            f"recall@{found.k} of stored vectors is {found.recall:.3f}: {REBUILD_HINT}"
        )
    return f"recall@{found.k} {found.recall:.3f} against exact search, {found.queries} reports"
