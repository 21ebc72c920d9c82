"""Changes an index: a collection comes in, studies go, everything is written again.

Whatever changes, a whole new version is written beside the old one: that takes as long as the first
time, without the embedding. An index may hold several collections; indexing one makes its part
equal to the collection, and leaves the others alone.
"""

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace as with_fields
from pathlib import Path

from encoders.base import ImageEncoder, embeds_texts
from rag.atomic_io import explain_disk_errors
from rag.corpus.records import Corpus
from rag.errors import StoreError, StoreMissingError
from rag.index.chroma import open_collections
from rag.index.client import place_of
from rag.index.content import (
    IndexContent,
    IndexSummary,
    Screen,
    by_text,
    collection_infos,
    hashes_of,
    with_collection,
)
from rag.index.embedding import NO_IMAGES, EmbeddingCache, Images, embed_images, embed_texts
from rag.index.info import (
    INDEX_FILE,
    LOCK_FILE,
    IndexInfo,
    Progress,
    check_encoder,
    read_info,
    silent,
    write_lock,
)
from rag.index.version import new_index_info, read_content, scrub_memory, sweep, write_version

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
    progress: Progress = silent,
) -> IndexSummary:
    """Make an index's part of this collection equal to the collection.

    New and changed reports come in, vanished and excluded ones go, the rest is kept without being
    embedded. What was removed on request stays out. Images stay as long as their report does.
    Killed at any moment, the old index still counts, and what was embedded is not embedded again
    by the next run.

    Args:
        corpus: what to index.
        encoder: embeds the texts; one that embeds images alone needs the studies' images.
        directory: of the index; made if it is not there.
        url: of the Chroma server that holds the collections, if they are not in the folder.
        exclude: study ids to leave out, so that an evaluation's own studies are never in it.
        screens: look at every report before it is indexed.
        images: further images of the reports' studies, for image -> image -> report retrieval.
        replace: start over if the index is another encoder's or is damaged.
        progress: told ("read", "embed", "images", "index" or "publish", done, total).

    Raises:
        StoreInUseError: another process is writing.
        StoreMismatchError: the index is another encoder's, and ``replace`` is not set.
        StoreError: disk or Chroma failed; the message says what to do.
    """
    with explain_disk_errors(directory, StoreError):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # reports in clear text
        names = {path.name for path in directory.iterdir()}
    if names and names.isdisjoint({INDEX_FILE, LOCK_FILE}):
        raise StoreError(
            f"{directory} is not empty and not an index: choose another or an empty folder"
        )
    with _only_writer(directory):
        base = _before(corpus, encoder, directory, url=url, replace=replace)
        content, summary = with_collection(
            base, corpus, exclude=exclude, screens=screens, progress=progress
        )
        cache = EmbeddingCache(directory, encoder)
        embedded = embed_texts(content.records, encoder, cache, progress=progress)
        found, new_images, problems = embed_images(
            images, content.records, encoder, cache, progress=progress
        )
        for key, reports in content.images.items():
            if key in cache:  # else it is of another encoder
                found.setdefault(key, set()).update(reports)
        content = with_fields(
            content, images={key: sorted(reports) for key, reports in found.items()}
        )
        if not content.images and not embeds_texts(encoder):
            raise StoreError(
                f"{encoder.encoder_id} embeds images only, and no image of these studies is given "
                "that can be read: name them with `cxr-rag index --images`"
            )
        info = new_index_info(content)
        if (info.index_id, info.collections) != (base.index_id, base.collections):
            write_version(directory, info, content, cache, url=url, progress=progress)
    logger.info("indexed: %d added, %d kept, %s", summary.added, summary.kept, info.index_id)
    with_image = set[str]().union(*content.images.values())
    return with_fields(
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
    progress: Progress = silent,
) -> IndexSummary:
    """Remove studies or patients for good: from Chroma, and from what is kept beside it.

    A new version is written, as Chroma only marks records as deleted (on a Chroma server, run its
    `vacuum` command afterwards). The ids' hashes are kept, so that indexing the same collection
    again does not bring the reports back.

    Returns:
        ``removed`` and ``kept`` count reports; ids of which nothing was here stand in
        ``unknown_ids`` (they stay out from now on, too).

    Raises:
        StoreMissingError, StoreInUseError, StoreError: as for `build_index`.
    """
    with _changing(directory, url) as base:
        kept, known = [], set[str]()
        for record in base.records:
            named = (studies & {record.study_id}) | (patients & {record.patient_id})
            known |= named
            if not named:
                kept.append(record)
        removed = hashes_of(base.store_id, studies=studies, patients=patients)
        content = with_fields(
            base.of(kept),
            collections=collection_infos(kept, base.collections),
            removed=tuple(sorted(removed.union(base.removed))),
        )
        new = _rewrite(directory, content, url=url, progress=progress)
    return IndexSummary(
        removed=len(base.records) - new.count,
        kept=new.count,
        unknown_ids=tuple(sorted((studies | patients) - known)),
        index_id=new.index_id,
    )


