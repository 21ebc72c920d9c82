"""Chroma: one collection with one record a report, embedded or behind Chroma's own Rust server.

The only module that imports chromadb, and it does so when first needed (it takes a second).
Chroma gives back ids only; similarities are computed from our own vectors, so that they are the
same in every mode. Traps of Chroma 1.5 that this module minds: its default space is l2; one
process at a time may open a directory; the HTTP client obeys proxy variables even for 127.0.0.1;
the Python server has a remote code execution (CVE-2026-45829) and is never used.
"""

import contextlib
import json
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from rag.corpus import record_to_json, text_hash
from rag.errors import StoreError
from rag.schema import ReportRecord
from rag.store_files import CHROMA, EncoderIdentity

if TYPE_CHECKING:
    from chromadb.api.client import Client
    from chromadb.api.collection_configuration import CreateHNSWConfiguration
    from chromadb.api.models.Collection import Collection

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Told (stage, done, total) as work goes on."""

GRAPH: "CreateHNSWConfiguration" = {
    "space": "cosine",
    "max_neighbors": 32,
    "ef_construction": 200,
    "ef_search": 200,
}
"""HNSW settings; chosen for recall with image queries, which lie far from every text."""

REBUILD = "`cxr-rag index rebuild` makes it again from our own vectors, without embedding"

_NAME = "reports"
_BATCH, _BATCHES_A_SYNC = 250, 4
_ENVIRONMENT = threading.Lock()


def chroma_facts() -> dict[str, Any]:
    """Version and graph settings, for the manifest."""
    return {"version": metadata.version("chromadb"), **GRAPH}


def collection_facts(
    encoder: EncoderIdentity, *, store_id: str, fingerprint: str
) -> dict[str, Any]:
    """What the collection itself says of its making, so that no other may be mistaken for it."""
    return {
        "store_id": store_id,
        "fingerprint": fingerprint,
        "encoder_id": encoder.encoder_id,
        "preprocess_hash": encoder.preprocess_hash,
        "dim": encoder.dim,
    }


class ChromaIndex:
    """One opened collection. Close it, or use it as a context manager.

    Attributes:
        port: of the server it is behind, 0 if it is embedded.
    """

    def __init__(self, client: "Client", collection: "Collection", *, port: int = 0) -> None:
        self.port = port
        self._client = client
        self._collection = collection

    @classmethod
    def create(cls, edition: Path, facts: dict[str, Any], *, total: int) -> "ChromaIndex":
        """A new, empty collection, for ``total`` reports, in an edition that is being built."""
        client = _embedded(edition / CHROMA)
        with chroma_errors(edition):
            collection = client.create_collection(
                _NAME,
                configuration={"hnsw": {**GRAPH, "sync_threshold": _plan(total)[1]}},
                metadata=facts,
                embedding_function=None,
            )
        return cls(client, collection)

    @classmethod
    def open(cls, edition: Path) -> "ChromaIndex":
        """The collection of an edition. Only the owner of the store's lock may do this.

        Raises:
            StoreError: Chroma's files are missing or damaged.
        """
        if not (edition / CHROMA / "chroma.sqlite3").is_file():  # Chroma would make an empty one
            raise StoreError(f"{edition / CHROMA} is missing or half deleted: {REBUILD}")
        client = _embedded(edition / CHROMA)
        try:
            with chroma_errors(edition):
                return cls(client, client.get_collection(_NAME, embedding_function=None))
        except StoreError:
            client.close()
            raise

    @classmethod
    def connect(cls, port: int) -> "ChromaIndex":
        """The collection behind a Chroma server on this machine.

        Raises:
            StoreError: nothing, or no Chroma, answers there.
        """
        import chromadb  # noqa: PLC0415

        with chroma_errors(f"127.0.0.1:{port}"), _no_proxy():
            client = cast("Client", chromadb.HttpClient("127.0.0.1", port, settings=_settings()))
            collection = client.get_collection(_NAME, embedding_function=None)
        return cls(client, collection, port=port)

    @property
    def facts(self) -> dict[str, Any]:
        """What the collection says of its making (`collection_facts`)."""
        return dict(self._collection.metadata or {})

    def describe(self, facts: dict[str, Any]) -> None:
        """Change what the collection says of its making."""
        with chroma_errors(_NAME):
            self._collection.modify(metadata=facts)

    def count(self) -> int:
        """How many reports it holds."""
        with chroma_errors(_NAME):
            return self._collection.count()

    def ids(self) -> list[str]:
        """Ids of all its reports, in no order."""
        with chroma_errors(_NAME):
            return self._collection.get(include=[])["ids"]

    def metadatas(self, report_ids: list[str]) -> dict[str, dict[str, Any]]:
        """What it holds of some reports besides their vectors, by id."""
        with chroma_errors(_NAME):
            found = self._collection.get(ids=report_ids, include=["metadatas"])
        return dict(zip(found["ids"], map(dict, found["metadatas"] or []), strict=True))

    def add(
        self,
        records: Iterable[ReportRecord],
        vectors: Iterable[NDArray[np.float32]],
        *,
        total: int,
        progress: Progress,
    ) -> None:
        """Add reports with their vectors, in batches."""
        pairs = iter(zip(records, vectors, strict=True))
        done = 0
        for size in _plan(total)[0]:
            batch = list(islice(pairs, size))
            done += size
            with chroma_errors(_NAME):
                self._collection.add(
                    ids=[record.report_id for record, _ in batch],
                    embeddings=np.stack([vector for _, vector in batch]),
                    metadatas=[chroma_metadata(record) for record, _ in batch],
                )
            progress("index", done, total)

    def nearest(self, queries: NDArray[np.float32], k: int) -> list[list[str]]:
        """Ids of about the ``k`` nearest reports to each row of ``queries``, nearest first."""
        with chroma_errors(_NAME):
            return self._collection.query(query_embeddings=queries, n_results=k, include=[])["ids"]

    def close(self) -> None:
        """Let go of Chroma's files. Safe to call twice."""
        self._client.close()

    def __enter__(self) -> "ChromaIndex":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def chroma_metadata(record: ReportRecord) -> dict[str, str]:
    """A record as Chroma keeps it: flat text values, lists as JSON.

    The texts are metadata and not Chroma's "document": its full-text index of documents would
    double the files and the time, and keep words of deleted reports.
    """
    values = record_to_json(record)
    lists = {key: json.dumps(values[key], ensure_ascii=False) for key in ("labels", "sentences")}
    return {**values, **lists, "text_hash": text_hash(record.text)}


