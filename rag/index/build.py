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

from encoders.base import ImageTextEncoder
from rag.corpus import Corpus, fingerprint
from rag.errors import StoreError, StoreMissingError
from rag.index.cache import EmbeddingCache
from rag.index.chroma import chroma_facts, open_collections
from rag.index.contents import Contents, place_of, read_contents
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
    Screened,
    make_plan,
    screen_corpus,
)
from rag.index.writer import Content, images_hash, write_version

logger = logging.getLogger(__name__)


def build_index(
    corpus: Corpus,
    encoder: ImageTextEncoder,
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
        encoder: embeds the texts.
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
        removed = RemovedIds(
            info.store_id if info else uuid.uuid4().hex, frozenset(info.removed if info else ())
        )
        screened = screen_corpus(
            corpus, exclude=exclude, removed=removed, screens=screens, progress=progress
        )
        if (
            info is not None
            and not images
            and _is_indexed(corpus, screened, info, encoder)
            and _is_ours(info, directory, url)
        ):
            summary = _unchanged(screened, info)
        else:
            summary = _update(
                corpus,
                screened,
                encoder=encoder,
                directory=directory,
                info=info,
                removed=removed,
                url=url,
                images=images,
                replace=replace,
                progress=progress,
            )
    summary = with_fields(summary, seconds=time.perf_counter() - started)
    logger.info("indexed: %d added, %d kept, %s", summary.added, summary.kept, summary.index_id)
    return summary


def _update(
    corpus: Corpus,
    screened: Screened,
    *,
    encoder: ImageTextEncoder,
    directory: Path,
    info: IndexInfo | None,
    removed: RemovedIds,
    url: str,
    images: Images,
    replace: bool,
    progress: Progress,
) -> IndexSummary:
    """Embed what has no vector, and write a new version if anything has changed."""
    base = _base(corpus, directory, info, url=url, replace=replace)
    plan = make_plan(corpus, screened, base.records, info.collections if info else ())
    cache = EmbeddingCache(directory, encoder)
    embedded = embed_texts(plan.records, encoder, cache, progress=progress)
    found, new_images, problems = embed_images(
        images, plan.records, encoder, cache, progress=progress
    )
    same = info is not None and same_encoder(info, encoder)
    for key, reports in base.images_of(plan.records).items() if same else ():
        if key in cache:
            found.setdefault(key, set()).update(reports)
    content = Content(
        records=plan.records,
        collections=plan.collections,
        removed=tuple(sorted(removed.hashes)),
        store_id=removed.store_id,
        encoder=encoder,
        images={key: sorted(reports) for key, reports in found.items()},
    )
    if info is None or not same or not _holds(info, base, content, directory, url):
        info = write_version(
            directory,
            content,
            cache,
            url=url,
            apart=bool(base.records or removed.hashes or not screened.complete),
            progress=progress,
        )
    return with_fields(
        plan.summary,
        embedded=embedded,
        images=new_images,
        problems=(*plan.summary.problems, *problems),
        index_id=info.index_id,
    )


def _holds(info: IndexInfo, base: Contents, content: Content, directory: Path, url: str) -> bool:
    """Whether the index is exactly this already."""
    return (
        info.collections == content.collections
        and info.fingerprint == fingerprint(content.records)
        and images_hash(base.images) == images_hash(content.images)
        and len(base.records) == info.count
        and _is_ours(info, directory, url)
    )


def _is_indexed(
    corpus: Corpus, screened: Screened, info: IndexInfo, encoder: ImageTextEncoder
) -> bool:
    """Whether an index holds this collection and no other, as far as can be said unread."""
    records = sorted(screened.records, key=lambda record: record.report_id)
    made = [(each.name, each.licence, each.attribution) for each in info.collections]
    return (
        made == [(corpus.name, corpus.licence, corpus.attribution)]
        and info.fingerprint == fingerprint(records)
        and same_encoder(info, encoder)
    )


def _unchanged(screened: Screened, info: IndexInfo) -> IndexSummary:
    return IndexSummary(
        kept=info.count,
        excluded=screened.excluded,
        withheld=screened.withheld,
        unknown_excludes=screened.unknown_excludes,
        problems=screened.problems,
        index_id=info.index_id,
    )


def _is_ours(info: IndexInfo, directory: Path, url: str) -> bool:
    """Whether the collections are there, and as this program makes them."""
    try:
        with open_collections(place_of(directory, info, url)) as (texts, images):
            counts = (texts.count(), images.count())
    except StoreError:
        return False
    return info.chroma == chroma_facts() and counts == (info.texts, info.images)


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