def rebuild_index(directory: Path, *, url: str = "", progress: Progress = silent) -> IndexSummary:
    """Write an index again from its own records and vectors, without embedding.

    For a damaged graph, or after Chroma or the graph's settings have changed.

    Raises:
        StoreMissingError, StoreInUseError: as for `build_index`.
        StoreError: Chroma's records are damaged, too; only indexing again helps.
    """
    with _changing(directory, url) as base:
        new = _rewrite(directory, base, url=url, progress=progress)
    return IndexSummary(kept=new.count, index_id=new.index_id)


@contextmanager
def _only_writer(directory: Path) -> Iterator[None]:
    """The right to change an index, without what a writer left that was killed."""
    scrub_memory()
    with write_lock(directory), explain_disk_errors(directory, StoreError):
        with suppress(StoreError):  # index.json is damaged: nobody knows which version counts
            sweep(directory)
        yield


@contextmanager
def _changing(directory: Path, url: str) -> Iterator[IndexContent]:
    """What an index holds, with the right to change it."""
    read_info(directory)  # before a lock file is made where nothing is
    with _only_writer(directory):
        yield read_content(directory, read_info(directory), url)


def _before(
    corpus: Corpus, encoder: ImageEncoder, directory: Path, *, url: str, replace: bool
) -> IndexContent:
    """What is indexed; no report where that is damaged and may be given up.

    It may if it is to be replaced, or if this collection is all there was.
    """
    try:
        info = read_info(directory)
    except StoreError as error:
        passing = isinstance(error.__cause__, OSError)  # the file may be whole
        if not isinstance(error, StoreMissingError) and (passing or not replace):
            raise
        return IndexContent((), (), (), uuid.uuid4().hex, encoder)
    if not replace:
        check_encoder(directory, info, encoder)
    try:
        return with_fields(read_content(directory, info, url), encoder=encoder)
    except StoreError:
        if not replace and not {each.name for each in info.collections} <= {corpus.name}:
            raise
        return IndexContent((), info.collections, info.removed, info.store_id, encoder)


def _rewrite(directory: Path, content: IndexContent, *, url: str, progress: Progress) -> IndexInfo:
    """Write a content of this index, with vectors that the cache lacks taken from Chroma."""
    cache = EmbeddingCache(directory, content.encoder)
    texts = [key for key in by_text(content.records) if key not in cache]
    images = [key for key in content.images if key not in cache]
    if texts or images:
        with open_collections(place_of(directory, read_info(directory), url)) as collections:
            for collection, keys in zip(collections, (texts, images), strict=True):
                if keys:
                    cache.append(keys, collection.vectors(keys))
    info = new_index_info(content)
    write_version(directory, info, content, cache, url=url, progress=progress)
    return info
