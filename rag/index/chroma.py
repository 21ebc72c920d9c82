"""Chroma: clients, collections and what its errors mean. The only module that imports chromadb.

Traps of Chroma 1.5 that are minded here. Its default space is l2: collections are made for cosine.
What is not in the graph file is inserted again at every start, so the last write falls on the last
record. A search over a missing graph file finds little and says nothing: too few answers are an
error here. Reading writes one row of a lock table through SQLite and nothing else, so any number
of processes may read a folder that nobody writes. The HTTP client obeys proxy variables even for
this machine, waits for ever and is never closed; a client that failed to start is remembered.
Chroma's Python server has a remote code execution (CVE-2026-45829): use `chroma run`.
"""

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from rag.errors import StoreError
from rag.index.exact import Neighbours
from rag.index.info import REBUILD_HINT

if TYPE_CHECKING:
    from chromadb.api.client import Client
    from chromadb.api.collection_configuration import CreateHNSWConfiguration
    from chromadb.api.models.Collection import Collection

GRAPH: "CreateHNSWConfiguration" = {
    "space": "cosine",
    "max_neighbors": 32,
    "ef_construction": 200,
    "ef_search": 400,
}
"""HNSW settings; chosen for recall with image queries, which lie far from every text."""

_BATCH, _BATCHES_A_SYNC = 250, 4
_READ = 5000  # records read at a time
_TIMEOUT_SECONDS = 60.0
_ENVIRONMENT = threading.Lock()


def chroma_facts() -> dict[str, Any]:
    """Version and graph settings, for `rag.index.info.IndexInfo`."""
    return {"version": metadata.version("chromadb"), **GRAPH}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the collections of one version are.

    Attributes:
        folder: Chroma's own files; opened in this process where there is no URL.
        url: of a Chroma server, e.g. "http://127.0.0.1:8000", or empty.
        version: stands in the collections' names.
    """

    folder: Path
    url: str
    version: str

    def __str__(self) -> str:
        return self.url or str(self.folder)


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
        self,
        ids: Sequence[str],
        vectors: NDArray[np.float32],
        metadatas: Sequence[Mapping[str, Any]],
    ) -> None:
        """Add records; ids that are there already are left as they are."""
        with chroma_errors(self._place):
            self._collection.add(ids=list(ids), embeddings=vectors, metadatas=list(metadatas))

    def nearest(self, queries: NDArray[np.float32], n: int) -> list[Neighbours]:
        """About the ``n`` nearest to each row of ``queries``, nearest first.

        Raises:
            StoreError: Chroma failed, or finds less than there is.
        """
        with chroma_errors(self._place):
            found = self._collection.query(
                query_embeddings=queries, n_results=n, include=["distances"]
            )
        distances = found["distances"] or []
        if min(map(len, found["ids"]), default=n) < min(n, 10):
            raise StoreError(f"Chroma's graph in {self._place} is incomplete: {REBUILD_HINT}")
        return [
            (ids, [max(-1.0, min(1.0, 1.0 - distance)) for distance in of_query])
            for ids, of_query in zip(found["ids"], distances, strict=True)
        ]

    def metadatas(self, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """Metadata by id; ids that are not here are left out."""
        found: dict[str, Mapping[str, Any]] = {}
        for start in range(0, len(ids), _READ):
            with chroma_errors(self._place):
                part = self._collection.get(
                    ids=list(ids[start : start + _READ]), include=["metadatas"]
                )
            metadatas = (each or {} for each in part["metadatas"] or [])
            found.update(zip(part["ids"], metadatas, strict=True))
        return found

    def vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of ids that are all here, in their order: float32 [len(ids), dim]."""
        rows: dict[str, NDArray[np.float32]] = {}
        for start in range(0, len(ids), _READ):
            with chroma_errors(self._place):
                part = self._collection.get(
                    ids=list(ids[start : start + _READ]), include=["embeddings"]
                )
                vectors = np.asarray(part["embeddings"], np.float32)
            rows.update(zip(part["ids"], vectors, strict=True))
        if missing := [name for name in ids if name not in rows]:
            raise StoreError(
                f"Chroma in {self._place} has no vector for {len(missing)} records: {REBUILD_HINT}"
            )
        return np.stack([rows[name] for name in ids]) if rows else np.empty((0, 0), np.float32)

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
    with _client(place) as client:
        with chroma_errors(place):
            found = [client.get_collection(name, embedding_function=None) for name in _names(place)]
        yield VectorCollection(found[0], place), VectorCollection(found[1], place)


