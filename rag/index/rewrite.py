"""Writes an index again without some of its reports, or as it is. Embeds nothing."""

import time
from pathlib import Path

from rag.index.cache import EmbeddingCache
from rag.index.chroma import open_collections
from rag.index.contents import place_of, read_contents
from rag.index.info import IndexInfo, Progress, read_info, silent
from rag.index.lock import write_lock
from rag.index.plan import IndexSummary, RemovedIds, collection_infos
from rag.index.records import by_text
from rag.index.writer import Content, write_version


def delete_from_index(
    directory: Path,
    *,
    url: str = "",
    studies: frozenset[str] = frozenset(),
    patients: frozenset[str] = frozenset(),
    progress: Progress = silent,
) -> IndexSummary:
    """Remove studies or patients for good: from Chroma, and from what is kept beside it.

    A new version is written, as Chroma only marks records as deleted (on a Chroma server, run its
    `vacuum` command afterwards). The ids' hashes are kept, so that indexing the same collection
    again does not bring the reports back.

    Returns:
        ``removed`` and ``kept`` count reports; ids of which nothing was here stand in
        ``unknown_excludes`` (they stay out from now on, too).

    Raises:
        StoreMissingError, StoreInUseError, StoreError: as for `build_index`.
    """
    started = time.perf_counter()
    read_info(directory)  # before a lock file is made where nothing is
    with write_lock(directory):
        info = read_info(directory)
        base = read_contents(directory, info, url)
        kept, known = [], set[str]()
        for record in base.records:
            named = (studies & {record.study_id}) | (patients & {record.patient_id})
            known |= named
            if not named:
                kept.append(record)
        before = RemovedIds(info.store_id, frozenset(info.removed))
        content = Content(
            records=kept,
            collections=collection_infos(kept, info.collections),
            removed=tuple(sorted(before.hashes | before.of(studies=studies, patients=patients))),
            store_id=info.store_id,
            encoder=info,
            images=base.images_of(kept),
        )
        cache = _filled_cache(directory, info, content, url)
        new = write_version(directory, content, cache, url=url, apart=True, progress=progress)
    return IndexSummary(
        removed=info.count - new.count,
        kept=new.count,
        unknown_excludes=tuple(sorted((studies | patients) - known)),
        seconds=time.perf_counter() - started,
        index_id=new.index_id,
    )


def rebuild_index(directory: Path, *, url: str = "", progress: Progress = silent) -> IndexSummary:
    """Write an index again from its own records and vectors, without embedding.

    For a damaged graph, or after Chroma or the graph's settings have changed.

    Raises:
        StoreMissingError, StoreInUseError: as for `build_index`.
        StoreError: Chroma's records are damaged, too; only indexing again helps.
    """
    started = time.perf_counter()
    read_info(directory)
    with write_lock(directory):
        info = read_info(directory)
        base = read_contents(directory, info, url)
        content = Content(
            records=base.records,
            collections=info.collections,
            removed=info.removed,
            store_id=info.store_id,
            encoder=info,
            images=base.images,
        )
        cache = _filled_cache(directory, info, content, url)
        new = write_version(
            directory, content, cache, url=url, apart=bool(info.removed), progress=progress
        )
    return IndexSummary(
        kept=new.count, seconds=time.perf_counter() - started, index_id=new.index_id
    )


def _filled_cache(directory: Path, info: IndexInfo, content: Content, url: str) -> EmbeddingCache:
    """The cache, with what it lacks of a content taken from Chroma."""
    cache = EmbeddingCache(directory, info)
    texts = [key for key in by_text(content.records) if key not in cache]
    images = [key for key in content.images if key not in cache]
    if texts or images:
        with open_collections(place_of(directory, info, url)) as collections:
            for collection, keys in zip(collections, (texts, images), strict=True):
                if keys:
                    cache.append(keys, collection.vectors(keys))
    return cache
