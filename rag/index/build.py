"""Changes an index: adds or updates a collection, deletes studies, rebuilds.

Every change writes a whole new version beside the old one; that takes as long as the first time,
except for the embedding. An index may hold several collections; indexing one replaces its part and
leaves the others alone.
"""

import dataclasses
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from encoders.base import ImageEncoder, embeds_texts
from rag.atomic_io import explain_disk_errors
from rag.corpus.records import Corpus
from rag.errors import StoreError, StoreMissingError
from rag.index.chroma import open_collections
from rag.index.client import chroma_location
from rag.index.content import (
    IndexContent,
    IndexSummary,
    Screen,
    collection_infos,
    group_by_text,
    merge_collection,
    removal_hashes,
)
from rag.index.embedding import NO_IMAGES, EmbeddingCache, Images, embed_images, embed_texts
from rag.index.info import (
    INDEX_FILE,
    LOCK_FILE,
    IndexInfo,
    Progress,
    check_encoder,
    read_info,
    write_lock,
)
from rag.index.version import (
    delete_stale_versions,
    new_index_info,
    read_content,
    scrub_memory,
    write_version,
)

logger = logging.getLogger(__name__)


def build_index(
    corpus: Corpus,
    encoder: ImageEncoder,
    directory: Path,
    *,
    url: str = "",
    exclude: frozenset[str] = frozenset(),
    screens: tuple[Screen, ...] = (),
    images: Images = NO_IMAGES,
    replace: bool = False,
    progress: Progress = lambda *_: None,
) -> IndexSummary:
    """Create an index of a collection, or update the collection's part of an existing one.

    Adds new and changed reports and removes vanished and excluded ones; the rest is kept without
    being embedded. What was removed on request stays out. Images stay as long as their report.
    If the process is killed, the old index remains current, and the next run embeds nothing again.

    Args:
        corpus: what to index.
        encoder: embeds the texts; an image-only encoder needs the studies' images.
        directory: of the index; created if missing.
        url: of the Chroma server that holds the collections, if any.
        exclude: study ids to leave out, such as those of an evaluation.
        screens: check and change every report before it is indexed.
        images: image files by study, for image -> image -> report retrieval.
        replace: start over if the index was built by another encoder or is damaged.
        progress: called with "read", "embed", "images", "index" and "publish".

    Raises:
        StoreInUseError: another process is writing.
        StoreMismatchError: another encoder built the index, and ``replace`` is not set.
        StoreError: disk or Chroma failed; the message says what to do.
    """
    with explain_disk_errors(directory, StoreError):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # reports in clear text
        names = {path.name for path in directory.iterdir()}
    if names and names.isdisjoint({INDEX_FILE, LOCK_FILE}):
        raise StoreError(
            f"{directory} is not empty and not an index: choose another or an empty folder"
        )
    with _locked(directory):
        base = _existing_content(corpus, encoder, directory, url=url, replace=replace)
        content, summary = merge_collection(
            base, corpus, exclude=exclude, screens=screens, progress=progress
        )
        cache = EmbeddingCache(directory, encoder)
        embedded = embed_texts(content.records, encoder, cache, progress=progress)
        reports_by_image, new_images, problems = embed_images(
            images, content.records, encoder, cache, progress=progress
        )
        for key, report_ids in content.images.items():
            if key in cache:  # otherwise another encoder embedded it
                reports_by_image.setdefault(key, set()).update(report_ids)
        content = dataclasses.replace(
            content, images={key: sorted(ids) for key, ids in reports_by_image.items()}
        )
        if not content.images and not embeds_texts(encoder):
            raise StoreError(
                f"{encoder.encoder_id} embeds images only, and there is no readable image of these "
                "studies: name some with `cxr-rag index --images`"
            )
        info = new_index_info(content)
        if (info.index_id, info.collections) != (base.index_id, base.collections):
            write_version(directory, info, content, cache, url=url, progress=progress)
    logger.info("indexed: %d added, %d kept, %s", summary.added, summary.kept, info.index_id)
    with_image = set[str]().union(*content.images.values())
    return dataclasses.replace(
        summary,
        embedded=embedded,
        images=new_images,
        without_image=len(content.records) - len(with_image) if with_image else 0,
        problems=(*summary.problems, *problems),
        index_id=info.index_id,
    )


