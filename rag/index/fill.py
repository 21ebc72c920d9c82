"""Fills Chroma's collections, in this process or in one that knows nothing else.

Chroma's graph library writes memory to the disk that it has never set: bits of whatever the process
held before (seen: a deleted report's words inside data_level0.bin). So wherever something that must
not be in the index may be in this process's memory, the collections are written by a fresh process
that is sent nothing but the content.
"""

import contextlib
import multiprocessing
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag.errors import StoreError
from rag.index.chroma import create_collections, open_collections
from rag.index.client import Place

_PROBES = 16

Batch = tuple[int, Sequence[str], NDArray[np.float32], Sequence[Mapping[str, Any]]]
"""Number of the collection (0 reports, 1 images), ids, vectors, metadata."""


@dataclass(frozen=True, slots=True)
class Job:
    """What whoever writes Chroma's collections must know. Sent to another process."""

    place: Place
    store_id: str
    texts: int
    images: int

    @property
    def facts(self) -> dict[str, str]:
        """What the collections say of themselves."""
        return {"made_by": "cxr-rag", "store_id": self.store_id}


def fill(job: Job, batches: Iterable[Batch]) -> Iterator[int]:
    """Make the collections and fill them; yields the size of each batch once it is written."""
    with create_collections(
        job.place, job.facts, texts=job.texts, images=job.images
    ) as collections:
        probes: list[tuple[int, str, NDArray[np.float32]]] = []
        for number, ids, vectors, metadatas in batches:
            collections[number].add(ids, vectors, metadatas)
            if len(probes) < _PROBES:
                probes.append((number, ids[0], vectors[:1].copy()))
            yield len(ids)
    with open_collections(job.place) as written:  # as a reader would
        counts = tuple(collection.count() for collection in written)
        found = [written[number].nearest(vector, 1)[0] for number, _, vector in probes]
    near = sum(similarities[0] > 1 - 1e-3 for _, similarities in found)
    # a graph may miss one; a wrong file misses nearly all
    if counts != (job.texts, job.images) or near < 0.75 * len(probes):
        raise StoreError("Chroma does not find what was written: run the same command again")


def fill_in_child(job: Job, batches: Iterable[Batch]) -> Iterator[int]:
    """As `fill`, in a process that knows nothing else."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_child, args=(job, theirs), daemon=True)
    child.start()
    theirs.close()
    try:
        for batch in batches:
            ours.send(batch)
            yield _answer(ours)
        ours.send(None)
        _answer(ours)
    except (EOFError, BrokenPipeError, ConnectionResetError) as error:
        raise StoreError(
            "the process that writes Chroma's files ended unexpectedly (out of memory?): run the "
            "same command again"
        ) from error
    finally:
        ours.close()
        child.join(timeout=10)
        child.kill()


def _answer(connection: Connection) -> int:
    answer = connection.recv()
    if isinstance(answer, str):
        raise StoreError(answer)
    return int(answer)


def _child(job: Job, connection: Connection) -> None:
    """The child's side; ends with its parent, whose end closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            for size in fill(job, iter(connection.recv, None)):
                connection.send(size)
            connection.send(0)
        except StoreError as error:
            connection.send(str(error))
