"""Writes a new version of an index beside the one that counts, and puts it in its place.

Whatever happens before the last step, the old version counts; after it, the new one. Called with
the lock held.
"""

import contextlib
import ctypes
import errno
import hashlib
import json
import logging
import shutil
import struct
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag.atomic_io import disk_explained, flush
from rag.corpus.records import fingerprint
from rag.errors import StoreError, StoreMissingError
from rag.index.chroma import (
    batches_of,
    chroma_facts,
    create_collections,
    delete_old_collections,
    open_collections,
)
from rag.index.client import Place, place_of
from rag.index.content import Content, by_text, to_metadata
from rag.index.embedding import EmbeddingCache
from rag.index.ids import write_ids
from rag.index.info import (
    IndexInfo,
    Progress,
    content_id,
    publish_info,
    read_info,
)
from rag.schema import ReportRecord

logger = logging.getLogger(__name__)

_FULL = 4_000_000  # bytes; with less, SQLite fails in many ways
_PROBES = 16
_M_PERTURB = -6  # of glibc's malloc.h

Texts = Mapping[str, Sequence[ReportRecord]]
Batch = tuple[int, Sequence[str], Sequence[Mapping[str, Any]]]
"""Number of the collection (0 reports, 1 images), ids, metadata."""


def scrub_memory() -> None:
    """From now on, overwrite memory whenever this process gets or gives back some.

    Chroma's graph library writes memory to the disk that it has never set: bits of whatever the
    process held before (seen: a deleted report's words inside data_level0.bin). To be called before
    anything is read that must not be in an index. Pieces up to 1 kB escape it, as glibc keeps those
    aside: `_blank_unused` is for them.
    """
    try:
        ctypes.CDLL(None).mallopt(_M_PERTURB, 0xFF)
    except AttributeError:
        logger.warning("not glibc: Chroma's files may hold traces of reports that were removed")


def write_version(
    directory: Path, content: Content, cache: EmbeddingCache, *, url: str, progress: Progress
) -> IndexInfo:
    """Write, check and publish a version; forget what the cache holds beyond it.

    Args:
        directory: of the index.
        content: what it shall hold.
        cache: has a vector for every text and image.
        url: of a Chroma server, or empty.
        progress: told ("index", records written, total), then ("publish", step, 3).

    Raises:
        StoreError: the disk or Chroma failed; the old version still counts.
    """
    texts = by_text(content.records)
    info = _describe(content, texts)
    place = place_of(directory, info, url)
    folder = place.folder.parent
    facts = {"made_by": "cxr-rag", "store_id": content.store_id}
    with disk_explained(directory, StoreError):
        with contextlib.suppress(StoreError):  # a damaged index.json, which is being replaced
            sweep(directory)
        _refuse_small_disk(directory, content)
        folder.mkdir()
        cache.keep([*texts, *content.images])
    try:
        with disk_explained(directory, StoreError):
            write_ids(folder, texts)
        _fill(place, facts, content, texts, cache, progress=progress)
        with disk_explained(directory, StoreError):
            for path in (*folder.rglob("*"), folder):
                flush(path)
            progress("publish", 1, 3)
            publish_info(directory, info)
    except BaseException as error:
        with contextlib.suppress(OSError, StoreError):
            sweep(directory)  # not the new version, if it counts already
        if isinstance(error, StoreError) and shutil.disk_usage(directory).free < _FULL:
            with disk_explained(directory, StoreError):  # Chroma's own words do not say so
                raise OSError(errno.ENOSPC, "") from error
        raise
    progress("publish", 2, 3)
    with disk_explained(directory, StoreError):
        sweep(directory)
    if url:
        delete_old_collections(place, facts)
    progress("publish", 3, 3)
    return info


def sweep(directory: Path) -> None:
    """Delete versions that do not count: what a killed writer left, and old ones.

    Raises:
        StoreError: ``index.json`` does not say which one counts; nothing is deleted.
    """
    try:
        counts = read_info(directory).version
    except StoreMissingError:
        counts = ""
    for path in directory.glob("version-*"):
        if path.name != f"version-{counts}":
            shutil.rmtree(path)


def images_hash(images: Mapping[str, Sequence[str]]) -> str:
    """Names a set of images and what they stand for; empty where there are none."""
    if not images:
        return ""
    content = json.dumps({key: list(reports) for key, reports in sorted(images.items())})
    return hashlib.sha256(content.encode()).hexdigest()


def _describe(content: Content, texts: Texts) -> IndexInfo:
    encoder, content_hash = content.encoder, fingerprint(content.records)
    images = images_hash(content.images)
    return IndexInfo(
        index_id=content_id(encoder, content_hash, images, chroma_facts()),
        version=uuid.uuid4().hex[:12],
        store_id=content.store_id,
        encoder_id=encoder.encoder_id,
        preprocess_hash=encoder.preprocess_hash,
        dim=encoder.dim,
        fingerprint=content_hash,
        count=len(content.records),
        texts=len(texts),
        images=len(content.images),
        collections=content.collections,
        removed=content.removed,
        chroma=chroma_facts(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _refuse_small_disk(directory: Path, content: Content) -> None:
    vectors = len(content.records) + len(content.images)
    needed = (vectors * 12 * content.encoder.dim + len(content.records) * 8192) // 10**6
    free = shutil.disk_usage(directory).free // 10**6
    if free < needed:
        raise StoreError(
            f"the index needs about {needed} MB in {directory}, {free} MB are free: free some "
            "space, or choose another folder"
        )


def _fill(
    place: Place,
    facts: Mapping[str, str],
    content: Content,
    texts: Texts,
    cache: EmbeddingCache,
    *,
    progress: Progress,
) -> None:
    """Make the collections and fill them, and see whether Chroma finds what was written."""
    sizes, done = (len(texts), len(content.images)), 0
    probes: list[tuple[int, NDArray[np.float32]]] = []
    with create_collections(place, facts, sizes) as collections:
        for number, ids, metadatas in _batches(content, texts):
            vectors = cache.vectors(ids)
            collections[number].add(ids, vectors, metadatas)
            if len(probes) < _PROBES:
                probes.append((number, vectors[:1]))
            done += len(ids)
            progress("index", done, sum(sizes))
    if not place.url:
        _blank_unused(place.folder)
    with open_collections(place) as written:  # as a reader would
        counts = tuple(collection.count() for collection in written)
        found = [written[number].nearest(vector, 1)[0] for number, vector in probes]
    near = sum(similarities[0] > 1 - 1e-3 for _, similarities in found)
    # a graph may miss one; a wrong file misses nearly all
    if counts != sizes or near < 0.75 * len(probes):
        raise StoreError("Chroma does not find what was written: run the same command again")


def _blank_unused(folder: Path) -> None:
    """Zero what a graph of fewer than 100 records has room for and does not use.

    Only the vectors' lengths (float32, room for 100 from the start) are small enough to lie in
    memory that `scrub_memory` does not reach.
    """
    for path in folder.glob("*/length.bin"):
        header = (path.parent / "header.bin").read_bytes()
        _, _, _, records = struct.unpack_from("<iQQQ", header)  # version, offset, room, records
        unused = path.stat().st_size - 4 * records
        with path.open("r+b") as file:
            file.seek(4 * records)
            file.write(bytes(unused))


def _batches(content: Content, texts: Texts) -> Iterator[Batch]:
    for part in batches_of(list(texts)):
        yield 0, part, [to_metadata(texts[key]) for key in part]
    for part in batches_of(sorted(content.images)):
        yield 1, part, [{"reports": json.dumps(list(content.images[key]))} for key in part]
