"""Writes and reads a version of an index; called with the write lock held.

A new version is written beside the current one. Replacing ``index.json`` is what makes it current;
whatever happens before that, the old version stays.
"""

import contextlib
import ctypes
import errno
import logging
import shutil
import struct
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

from rag.atomic_io import fsync_path
from rag.corpus.records import fingerprint, text_hash
from rag.errors import StoreError, StoreMissingError
from rag.index.chroma import (
    chroma_configuration,
    create_collections,
    delete_old_collections,
    open_collections,
    split_into_batches,
)
from rag.index.client import ChromaLocation, chroma_location
from rag.index.content import (
    IndexContent,
    content_id,
    group_by_text,
    report_ids_from_metadata,
    report_ids_to_metadata,
    reports_from_metadata,
    reports_to_metadata,
)
from rag.index.embedding import EmbeddingCache
from rag.index.ids import write_ids
from rag.index.info import REINDEX_HINT, IndexInfo, Progress, publish_info, read_info
from rag.schema import ReportRecord

logger = logging.getLogger(__name__)

_MIN_FREE_BYTES = 4_000_000  # with less, SQLite fails in many ways
_PROBE_COUNT = 16
_DATABASE = "chroma.sqlite3"
_M_PERTURB = -6  # from glibc's malloc.h


def scrub_memory() -> None:
    """Make glibc overwrite memory whenever this process allocates or frees it.

    Chroma's graph library writes memory to disk that it never initialised: pieces of whatever the
    process held before (seen: a deleted report's words inside data_level0.bin). Call this before
    reading anything that must not be in an index. Allocations up to 1 kB escape it, as glibc caches
    them: `_zero_unused_lengths` is for those.
    """
    try:
        ctypes.CDLL(None).mallopt(_M_PERTURB, 0xFF)
    except AttributeError:
        logger.warning("not glibc: Chroma's files may contain traces of removed reports")


def write_version(
    directory: Path,
    info: IndexInfo,
    content: IndexContent,
    cache: EmbeddingCache,
    *,
    url: str,
    progress: Progress,
) -> None:
    """Write, check and publish a version; drop all other vectors from the cache.

    The cache must have a vector for every text and image. ``progress`` is called as ("index",
    records written, total), then ("publish", step, 3).

    Raises:
        StoreError, OSError, sqlite3.Error: Chroma or the disk failed; the old version stays.
    """
    texts, location = group_by_text(content.records), chroma_location(directory, info, url)
    folder = location.folder.parent
    _refuse_small_disk(directory, content)
    cache.keep([*texts, *content.images])
    try:
        folder.mkdir()
        write_ids(folder, texts)
        _fill(location, content, texts, cache, progress=progress)
        for path in (*folder.rglob("*"), folder):
            fsync_path(path)
        progress("publish", 1, 3)
        publish_info(directory, info)
    except BaseException as error:
        full = shutil.disk_usage(directory).free < _MIN_FREE_BYTES
        with contextlib.suppress(OSError, StoreError):
            delete_stale_versions(directory)
        if full and isinstance(error, StoreError):  # Chroma's message does not say so
            raise OSError(errno.ENOSPC, "") from error
        raise
    progress("publish", 2, 3)
    delete_stale_versions(directory)
    if url:
        delete_old_collections(location)
    progress("publish", 3, 3)


def read_content(directory: Path, info: IndexInfo, url: str) -> IndexContent:
    """Read everything back, and refuse anything not as written, so that no damage is carried over.

    Raises:
        StoreError: Chroma's files are damaged, or a record is missing, changed or duplicated.
    """
    location, index_id = chroma_location(directory, info, url), info.index_id
    try:
        try:
            records, images = _read(location, info)
        except StoreError:
            if url or not (location.folder / _DATABASE).is_file():
                raise
            index_id = ""
            # with a damaged graph Chroma cannot return records either; without a graph it can
            with TemporaryDirectory(dir=directory) as folder:
                shutil.copy(location.folder / _DATABASE, folder)
                records, images = _read(replace(location, folder=Path(folder)), info)
    except StoreError as error:
        reason = str(error).partition(": `cxr-rag")[0]
        raise StoreError(
            f"the index in {directory} cannot be read back ({reason}): {REINDEX_HINT}"
        ) from error
    return IndexContent(
        records, info.collections, info.removed, info.store_id, info, images, index_id=index_id
    )


