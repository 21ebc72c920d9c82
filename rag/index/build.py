"""A collection and an encoder -> an index. Indexing again adds nothing and embeds nothing twice.

An index may hold several collections; indexing one makes its part equal to the collection, and
leaves the others alone. What was removed on request stays out. Whatever changes, a whole new
version is written beside the old one: that takes as long as the first time, without the embedding.
"""

import logging
import time
import uuid
from dataclasses import replace as with_fields
from pathlib import Path

from encoders.base import ImageEncoder, embeds_texts
from rag.corpus.records import Corpus, fingerprint
from rag.errors import StoreError, StoreMissingError
from rag.index.cache import EmbeddingCache
from rag.index.chroma import chroma_facts
from rag.index.contents import Contents, read_contents
from rag.index.embedding import NO_IMAGES, Images, embed_images, embed_texts
from rag.index.info import (
    IndexInfo,
    Progress,
    check_encoder,
    disk_errors,
    is_index,
    read_info,
    same_encoder,
    silent,
)
from rag.index.lock import write_lock
from rag.index.plan import (
    IndexSummary,
    RemovedIds,
    Screen,
    make_plan,
)
from rag.index.writer import Content, images_hash, sweep, write_version

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
    embedded. Images stay as long as their report does. Killed at any moment, the old index still
    counts, and what was embedded is not embedded again by the next run.

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
    started = time.perf_counter()
    _prepare(directory)
    with write_lock(directory):
        info = _info(directory, replace=replace)
        if info is not None and not replace:
            check_encoder(directory, info, encoder)
        if info is not None:
            with disk_errors(directory):
                sweep(directory, counts=info.version)  # what a writer left that was killed
        removed = RemovedIds(
            info.store_id if info else uuid.uuid4().hex, frozenset(info.removed if info else ())
        )
        base = _base(corpus, directory, info, url=url, replace=replace)
        plan = make_plan(
            corpus,
            base.records,
            info.collections if info else (),
            exclude=exclude,
            removed=removed,
            screens=screens,
            progress=progress,
        )
        cache = EmbeddingCache(directory, encoder)
        embedded = embed_texts(plan.records, encoder, cache, progress=progress)
        found, new_images, problems = embed_images(
            images, plan.records, encoder, cache, progress=progress
        )
        for key, reports in base.images_of(plan.records).items():
            if key in cache:  # else it is of another encoder
                found.setdefault(key, set()).update(reports)
        if not found and not embeds_texts(encoder):
            raise StoreError(
                f"{encoder.encoder_id} embeds images only, and no image of these studies is given "
                "that can be read: name them with `cxr-rag index --images`"
            )
        content = Content(
            records=plan.records,
            collections=plan.collections,
            removed=tuple(sorted(removed.hashes)),
            store_id=removed.store_id,
            encoder=encoder,
            images={key: sorted(reports) for key, reports in found.items()},
        )
        if info is None or not _holds(info, base, content):
            info = write_version(
                directory,
                content,
                cache,
                url=url,
                apart=bool(base.records or removed.hashes or not plan.complete),
                progress=progress,
            )
    summary = plan.summary
    logger.info("indexed: %d added, %d kept, %s", summary.added, summary.kept, info.index_id)
    return with_fields(
        summary,
        embedded=embedded,
        images=new_images,
        without_image=len(plan.records) - len(set().union(*found.values())) if found else 0,
        problems=(*summary.problems, *problems),
        seconds=time.perf_counter() - started,
        index_id=info.index_id,
    )


def _holds(info: IndexInfo, base: Contents, content: Content) -> bool:
    """Whether an index is exactly this already, and as this program makes it."""
    return (
        base.sound
        and len(base.records) == info.count
        and info.fingerprint == fingerprint(content.records)
        and info.collections == content.collections
        and images_hash(base.images) == images_hash(content.images)
        and same_encoder(info, content.encoder)
        and info.chroma == chroma_facts()
    )


def _base(
    corpus: Corpus, directory: Path, info: IndexInfo | None, *, url: str, replace: bool
) -> Contents:
    """What is indexed; nothing if it is damaged and this collection is all there was."""
    if info is None:
        return Contents()
    try:
        return read_contents(directory, info, url)
    except StoreError:
        if replace or {each.name for each in info.collections} <= {corpus.name}:
            return Contents()
        raise


def _prepare(directory: Path) -> None:
    with disk_errors(directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # reports in clear text
        if not is_index(directory):
            raise StoreError(
                f"{directory} is not empty and not an index: choose another or an empty folder"
            )


def _info(directory: Path, *, replace: bool) -> IndexInfo | None:
    """What is indexed; None if nothing is, or if ``index.json`` is damaged and may be replaced."""
    try:
        return read_info(directory)
    except StoreMissingError:
        return None
    except StoreError:
        if replace and not (directory / "current").exists():
            return None
        raise
