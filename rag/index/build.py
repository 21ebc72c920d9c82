"""A collection and an encoder -> an index. Indexing again adds nothing and embeds nothing twice.

A store may hold several collections; indexing one makes its part of the store equal to the
collection, and leaves the others alone. What was removed on request stays out. Does not know how
collections are read (`rag.corpus`), how an edition is written (`rag.index.writer`), nor queries.
"""

import contextlib
import logging
import time
import uuid
from dataclasses import replace as with_fields
from pathlib import Path

from encoders.base import ImageTextEncoder
from rag.corpus import Corpus
from rag.errors import StoreError, StoreMissingError
from rag.index.embedding import Embedded, Wanted, embed
from rag.index.images import NO_IMAGES, Images
from rag.index.plan import (
    IndexSummary,
    Plan,
    RemovedIds,
    Screen,
    collection_infos,
    make_plan,
)
from rag.index.vectors import sides_of, vectors_of
from rag.index.writer import Content, write_edition
from rag.store.catalogue import Edition, check_encoder, open_edition
from rag.store.chroma import Progress, chroma_facts
from rag.store.disk import disk_errors
from rag.store.files import CHROMA, Manifest, check_files, current_edition, read_manifest
from rag.store.journal import remove_journal
from rag.store.opening import own_store

logger = logging.getLogger(__name__)


def _silent(stage: str, done: int, total: int) -> None:
    """No progress wanted."""


def build_index(
    corpus: Corpus,
    encoder: ImageTextEncoder,
    directory: Path,
    *,
    exclude: frozenset[str] = frozenset(),
    screens: tuple[Screen, ...] = (),
    sentences: bool = False,
    images: Images = NO_IMAGES,
    replace: bool = False,
    progress: Progress = _silent,
) -> IndexSummary:
    """Make a store's part of this collection equal to the collection.

    New and changed reports come in, vanished and excluded ones go, the rest is kept without being
    embedded. Images stay as long as their report does. Killed at any moment, the old index still
    counts and what was embedded need not be embedded again.

    Args:
        corpus: what to index.
        encoder: embeds the texts.
        directory: of the store; made if it is not there.
        exclude: study ids to leave out, so that an evaluation's own studies are never in it.
        screens: look at every report before it is indexed.
        sentences: whether the reports' sentences have vectors too.
        images: further images of the reports' studies, whose vectors are kept beside the reports.
        replace: embed everything again if the index is another encoder's or is damaged.
        progress: told ("read", "embed" or "index", done, total).

    Raises:
        StoreInUseError: another process owns the store.
        StoreMismatchError: the index is another encoder's, and ``replace`` is not set.
        StoreError: disk or Chroma failed; the message says what mends it.
    """
    started = time.perf_counter()
    _prepare(directory)
    with own_store(directory):
        base = _base(directory, replace=replace)
        if base is not None and not replace:
            check_encoder(directory, base.manifest, encoder)
        known = base.manifest if base else _readable_manifest(directory)
        withheld = RemovedIds(
            known.store_id if known else uuid.uuid4().hex,
            frozenset(known.removed if known else ()),
        )
        plan = make_plan(
            corpus, base, exclude=exclude, withheld=withheld, screens=screens, progress=progress
        )
        wanted = Wanted(plan.records, sentences=sentences, images=images)
        index_id, new = _carry_out(
            plan, wanted, encoder, directory, base, withheld=withheld, progress=progress
        )
        with disk_errors(directory):
            remove_journal(directory)
    seconds = time.perf_counter() - started
    report = with_fields(
        plan.report,
        embedded=new.texts,
        images=new.images,
        problems=(*plan.report.problems, *new.problems),
        seconds=seconds,
        index_id=index_id,
    )
    logger.info("indexed: %d added, %d kept, index %s", report.added, report.kept, index_id)
    return report