def _read(
    location: ChromaLocation, info: IndexInfo
) -> tuple[list[ReportRecord], dict[str, list[str]]]:
    with open_collections(location) as (texts, images):
        reports_by_text = {
            text_id: list(reports_from_metadata(metadata))
            for text_id, metadata in texts.metadatas(texts.ids()).items()
        }
        reports_by_image = {
            key: report_ids_from_metadata(metadata)
            for key, metadata in images.metadatas(images.ids()).items()
        }
    records = sorted(chain(*reports_by_text.values()), key=lambda record: record.report_id)
    misplaced = any(
        text_hash(report.text) != text_id
        for text_id, reports in reports_by_text.items()
        for report in reports
    )
    index_id = content_id(info, fingerprint(records), reports_by_image, info.chroma)
    if misplaced or index_id != info.index_id:
        raise StoreError("it does not hold what was written")
    return records, reports_by_image


def delete_stale_versions(directory: Path) -> None:
    """Delete all versions but the current one: old ones, and those of killed writers.

    Raises:
        StoreError: ``index.json`` is damaged; nothing is deleted.
    """
    try:
        current = read_info(directory).version
    except StoreMissingError:
        current = ""
    for path in directory.glob("version-*"):
        if path.name != f"version-{current}":
            shutil.rmtree(path)


def new_index_info(content: IndexContent) -> IndexInfo:
    """The ``index.json`` of a new version with this content."""
    encoder, chroma = content.encoder, chroma_configuration()
    records_fingerprint = fingerprint(content.records)
    return IndexInfo(
        index_id=content_id(encoder, records_fingerprint, content.images, chroma),
        version=uuid.uuid4().hex[:12],
        store_id=content.store_id,
        encoder_id=encoder.encoder_id,
        preprocess_hash=encoder.preprocess_hash,
        dim=encoder.dim,
        fingerprint=records_fingerprint,
        count=len(content.records),
        texts=len({text_hash(record.text) for record in content.records}),
        images=len(content.images),
        collections=content.collections,
        removed=content.removed,
        chroma=chroma,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _refuse_small_disk(directory: Path, content: IndexContent) -> None:
    vectors = len(content.records) + len(content.images)
    needed = (vectors * 12 * content.encoder.dim + len(content.records) * 8192) // 10**6
    free = shutil.disk_usage(directory).free // 10**6
    if free < needed:
        raise StoreError(
            f"the index needs about {needed} MB in {directory}, {free} MB are free: free some "
            "space, or choose another folder"
        )


def _fill(
    location: ChromaLocation,
    content: IndexContent,
    texts: Mapping[str, Sequence[ReportRecord]],
    cache: EmbeddingCache,
    *,
    progress: Progress,
) -> None:
    """Create and fill the collections, then check that Chroma finds what was written."""
    sizes, done = (len(texts), len(content.images)), 0
    with create_collections(location, sizes) as (text_collection, image_collection):
        for ids in split_into_batches(list(texts)):
            metadatas = [reports_to_metadata(texts[key]) for key in ids]
            text_collection.add(ids, cache.vectors(ids), metadatas)
            done += len(ids)
            progress("index", done, sum(sizes))
        for ids in split_into_batches(sorted(content.images)):
            image_metadatas = [report_ids_to_metadata(content.images[key]) for key in ids]
            image_collection.add(ids, cache.vectors(ids), image_metadatas)
            done += len(ids)
            progress("index", done, sum(sizes))
    if not location.url:
        _zero_unused_lengths(location.folder)
    with open_collections(location) as written:  # as a reader would
        for size, keys, collection in zip(sizes, (texts, content.images), written, strict=True):
            probes = cache.vectors(list(keys)[:: size // _PROBE_COUNT + 1])
            found = sum(
                similarity > 1 - 1e-3
                for probe in probes
                for _, similarity, _ in collection.nearest(probe, 1)
            )
            # a graph may miss one; a wrong file misses nearly all
            if collection.count() != size or found < 0.75 * len(probes):
                raise StoreError(
                    "Chroma does not find what was written: run the same command again"
                )


def _zero_unused_lengths(folder: Path) -> None:
    """Zero the unused part of each graph's length file.

    Only the vectors' lengths (float32, room for 100 from the start) are small enough to lie in
    memory that `scrub_memory` does not reach.
    """
    for path in folder.glob("*/length.bin"):
        header = (path.parent / "header.bin").read_bytes()
        _, _, _, records = struct.unpack_from("<iQQQ", header)  # version, offset, capacity, records
        unused = path.stat().st_size - 4 * records
        with path.open("r+b") as file:
            file.seek(4 * records)
            file.write(bytes(unused))
