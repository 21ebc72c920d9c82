"""A version of an index in its folder: written beside the one that counts, put in its place, read.

Whatever happens before the last step of writing, the old version counts; after it, the new one.
Called with the lock held.
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
    batches_of,
    chroma_facts,
    create_collections,
    delete_old_collections,
    open_collections,
)
from rag.index.client import Place, place_of
from rag.index.content import (
    IndexContent,
    by_text,
    content_id,
    image_metadata,
    reports_of,
    reports_of_image,
    to_metadata,
)
from rag.index.embedding import EmbeddingCache
from rag.index.ids import write_ids
from rag.index.info import REINDEX_HINT, IndexInfo, Progress, publish_info, read_info
from rag.schema import ReportRecord

logger = logging.getLogger(__name__)

_FULL = 4_000_000  # bytes; with less, SQLite fails in many ways
_PROBES = 16
_RECORDS = "chroma.sqlite3"
_M_PERTURB = -6  # of glibc's malloc.h

Texts = Mapping[str, Sequence[ReportRecord]]


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
    directory: Path,
    info: IndexInfo,
    content: IndexContent,
    cache: EmbeddingCache,
    *,
    url: str,
    progress: Progress,
) -> None:
    """Write, check and publish a version; forget what the cache holds beyond it.

    Args:
        directory: of the index.
        info: of `new_index_info`.
        content: what it shall hold.
        cache: has a vector for every text and image.
        url: of a Chroma server, or empty.
        progress: told ("index", records written, total), then ("publish", step, 3).

    Raises:
        StoreError, OSError, sqlite3.Error: Chroma or the disk failed; the old version still counts.
    """
    texts, place = by_text(content.records), place_of(directory, info, url)
    folder = place.folder.parent
    _refuse_small_disk(directory, content)
    cache.keep([*texts, *content.images])
    try:
        folder.mkdir()
        write_ids(folder, texts)
        _fill(place, content, texts, cache, progress=progress)
        for path in (*folder.rglob("*"), folder):
            fsync_path(path)
        progress("publish", 1, 3)
        publish_info(directory, info)
    except BaseException as error:
        full = shutil.disk_usage(directory).free < _FULL
        with contextlib.suppress(OSError, StoreError):
            sweep(directory)
        if full and isinstance(error, StoreError):  # Chroma's own words do not say so
            raise OSError(errno.ENOSPC, "") from error
        raise
    progress("publish", 2, 3)
    sweep(directory)
    if url:
        delete_old_collections(place)
    progress("publish", 3, 3)


def read_content(directory: Path, info: IndexInfo, url: str) -> IndexContent:
    """Read everything, and refuse what is not what was written, so that no damage is carried over.

    Raises:
        StoreError: Chroma's files are damaged, or a record is missing, changed or doubled.
    """
    place, index_id = place_of(directory, info, url), info.index_id
    try:
        try:
            records, images = _read(place, info)
        except StoreError:
            if url or not (place.folder / _RECORDS).is_file():
                raise
            index_id = ""
            # a damaged graph keeps Chroma from giving back records, too; no graph at all does not
            with TemporaryDirectory(dir=directory) as beside:
                shutil.copy(place.folder / _RECORDS, beside)
                records, images = _read(replace(place, folder=Path(beside)), info)
    except StoreError as error:
        words = str(error).partition(": `cxr-rag")[0]
        raise StoreError(
            f"the index in {directory} cannot be read back ({words}): {REINDEX_HINT}"
        ) from error
    return IndexContent(
        records, info.collections, info.removed, info.store_id, info, images, index_id=index_id
    )


def _read(place: Place, info: IndexInfo) -> tuple[list[ReportRecord], dict[str, list[str]]]:
    with open_collections(place) as (texts, images):
        found = texts.metadatas(texts.ids())
        of_texts = {text_id: list(reports_of(metadata)) for text_id, metadata in found.items()}
        records = sorted(chain(*of_texts.values()), key=lambda record: record.report_id)
        found_images = images.metadatas(images.ids())
        reports_by_image = {key: reports_of_image(each) for key, each in found_images.items()}
    strays = any(text_hash(r.text) != text_id for text_id, rs in of_texts.items() for r in rs)
    index_id = content_id(info, fingerprint(records), reports_by_image, info.chroma)
    if strays or index_id != info.index_id:
        raise StoreError("it does not hold what was written")
    return records, reports_by_image


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


def new_index_info(content: IndexContent) -> IndexInfo:
    """What a new version with this content is."""
    encoder, chroma, records = content.encoder, chroma_facts(), fingerprint(content.records)
    return IndexInfo(
        index_id=content_id(encoder, records, content.images, chroma),
        version=uuid.uuid4().hex[:12],
        store_id=content.store_id,
        encoder_id=encoder.encoder_id,
        preprocess_hash=encoder.preprocess_hash,
        dim=encoder.dim,
        fingerprint=records,
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
    place: Place, content: IndexContent, texts: Texts, cache: EmbeddingCache, *, progress: Progress
) -> None:
    """Make the collections and fill them, and see whether Chroma finds what was written."""
    sizes, done = (len(texts), len(content.images)), 0
    with create_collections(place, sizes) as (reports, images):
        for ids in batches_of(list(texts)):
            reports.add(ids, cache.vectors(ids), [to_metadata(texts[key]) for key in ids])
            done += len(ids)
            progress("index", done, sum(sizes))
        for ids in batches_of(sorted(content.images)):
            images.add(ids, cache.vectors(ids), [image_metadata(content.images[k]) for k in ids])
            done += len(ids)
            progress("index", done, sum(sizes))
    if not place.url:
        _blank_unused(place.folder)
    with open_collections(place) as written:  # as a reader would
        for size, keys, collection in zip(sizes, (texts, content.images), written, strict=True):
            probes = cache.vectors(list(keys)[:: size // _PROBES + 1])
            found = [near[1] > 1 - 1e-3 for each in probes for near in collection.nearest(each, 1)]
            # a graph may miss one; a wrong file misses nearly all
            if collection.count() != size or sum(found) < 0.75 * len(probes):
                raise StoreError(
                    "Chroma does not find what was written: run the same command again"
                )


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
