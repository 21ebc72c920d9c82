"""Collections of Chroma: made, opened, asked.

Traps of Chroma 1.5 that are minded here. Its default space is l2: collections are made for cosine.
What is not in the graph file is inserted again at every start, so the last write falls on the last
record. A search over a missing graph file finds little and says nothing: too few answers are an
error here. Reading writes one row of a lock table through SQLite and nothing else, so any number
of processes may read a folder that nobody writes.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rag.errors import StoreError
from rag.index.client import Place, chroma_errors, connect
from rag.index.info import REBUILD_HINT

if TYPE_CHECKING:
    from chromadb.api.collection_configuration import CreateHNSWConfiguration
    from chromadb.api.models.Collection import Collection

GRAPH: "CreateHNSWConfiguration" = {
    "space": "cosine",
    "max_neighbors": 32,
    "ef_construction": 200,
    "ef_search": 400,
}
"""HNSW settings; chosen for recall with image queries, which lie far from every text."""

_SEARCHED_WHOLE = 5000
"""Up to so many records a query looks at all of them: two builds of an index then answer alike."""

_BATCH, _BATCHES_A_SYNC = 250, 4
_READ = 5000  # records read at a time

Metadata = Mapping[str, Any]

Neighbour = tuple[str, float, Metadata]
"""Id, cosine similarity in [-1, 1], and metadata of a record."""


def chroma_facts() -> dict[str, Any]:
    """Version and graph settings, for `rag.index.info.IndexInfo`."""
    facts = {"version": metadata.version("chromadb"), "searched_whole": _SEARCHED_WHOLE}
    return {**facts, **GRAPH}


class VectorCollection:
    """One collection of Chroma: vectors and metadata under ids."""

    def __init__(self, collection: "Collection", place: Place) -> None:
        self._collection = collection
        self._place = place

    def count(self) -> int:
        """How many records it holds."""
        with chroma_errors(self._place):
            return self._collection.count()

    def add(
        self, ids: Sequence[str], vectors: NDArray[np.float32], metadatas: Sequence[Metadata]
    ) -> None:
        """Add records; ids that are there already are left as they are."""
        with chroma_errors(self._place):
            self._collection.add(ids=list(ids), embeddings=vectors, metadatas=list(metadatas))

    def nearest(self, query: NDArray[np.float32], n: int) -> list[Neighbour]:
        """About the ``n`` nearest to a vector, float32 [dim] of norm 1; nearest first.

        Raises:
            StoreError: Chroma failed, or finds less than there is.
        """
        if not n:
            return []
        with chroma_errors(self._place):
            found = self._collection.query(
                query_embeddings=query[np.newaxis],
                n_results=n,
                include=["distances", "metadatas"],
            )
            (ids,), (distances,) = found["ids"], found["distances"] or ([],)
            (metadatas,) = found["metadatas"] or ([],)
        if len(ids) < min(n, 10):
            raise StoreError(f"Chroma's graph in {self._place} is incomplete: {REBUILD_HINT}")
        similarities = (max(-1.0, min(1.0, 1.0 - distance)) for distance in distances)
        return list(zip(ids, similarities, metadatas, strict=True))

    def metadatas(self, ids: Sequence[str]) -> dict[str, Metadata]:
        """Metadata of ids that are all here, by id."""
        return self._get(ids, "metadatas")

    def vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of ids that are all here, in their order: float32 [len(ids), dim]."""
        rows = self._get(ids, "embeddings")
        return np.asarray([rows[name] for name in ids], np.float32)

    def _get(self, ids: Sequence[str], what: Literal["metadatas", "embeddings"]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for start in range(0, len(ids), _READ):
            with chroma_errors(self._place):
                part = self._collection.get(ids=list(ids[start : start + _READ]), include=[what])
                found.update(zip(part["ids"], part[what], strict=True))  # type: ignore[arg-type]
        if len(found) < len(set(ids)):
            missing = len(set(ids)) - len(found)
            raise StoreError(f"Chroma in {self._place} lacks {missing} records: {REBUILD_HINT}")
        return found

    def ids(self) -> list[str]:
        """All ids, in order."""
        with chroma_errors(self._place):
            return sorted(self._collection.get(include=[])["ids"])


@contextlib.contextmanager
def open_collections(place: Place) -> Iterator[tuple[VectorCollection, VectorCollection]]:
    """The reports and the images of a version, for reading.

    Raises:
        StoreError: Chroma's files are missing, damaged or of another version, or no server answers.
    """
    if not place.url and not (place.folder / "chroma.sqlite3").is_file():
        raise StoreError(f"{place.folder} is missing or half deleted: {REBUILD_HINT}")
    with connect(place) as client:
        with chroma_errors(place):
            found = [client.get_collection(name, embedding_function=None) for name in _names(place)]
        yield VectorCollection(found[0], place), VectorCollection(found[1], place)


@contextlib.contextmanager
def create_collections(
    place: Place, sizes: tuple[int, int]
) -> Iterator[tuple[VectorCollection, VectorCollection]]:
    """New, empty collections for so many reports and images, for writing."""
    with connect(place, writes=True) as client:
        with chroma_errors(place):
            made = [
                client.create_collection(
                    name,
                    configuration={
                        "hnsw": {
                            **GRAPH,
                            "ef_search": max(
                                GRAPH["ef_search"], total if total <= _SEARCHED_WHOLE else 0
                            ),
                            "sync_threshold": batch_plan(total)[1],
                        }
                    },
                    metadata=_mark(place),
                    embedding_function=None,
                )
                for name, total in zip(_names(place), sizes, strict=True)
            ]
        yield VectorCollection(made[0], place), VectorCollection(made[1], place)


def delete_old_collections(place: Place) -> None:
    """Delete the collections of the index's other versions, where a server holds them."""
    with connect(place) as client, chroma_errors(place):
        for collection in client.list_collections():
            if collection.metadata == _mark(place) and collection.name not in _names(place):
                client.delete_collection(collection.name)


def batches_of(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Ids in batches, the last of which Chroma writes to its graph."""
    start = 0
    for size in batch_plan(len(ids))[0]:
        yield ids[start : start + size]
        start += size


def batch_plan(total: int) -> tuple[list[int], int]:
    """Batch sizes for so many records, and after how many Chroma writes its graph to the disk.

    Sizes are even, so that the last write falls on the last record.
    """
    rounds = max(1, round(total / (_BATCH * _BATCHES_A_SYNC)))
    size, larger = divmod(total, rounds * _BATCHES_A_SYNC)
    sizes = [size + (number < larger) for number in range(rounds * _BATCHES_A_SYNC)]
    return [size for size in sizes if size], max(2, size * _BATCHES_A_SYNC)


def _names(place: Place) -> tuple[str, str]:
    return f"reports-{place.version}", f"images-{place.version}"


def _mark(place: Place) -> dict[str, Any]:
    return {"made_by": "cxr-rag", "store_id": place.store_id}