def delete_from_index(
    directory: Path,
    *,
    studies: frozenset[str] = frozenset(),
    patients: frozenset[str] = frozenset(),
    progress: Progress = _silent,
) -> IndexSummary:
    """Remove studies or patients for good: from Chroma, vectors, records and what was kept beside.

    Chroma's files are made anew, as Chroma only marks rows as deleted. The ids' hashes are kept,
    so that indexing the same collection again does not bring the reports back.

    Returns:
        ``removed`` and ``kept`` count reports; ids of which nothing was here stand in
        ``unknown_excludes`` (they stay out from now on, too).

    Raises:
        StoreMissingError, StoreInUseError, StoreError: as for `build_index`.
    """
    started = time.perf_counter()
    base = open_edition(directory)
    with own_store(directory):
        base = _sound_edition(directory)
        kept = [
            record
            for record in base.catalogue.records()
            if record.study_id not in studies and record.patient_id not in patients
        ]
        known = (studies & base.catalogue.studies.keys) | (patients & base.catalogue.patients.keys)
        before = RemovedIds(base.manifest.store_id, frozenset(base.manifest.removed))
        content = Content(
            records=kept,
            collections=collection_infos(kept, base.manifest.collections),
            removed=tuple(sorted(before.hashes | before.of(studies=studies, patients=patients))),
            store_id=base.manifest.store_id,
            encoder=base.manifest,
            sides=sides_of(base, kept),
        )
        with disk_errors(directory):
            remove_journal(directory)
        manifest = write_edition(
            directory, content, vectors_of(base), base=None, apart=True, progress=progress
        )
    return IndexSummary(
        removed=base.manifest.count - len(kept),
        kept=len(kept),
        unknown_excludes=tuple(sorted((studies | patients) - known)),
        seconds=time.perf_counter() - started,
        index_id=manifest.index_id,
    )


def rebuild_index(directory: Path, *, progress: Progress = _silent) -> IndexSummary:
    """Make Chroma's files again from our own vectors and records, without embedding.

    Raises:
        StoreMissingError, StoreInUseError: as for `build_index`.
        StoreError: our own files are damaged too; only indexing again helps.
    """
    started = time.perf_counter()
    open_edition(directory)
    with own_store(directory):
        base = _sound_edition(directory)
        records = list(base.catalogue.records())
        content = Content(
            records=records,
            collections=base.manifest.collections,
            removed=base.manifest.removed,
            store_id=base.manifest.store_id,
            encoder=base.manifest,
            sides=sides_of(base, records),
        )
        manifest = write_edition(
            directory, content, vectors_of(base), base=None, apart=True, progress=progress
        )
    return IndexSummary(
        kept=manifest.count,
        seconds=time.perf_counter() - started,
        index_id=manifest.index_id,
    )


def _carry_out(
    plan: Plan,
    wanted: Wanted,
    encoder: ImageTextEncoder,
    directory: Path,
    base: Edition | None,
    *,
    withheld: RemovedIds,
    progress: Progress,
) -> tuple[str, Embedded]:
    """Write what the plan says, if it is not there yet; the index id, and what was embedded."""
    old = base if base is not None and _same_encoder(base, encoder) else None
    same = old is not None and plan.changes_nothing(old) and _has_chroma(old)
    if old is not None and same and wanted.is_in(old.manifest):
        return old.manifest.index_id, Embedded()
    new = embed(wanted, encoder, directory, old, progress=progress)
    if old is not None and same and new.adds_nothing_to(old):
        return old.manifest.index_id, new
    content = Content(
        records=plan.records,
        collections=plan.collections,
        removed=tuple(sorted(withheld.hashes)),
        store_id=withheld.store_id,
        encoder=encoder,
        sides=new.sides,
    )
    manifest = write_edition(
        directory,
        content,
        new.vector_of,
        base=old.path if old is not None and not plan.something_goes else None,
        apart=base is not None or bool(withheld.hashes) or plan.something_kept_out,
        progress=progress,
    )
    return manifest.index_id, new


def _prepare(directory: Path) -> None:
    with disk_errors(directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # reports in clear text
        if not (directory / "store.lock").exists() and any(directory.iterdir()):
            raise StoreError(
                f"{directory} is not empty and not a store: choose another or an empty folder"
            )


def _base(directory: Path, *, replace: bool) -> Edition | None:
    """What is indexed; None if nothing is, or if it is damaged and may be replaced."""
    try:
        return _sound_edition(directory)
    except StoreMissingError:
        return None
    except StoreError:
        if replace:
            return None
        raise


def _sound_edition(directory: Path) -> Edition:
    """The edition that counts, checked byte for byte, so that no damage is carried over."""
    edition = open_edition(directory)
    check_files(edition.path, edition.manifest)
    return edition


def _readable_manifest(directory: Path) -> Manifest | None:
    """Of a damaged edition: who was removed must stay out even if all else is lost."""
    with contextlib.suppress(StoreError):
        return read_manifest(current_edition(directory))
    return None


def _same_encoder(base: Edition, encoder: ImageTextEncoder) -> bool:
    made = (base.manifest.encoder_id, base.manifest.preprocess_hash, base.manifest.dim)
    return made == (encoder.encoder_id, encoder.preprocess_hash, encoder.dim)


def _has_chroma(base: Edition) -> bool:
    """Whether Chroma's files are there, and as this program makes them."""
    made = (base.path / CHROMA / "chroma.sqlite3").is_file()
    return made and base.manifest.chroma == chroma_facts()
