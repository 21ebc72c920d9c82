"""Writes a new version of an index beside the one that counts, and puts it in its place.

Whatever happens before the last step, the old version counts; after it, the new one. Called with
the lock held.
"""

import contextlib
import errno
import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rag.atomic_io import flush
from rag.corpus.records import fingerprint
from rag.errors import StoreError
from rag.index.cache import EmbeddingCache
from rag.index.chroma import batch_plan, chroma_facts, delete_old_collections
from rag.index.client import Place
from rag.index.fill import Batch, Job, fill, fill_in_child
from rag.index.ids import write_ids
from rag.index.info import (
    CollectionInfo,
    EncoderIdentity,
    IndexInfo,
    Progress,
    content_id,
    disk_errors,
    publish_info,
)
from rag.index.records import by_text, to_metadata
from rag.schema import ReportRecord

_FULL = 4_000_000  # bytes; with less, SQLite fails in many ways


@dataclass(frozen=True, slots=True)
class Content:
    """What a version shall hold.

    Attributes:
        records: its reports.
        images: key of an image -> ids of the reports it stands for.
        collections: where the reports come from.
        removed: hashes of studies and patients that stay out.
        store_id: of the folder.
        encoder: what made the vectors.
    """

    records: Sequence[ReportRecord]
    collections: tuple[CollectionInfo, ...]
    removed: tuple[str, ...]
    store_id: str
    encoder: EncoderIdentity
    images: Mapping[str, Sequence[str]] = field(default_factory=dict)


def write_version(
    directory: Path,
    content: Content,
    cache: EmbeddingCache,
    *,
    url: str,
    apart: bool,
    progress: Progress,
) -> IndexInfo:
    """Write, check and publish a version; forget what the cache holds beyond it.

    Args:
        directory: of the index.
        content: what it shall hold.
        cache: has a vector for every text and image.
        url: of a Chroma server, or empty.
        apart: this process may hold what must not be in the index.
        progress: told ("index", records written, total), then ("publish", step, 3).

    Raises:
        StoreError: the disk or Chroma failed; the old version still counts.
    """
    texts = by_text(content.records)
    info = _describe(content, texts)
    folder = directory / f"version-{info.version}"
    place = Place(folder / "chroma", url, info.version)
    job = Job(place, content.store_id, len(texts), len(content.images))
    with disk_errors(directory):
        sweep(directory)
        _refuse_small_disk(directory, content)
        folder.mkdir()
        cache.keep([*texts, *content.images])
    try:
        with disk_errors(directory):
            write_ids(folder, texts)
        write = fill_in_child if apart else fill
        done, total = 0, len(texts) + len(content.images)
        for size in write(job, _batches(content, texts, cache)):
            done += size
            progress("index", done, total)
        with disk_errors(directory):
            for path in (*folder.rglob("*"), folder):
                flush(path)
            progress("publish", 1, 3)
            publish_info(directory, info)
    except BaseException as error:
        with contextlib.suppress(OSError):
            sweep(directory)  # not the new version, if it counts already
        if isinstance(error, StoreError) and shutil.disk_usage(directory).free < _FULL:
            with disk_errors(directory):  # Chroma's own words do not say so
                raise OSError(errno.ENOSPC, "") from error
        raise
    progress("publish", 2, 3)
    with disk_errors(directory):
        sweep(directory, counts=info.version)
    if url:
        delete_old_collections(place, job.facts)
    progress("publish", 3, 3)
    return info


def sweep(directory: Path, *, counts: str = "") -> None:
    """Delete versions that do not count: what a killed writer left, and old ones."""
    if not counts:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            counts = json.loads((directory / "index.json").read_text(encoding="utf-8"))["version"]
    for path in directory.glob("version-*"):
        if path.name != f"version-{counts}":
            shutil.rmtree(path)


def _batches(
    content: Content, texts: Mapping[str, Sequence[ReportRecord]], cache: EmbeddingCache
) -> Iterator[Batch]:
    for number, keys in enumerate((list(texts), sorted(content.images))):
        start = 0
        for size in batch_plan(len(keys))[0]:
            ids = keys[start : start + size]
            start += size
            metadatas = [
                {"reports": json.dumps(list(content.images[key]))}
                if number
                else to_metadata(texts[key])
                for key in ids
            ]
            yield number, ids, cache.vectors(ids), metadatas


def _describe(content: Content, texts: Mapping[str, Sequence[ReportRecord]]) -> IndexInfo:
    content_hash = fingerprint(sorted(content.records, key=lambda record: record.report_id))
    return IndexInfo(
        index_id=content_id(
            content.encoder, content_hash, images_hash(content.images), chroma_facts()
        ),
        version=uuid.uuid4().hex[:12],
        store_id=content.store_id,
        encoder_id=content.encoder.encoder_id,
        preprocess_hash=content.encoder.preprocess_hash,
        dim=content.encoder.dim,
        fingerprint=content_hash,
        count=len(content.records),
        texts=len(texts),
        images=len(content.images),
        collections=content.collections,
        removed=content.removed,
        chroma=chroma_facts(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def images_hash(images: Mapping[str, Sequence[str]]) -> str:
    """Names a set of images and what they stand for; empty where there are none."""
    if not images:
        return ""
    content = json.dumps({key: list(reports) for key, reports in sorted(images.items())})
    return hashlib.sha256(content.encode()).hexdigest()


def _refuse_small_disk(directory: Path, content: Content) -> None:
    vectors = len(content.records) + len(content.images)
    needed = (vectors * 12 * content.encoder.dim + len(content.records) * 8192) // 10**6
    free = shutil.disk_usage(directory).free // 10**6
    if free < needed:
        raise StoreError(
            f"the index needs about {needed} MB in {directory}, {free} MB are free: free some "
            "space, or choose another folder"
        )