@contextlib.contextmanager
def chroma_errors(where: object) -> Iterator[None]:
    """What Chroma, SQLite or the HTTP client say, as one sentence with its cure."""
    import httpx  # noqa: PLC0415
    from chromadb.errors import ChromaError, NotFoundError  # noqa: PLC0415

    try:
        yield
    except NotFoundError as error:
        raise StoreError(f"{where} holds no collection {_NAME!r}: {REBUILD}") from error
    except (ChromaError, httpx.HTTPError, OSError, ValueError) as error:
        words = " ".join(str(error).split())[:200]
        if "disk is full" in words or "No space left" in words:
            cure = "the disk is full: free some space and run the same command again"
        elif isinstance(error, httpx.HTTPError) or "connect to a Chroma server" in words:
            cure = "the store's server has stopped: start it again"
        else:
            cure = REBUILD
        raise StoreError(f"Chroma failed at {where} ({words}): {cure}") from error


def _plan(total: int) -> tuple[list[int], int]:
    """Batch sizes, and after how many reports Chroma writes its graph to the disk.

    Sizes are even, so that the last write falls on the last report: what is not in the graph file
    is inserted again at every start, half a second for 900 reports.
    """
    rounds = max(1, round(total / (_BATCH * _BATCHES_A_SYNC)))
    size, larger = divmod(total, rounds * _BATCHES_A_SYNC)
    sizes = [size + (number < larger) for number in range(rounds * _BATCHES_A_SYNC)]
    return [size for size in sizes if size], max(2, size * _BATCHES_A_SYNC)


def _embedded(folder: Path) -> "Client":
    import chromadb  # noqa: PLC0415
    from chromadb.api.shared_system_client import SharedSystemClient  # noqa: PLC0415

    try:
        with chroma_errors(folder):
            client = chromadb.PersistentClient(folder, settings=_settings())
    except StoreError:
        # Chroma remembers a client that failed to start, and would hand it out again
        SharedSystemClient._identifier_to_system.pop(str(folder), None)
        raise
    return cast("Client", client)  # annotated as an interface that lacks close()


def _settings() -> Any:
    from chromadb.config import Settings  # noqa: PLC0415

    return Settings(anonymized_telemetry=False, allow_reset=False)


@contextlib.contextmanager
def _no_proxy() -> Iterator[None]:
    """Talk to 127.0.0.1 directly, whatever proxy the machine is set to.

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