@contextlib.contextmanager
def create_collections(
    place: Place, facts: Mapping[str, str], *, texts: int, images: int
) -> Iterator[tuple[VectorCollection, VectorCollection]]:
    """New, empty collections for so many records, which say these facts of themselves."""
    with _client(place) as client:
        with chroma_errors(place):
            made = [
                client.create_collection(
                    name,
                    configuration={"hnsw": {**GRAPH, "sync_threshold": batch_plan(total)[1]}},
                    metadata=dict(facts),
                    embedding_function=None,
                )
                for name, total in zip(_names(place), (texts, images), strict=True)
            ]
        yield VectorCollection(made[0], place), VectorCollection(made[1], place)


def delete_old_collections(place: Place, facts: Mapping[str, str]) -> None:
    """Delete a server's other collections that say the same of themselves."""
    with _client(place) as client, chroma_errors(place):
        for collection in client.list_collections():
            if dict(collection.metadata or {}) == dict(facts) and collection.name not in _names(
                place
            ):
                client.delete_collection(collection.name)


def batch_plan(total: int) -> tuple[list[int], int]:
    """Batch sizes for so many records, and after how many Chroma writes its graph to the disk.

    Sizes are even, so that the last write falls on the last record.
    """
    rounds = max(1, round(total / (_BATCH * _BATCHES_A_SYNC)))
    size, larger = divmod(total, rounds * _BATCHES_A_SYNC)
    sizes = [size + (number < larger) for number in range(rounds * _BATCHES_A_SYNC)]
    return [size for size in sizes if size], max(2, size * _BATCHES_A_SYNC)


@contextlib.contextmanager
def chroma_errors(place: Place) -> Iterator[None]:
    """What Chroma, SQLite or the HTTP client say, as one sentence with its hint."""
    try:
        yield
    except (StoreError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # Rust's panics are no Exception
        raise _explained(error, place) from error


def _explained(error: BaseException, place: Place) -> StoreError:
    words = " ".join(str(error).split())[:200]
    if "disk is full" in words or "No space left" in words:
        hint = "the disk is full: free some space and run the same command again"
    elif place.url and ("connect" in words.lower() or type(error).__module__.startswith("http")):
        hint = "start the Chroma server that `chroma_url` names"
    else:
        hint = REBUILD_HINT
    return StoreError(f"Chroma failed at {place} ({type(error).__name__}: {words}): {hint}")


def _names(place: Place) -> tuple[str, str]:
    return f"reports-{place.version}", f"images-{place.version}"


@contextlib.contextmanager
def _client(place: Place) -> Iterator["Client"]:
    with chroma_errors(place):
        client = _http_client(place.url) if place.url else _embedded_client(place.folder)
    try:
        yield client
    finally:
        for session in _http_sessions(client):
            session.close()
        client.close()


def _embedded_client(folder: Path) -> "Client":
    """A client that opens Chroma's files in this process, and makes them if there are none."""
    import chromadb  # noqa: PLC0415
    from chromadb.api.shared_system_client import SharedSystemClient  # noqa: PLC0415

    try:
        client = chromadb.PersistentClient(folder, settings=_settings())
    except BaseException:
        SharedSystemClient._identifier_to_system.pop(str(folder), None)
        raise
    return cast("Client", client)  # annotated as an interface that lacks close()


def _http_client(url: str) -> "Client":
    import chromadb  # noqa: PLC0415

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"chroma_url is {url!r}; write it as http://host:port")
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 8000)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    with _no_proxy() if local else contextlib.nullcontext():
        client = cast(
            "Client",
            chromadb.HttpClient(parts.hostname, port, ssl=secure, settings=_settings()),
        )
    for session in _http_sessions(client):
        session.timeout = _TIMEOUT_SECONDS
    return client


def _http_sessions(client: "Client") -> list[Any]:
    """Connection pools inside Chroma's HTTP client, which neither limits nor closes them."""
    servers = (client._server, client._admin_client._server)  # type: ignore[attr-defined]
    return [server._session for server in servers if hasattr(server, "_session")]


def _settings() -> Any:
    from chromadb.config import Settings  # noqa: PLC0415

    return Settings(anonymized_telemetry=False, allow_reset=False)


@contextlib.contextmanager
def _no_proxy() -> Iterator[None]:
    """Talk to this machine directly, whatever proxy it is set to.

    Chroma makes its own HTTP client and gives no way to configure it; the variables are read when
    that client is made, so they are hidden for that moment.
    """
    names = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
    with _ENVIRONMENT:
        hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
        try:
            yield
        finally:
            os.environ.update(hidden)
