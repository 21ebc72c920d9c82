"""Chroma: one collection with one record a distinct text, under the id of a report that has it.

Thousands of reports say the same to the letter. Their equal vectors would be each other's only
neighbours in the graph, islands that a search does not leave or never reaches; who has the text is
known outside Chroma. Chroma gives back ids only; similarities are computed from our own vectors, so
that they are the same in every mode. Its default space is l2: the collection is made for cosine.
"""

import json
from collections.abc import Callable, Iterable
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rag.corpus import record_to_json, text_hash
from rag.errors import StoreError
from rag.schema import ReportRecord
from rag.store.client import (
    NAME,
    REBUILD_HINT,
    chroma_errors,
    close_client,
    embedded_client,
    http_client,
)
from rag.store.files import CHROMA, EncoderIdentity

if TYPE_CHECKING:
    from chromadb.api.client import Client
    from chromadb.api.collection_configuration import CreateHNSWConfiguration
    from chromadb.api.models.Collection import Collection

Progress = Callable[[str, int, int], None]
"""Told (stage, done, total) as work goes on."""

GRAPH: "CreateHNSWConfiguration" = {
    "space": "cosine",
    "max_neighbors": 32,
    "ef_construction": 200,
    "ef_search": 400,
}
"""HNSW settings; chosen for recall with image queries, which lie far from every text."""

_BATCH, _BATCHES_A_SYNC = 250, 4


def chroma_facts() -> dict[str, Any]:
    """Version and graph settings, for the manifest."""
    return {"version": metadata.version("chromadb"), "records": "distinct texts", **GRAPH}


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
        """A new, empty collection, for ``total`` texts, in an edition that is being built."""
        client = embedded_client(edition / CHROMA)
        with chroma_errors(edition):
            collection = client.create_collection(
                NAME,
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
            raise StoreError(f"{edition / CHROMA} is missing or half deleted: {REBUILD_HINT}")
        client = embedded_client(edition / CHROMA)
        try:
            with chroma_errors(edition):
                return cls(client, client.get_collection(NAME, embedding_function=None))
        except StoreError:
            close_client(client)
            raise

    @classmethod
    def connect(cls, port: int) -> "ChromaIndex":
        """The collection behind a Chroma server on this machine.

        Raises:
            StoreError: nothing, or no Chroma, answers there.
        """
        client = http_client(port)
        try:
            with chroma_errors(f"127.0.0.1:{port}"):
                collection = client.get_collection(NAME, embedding_function=None)
        except StoreError:
            close_client(client)
            raise
        return cls(client, collection, port=port)

    @property
    def facts(self) -> dict[str, Any]:
        """What the collection says of its making (`collection_facts`)."""
        return dict(self._collection.metadata or {})

    def describe(self, facts: dict[str, Any]) -> None:
        """Change what the collection says of its making."""
        with chroma_errors(NAME):
            self._collection.modify(metadata=facts)

    def count(self) -> int:
        """How many texts it holds."""
        with chroma_errors(NAME):
            return self._collection.count()

    def ids(self) -> list[str]:
        """Ids of the reports whose texts it holds, in no order."""
        with chroma_errors(NAME):
            return self._collection.get(include=[])["ids"]

    def metadatas(self, report_ids: list[str]) -> dict[str, dict[str, Any]]:
        """What it holds of some reports besides their vectors, by id."""
        with chroma_errors(NAME):
            found = self._collection.get(ids=report_ids, include=["metadatas"])
        values = [dict(each or {}) for each in found["metadatas"] or []]  # None where it has none
        return dict(zip(found["ids"], values, strict=True))

    def add(
        self,
        records: Iterable[ReportRecord],
        vectors: Iterable[NDArray[np.float32]],
        *,
        total: int,
        progress: Progress,
    ) -> None:
        """Add reports of different texts with their vectors, in batches."""
        pairs = iter(zip(records, vectors, strict=True))
        done = 0
        for size in _plan(total)[0]:
            batch = list(islice(pairs, size))
            done += size
            with chroma_errors(NAME):
                self._collection.add(
                    ids=[record.report_id for record, _ in batch],
                    embeddings=np.stack([vector for _, vector in batch]),
                    metadatas=[chroma_metadata(record) for record, _ in batch],
                )
            progress("index", done, total)

    def nearest(self, queries: NDArray[np.float32], k: int) -> list[list[str]]:
        """Ids of about the ``k`` nearest texts to each row of ``queries``, nearest first."""
        with chroma_errors(NAME):
            return self._collection.query(query_embeddings=queries, n_results=k, include=[])["ids"]

    def close(self) -> None:
        """Let go of Chroma's files or connection. Safe to call twice."""
        close_client(self._client)

    def __enter__(self) -> "ChromaIndex":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def chroma_metadata(record: ReportRecord) -> dict[str, str]:
    """A record as Chroma keeps it: flat text values, lists as JSON.

    The texts are metadata and not Chroma's "document": its full-text index of documents would
    double the files and the time, and keep words of deleted reports.
    """
    flat = {
        key: json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
        for key, value in record_to_json(record).items()
    }
    return {**flat, "text_hash": text_hash(record.text)}


def _plan(total: int) -> tuple[list[int], int]:
    """Batch sizes, and after how many reports Chroma writes its graph to the disk.

    Sizes are even, so that the last write falls on the last report: what is not in the graph file
    is inserted again at every start, half a second for 900 reports.
    """
    rounds = max(1, round(total / (_BATCH * _BATCHES_A_SYNC)))
    size, larger = divmod(total, rounds * _BATCHES_A_SYNC)
    sizes = [size + (number < larger) for number in range(rounds * _BATCHES_A_SYNC)]
    return [size for size in sizes if size], max(2, size * _BATCHES_A_SYNC)