def delete_from_index(
    directory: Path,
    *,
    url: str = "",
    studies: frozenset[str] = frozenset(),
    patients: frozenset[str] = frozenset(),
    progress: Progress = lambda *_: None,
) -> IndexSummary:
    """Delete studies or patients for good, from Chroma and from every other file.

    Writes a new version, as Chroma only marks records as deleted (on a Chroma server, run its
    `vacuum` command afterwards). Hashes of the ids are kept, so that indexing the same collection
    again does not bring the reports back.

    Returns:
        ``removed`` and ``kept`` count reports; ``unknown_ids`` are ids without a report (they stay
        out from now on, too).

    Raises:
        StoreMissingError, StoreInUseError, StoreError: as for `build_index`.
    """
    with _opened_for_change(directory, url) as base:
        kept, known_ids = [], set[str]()
        for record in base.records:
            matched = (studies & {record.study_id}) | (patients & {record.patient_id})
            known_ids |= matched
            if not matched:
                kept.append(record)
        removed = removal_hashes(base.store_id, studies=studies, patients=patients)
        content = dataclasses.replace(
            base.with_records(kept),
            collections=collection_infos(kept, base.collections),
            removed=tuple(sorted(removed.union(base.removed))),
        )
        info = _write_again(directory, content, url=url, progress=progress)
    return IndexSummary(
        removed=len(base.records) - info.count,
        kept=info.count,
        unknown_ids=tuple(sorted((studies | patients) - known_ids)),
        index_id=info.index_id,
    )


def rebuild_index(
    directory: Path, *, url: str = "", progress: Progress = lambda *_: None
) -> IndexSummary:
    """Write an index again from its own records and vectors, without embedding.

    For a damaged graph, or after Chroma or the graph settings have changed.

    Raises:
        StoreMissingError, StoreInUseError: as for `build_index`.
        StoreError: Chroma's records are damaged, too; only indexing again helps.
    """
    with _opened_for_change(directory, url) as content:
        info = _write_again(directory, content, url=url, progress=progress)
    return IndexSummary(kept=info.count, index_id=info.index_id)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the write lock; first delete what a killed writer left."""
    scrub_memory()
    with write_lock(directory), explain_disk_errors(directory, StoreError):
        with suppress(StoreError):  # index.json is damaged: the current version is unknown
            delete_stale_versions(directory)
        yield


@contextmanager
def _opened_for_change(directory: Path, url: str) -> Iterator[IndexContent]:
    """The content of an index, with the write lock held."""
    read_info(directory)  # fails before a lock file is created if the index does not exist
    with _locked(directory):
        yield read_content(directory, read_info(directory), url)


def _existing_content(
    corpus: Corpus, encoder: ImageEncoder, directory: Path, *, url: str, replace: bool
) -> IndexContent:
    """The current content.

    Without records if the index is missing, or is damaged and either ``replace`` is set or it
    holds no collection but this one.
    """
    try:
        info = read_info(directory)
    except StoreError as error:
        unreadable = isinstance(error.__cause__, OSError)  # the file may be intact
        if not isinstance(error, StoreMissingError) and (unreadable or not replace):
            raise
        return IndexContent((), (), (), uuid.uuid4().hex, encoder)
    if not replace:
        check_encoder(directory, info, encoder)
    try:
        return dataclasses.replace(read_content(directory, info, url), encoder=encoder)
    except StoreError:
        if not replace and not {one.name for one in info.collections} <= {corpus.name}:
            raise
        return IndexContent((), info.collections, info.removed, info.store_id, encoder)


def _write_again(
    directory: Path, content: IndexContent, *, url: str, progress: Progress
) -> IndexInfo:
    """Write a new version, with the vectors missing in the cache taken from the current one."""
    cache = EmbeddingCache(directory, content.encoder)
    texts = [key for key in group_by_text(content.records) if key not in cache]
    images = [key for key in content.images if key not in cache]
    if texts or images:
        location = chroma_location(directory, read_info(directory), url)
        with open_collections(location) as collections:
            for collection, keys in zip(collections, (texts, images), strict=True):
                if keys:
                    cache.append(keys, collection.vectors(keys))
    info = new_index_info(content)
    write_version(directory, info, content, cache, url=url, progress=progress)
    return info
