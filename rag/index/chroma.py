"""Chroma collections: create, open, query.

Works around Chroma 1.5. Its default space is l2; ours are created for cosine. Records missing from
the graph file are inserted again at every start, so batches are sized for the last sync to fall on
the last record. A search over a missing graph file silently finds little: too few results are an
error here. Reading writes one row of a lock table through SQLite and nothing else, so any number of
processes may read a folder that nobody writes.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rag.errors import StoreError, StoreMismatchError
from rag.index.client import ChromaLocation, chroma_errors, connect
from rag.index.info import REBUILD_HINT, IndexInfo

if TYPE_CHECKING:
    from chromadb.api.collection_configuration import CreateHNSWConfiguration
    from chromadb.api.models.Collection import Collection

HNSW_SETTINGS: "CreateHNSWConfiguration" = {
    "space": "cosine",
    "max_neighbors": 32,
    "ef_construction": 200,
    "ef_search": 400,
}
"""Chosen for recall with image queries, which lie far from every text."""

_EXHAUSTIVE_SEARCH_LIMIT = 5000
"""Collections up to this size are searched whole, so two builds of an index answer alike."""

_BATCH_SIZE, _BATCHES_PER_SYNC = 250, 4
_READ_SIZE = 5000  # records per read

Metadata = Mapping[str, Any]

Neighbour = tuple[str, float, Metadata]
"""Id, cosine similarity in [-1, 1], and metadata of a record."""


def chroma_configuration() -> dict[str, Any]:
    """Version and graph settings, for `rag.index.info.IndexInfo`."""
    version = metadata.version("chromadb")
    return {"version": version, "searched_whole": _EXHAUSTIVE_SEARCH_LIMIT, **HNSW_SETTINGS}


def check_chroma_version(directory: Path, info: IndexInfo) -> None:
    """Refuse an index that another minor version of Chroma wrote.

    Raises:
        StoreMismatchError: names both.
    """
    installed, used = metadata.version("chromadb"), str(info.chroma["version"])
    if installed.split(".")[:2] != used.split(".")[:2]:
        raise StoreMismatchError(
            f"the index in {directory} was written by Chroma {used}, this is {installed}: "
            f"{REBUILD_HINT}"
        )


class VectorCollection:
    """One Chroma collection: vectors and metadata by id."""

    def __init__(self, collection: "Collection", location: ChromaLocation) -> None:
        self._collection = collection
        self._location = location

    def count(self) -> int:
        """Number of records."""
        with chroma_errors(self._location):
            return self._collection.count()

    def add(
        self, ids: Sequence[str], vectors: NDArray[np.float32], metadatas: Sequence[Metadata]
    ) -> None:
        """Add records; existing ids are left unchanged."""
        with chroma_errors(self._location):
            self._collection.add(ids=list(ids), embeddings=vectors, metadatas=list(metadatas))

    def nearest(self, query: NDArray[np.float32], n: int) -> list[Neighbour]:
        """About the ``n`` nearest to a vector, float32 [dim] of norm 1; nearest first.

        Raises:
            StoreError: Chroma failed, or returned too few.
        """
        if not n:
            return []
        with chroma_errors(self._location):
            found = self._collection.query(
                query_embeddings=query[np.newaxis],
                n_results=n,
                include=["distances", "metadatas"],
            )
            (ids,), (distances,) = found["ids"], found["distances"] or ([],)
            (metadatas,) = found["metadatas"] or ([],)
        if len(ids) < min(n, 10):
            raise StoreError(f"Chroma's graph in {self._location} is incomplete: {REBUILD_HINT}")
        similarities = (max(-1.0, min(1.0, 1.0 - distance)) for distance in distances)
        return list(zip(ids, similarities, metadatas, strict=True))

    def metadatas(self, ids: Sequence[str]) -> dict[str, Metadata]:
        """Metadata by id; every id must exist."""
        return self._get(ids, "metadatas")

    def vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Vectors in the order of the ids, which must all exist: float32 [len(ids), dim]."""
        rows = self._get(ids, "embeddings")
        return np.asarray([rows[name] for name in ids], np.float32)

    def _get(self, ids: Sequence[str], field: Literal["metadatas", "embeddings"]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for start in range(0, len(ids), _READ_SIZE):
            with chroma_errors(self._location):
                part = self._collection.get(
                    ids=list(ids[start : start + _READ_SIZE]), include=[field]
                )
                found.update(zip(part["ids"], part[field], strict=True))  # type: ignore[arg-type]
        if len(found) < len(set(ids)):
            missing = len(set(ids)) - len(found)
            raise StoreError(f"Chroma in {self._location} lacks {missing} records: {REBUILD_HINT}")
        return found

    def ids(self) -> list[str]:
        """All ids, sorted."""
        with chroma_errors(self._location):
            return sorted(self._collection.get(include=[])["ids"])


@contextlib.contextmanager
def open_collections(
    location: ChromaLocation,
) -> Iterator[tuple[VectorCollection, VectorCollection]]:
    """The collections of texts and of images of a version, for reading.

    Raises:
        StoreError: Chroma's files are missing, damaged or of another version, or no server answers.
    """
    if not location.url and not (location.folder / "chroma.sqlite3").is_file():
        raise StoreError(f"{location.folder} is missing or half deleted: {REBUILD_HINT}")
    with connect(location) as client:
        with chroma_errors(location):
            texts, images = (
                client.get_collection(name, embedding_function=None)
                for name in _collection_names(location)
            )
        yield VectorCollection(texts, location), VectorCollection(images, location)


@contextlib.contextmanager
def create_collections(
    location: ChromaLocation, sizes: tuple[int, int]
) -> Iterator[tuple[VectorCollection, VectorCollection]]:
    """New, empty collections for the given numbers of texts and images, for writing."""
    with connect(location, writes=True) as client:
        with chroma_errors(location):
            texts, images = (
                client.create_collection(
                    name,
                    configuration={"hnsw": _hnsw_settings(size)},
                    metadata=_owner_metadata(location),
                    embedding_function=None,
                )
                for name, size in zip(_collection_names(location), sizes, strict=True)
            )
        yield VectorCollection(texts, location), VectorCollection(images, location)


def delete_old_collections(location: ChromaLocation) -> None:
    """Delete the collections of the index's other versions from a server."""
    with connect(location) as client, chroma_errors(location):
        for collection in client.list_collections():
            is_own = collection.metadata == _owner_metadata(location)
            if is_own and collection.name not in _collection_names(location):
                client.delete_collection(collection.name)


def split_into_batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Ids in batches that `plan_batches` sized."""
    start = 0
    for size in plan_batches(len(ids))[0]:
        yield ids[start : start + size]
        start += size


def plan_batches(total: int) -> tuple[list[int], int]:
    """Batch sizes, and the number of records after which Chroma writes its graph to disk.

    Sizes are even, so that the last write falls on the last record.
    """
    rounds = max(1, round(total / (_BATCH_SIZE * _BATCHES_PER_SYNC)))
    size, larger = divmod(total, rounds * _BATCHES_PER_SYNC)
    sizes = [size + (number < larger) for number in range(rounds * _BATCHES_PER_SYNC)]
    return [size for size in sizes if size], max(2, size * _BATCHES_PER_SYNC)


def _hnsw_settings(size: int) -> "CreateHNSWConfiguration":
    ef_search = HNSW_SETTINGS["ef_search"]
    if size <= _EXHAUSTIVE_SEARCH_LIMIT:
        ef_search = max(ef_search, size)
    return {**HNSW_SETTINGS, "ef_search": ef_search, "sync_threshold": plan_batches(size)[1]}


def _collection_names(location: ChromaLocation) -> tuple[str, str]:
    return f"reports-{location.version}", f"images-{location.version}"


def _owner_metadata(location: ChromaLocation) -> dict[str, Any]:
    return {"made_by": "cxr-rag", "store_id": location.store_id}
