"""Opens an indexed directory: which way to search, and whether the graph can be trusted.

Also who may open Chroma's files: the owner of the directory, or a client of the owner's server.
"""

import contextlib
import logging
import os
from pathlib import Path

from rag.errors import StoreError, StoreInUseError
from rag.store.catalogue import Edition, check_encoder, open_edition
from rag.store.chroma import ChromaIndex, collection_facts
from rag.store.client import REBUILD_HINT
from rag.store.disk import disk_errors
from rag.store.files import EncoderIdentity, current_edition, sweep
from rag.store.lock import Owner, StoreLock, read_owner
from rag.store.report_store import ReportStore, SearchMode
from rag.store.self_test import BROKEN, SelfTest

logger = logging.getLogger(__name__)


def open_store(
    directory: Path,
    *,
    encoder: EncoderIdentity | None = None,
    search: SearchMode = SearchMode.HNSW,
    self_test: bool = True,
) -> ReportStore:
    """Open an indexed directory.

    With ``hnsw``, a free directory is opened embedded and belongs to this process until `close`;
    a directory whose owner serves it (`rag.store.server`) is reached by HTTP. With ``exact`` the
    files are only read, whoever owns the directory.

    Args:
        directory: where `rag.index.build_index` made the index.
        encoder: who will ask; an index made by another encoder is refused. None: do not check.
        search: how neighbours are found.
        self_test: measure the graph's recall, and warn if it is below .99.

    Raises:
        StoreMissingError: nothing has been indexed here.
        StoreInUseError: another process owns the directory and does not serve it.
        StoreMismatchError: made by another encoder, preprocessing or format.
        StoreError: the files are damaged; the message says what mends them.
    """
    if search is SearchMode.EXACT:
        edition = open_edition(directory)
        check_encoder(directory, edition.manifest, encoder)
        return ReportStore(directory, edition, encoder=encoder)
    edition, index, lock = open_chroma(directory, encoder)
    mode = "hnsw (embedded)" if lock else f"hnsw (server on port {index.port})"
    store = ReportStore(directory, edition, encoder=encoder, index=index, lock=lock, mode=mode)
    if self_test:
        try:
            store.self_test = _tested(store)
        except BaseException:
            store.close()
            raise
    return store


def _tested(store: ReportStore) -> SelfTest:
    found = store.check_recall()
    if found.recall < BROKEN:
        raise StoreError(f"Chroma's graph in {store.directory} is broken ({found}): {REBUILD_HINT}")
    if not found.passed:
        logger.warning("the index misses neighbours: %s; exact search would not", found)
    return found


def own_store(directory: Path) -> StoreLock:
    """Take a directory for ourselves and sweep away what an interrupted writer left.

    Raises:
        StoreInUseError: another process owns it, or a Chroma server that outlived its owner.
        StoreError: the folder cannot be written.
    """
    before = read_owner(directory)
    lock = StoreLock.take(directory)
    try:
        _refuse_outlived_server(directory, before)
        with disk_errors(directory):
            sweep(directory)
    except BaseException:
        lock.release()
        raise
    return lock


def open_chroma(
    directory: Path, encoder: EncoderIdentity | None
) -> tuple[Edition, ChromaIndex, StoreLock | None]:
    """The edition that counts and its collection: embedded if the directory is free, else by HTTP.

    Returns:
        The edition, its collection, and the lock if it is ours.

    Raises:
        StoreMissingError: nothing has been indexed here.
        StoreMismatchError: made by another encoder, preprocessing or format.
        StoreInUseError: the owner runs no server, or one that serves something else.
        StoreError: files are missing, damaged, or of another edition.
    """
    current_edition(directory)  # before a lock file is made where nothing is
    try:
        lock = own_store(directory)
    except StoreInUseError:
        edition = open_edition(directory)
        check_encoder(directory, edition.manifest, encoder)
        index = _client(directory, edition)
        if index is None:
            raise
        return edition, index, None
    try:
        edition = open_edition(directory)
        check_encoder(directory, edition.manifest, encoder)
        index = ChromaIndex.open(edition.path)
        try:
            check_facts(index, edition)
        except StoreError:
            index.close()
            raise
    except StoreError:
        lock.release()
        raise
    return edition, index, lock


def check_facts(index: ChromaIndex, edition: Edition) -> None:
    """Refuse a collection that does not belong to our vectors.

    Raises:
        StoreError: it says of itself something else than the manifest, or holds fewer texts.
    """
    manifest, count = edition.manifest, index.count()
    facts = collection_facts(manifest, store_id=manifest.store_id, fingerprint=manifest.fingerprint)
    if index.facts != facts or count != manifest.texts:
        raise StoreError(
            f"Chroma's collection in {edition.path} is not the one of its manifest ({count} "
            f"texts, {manifest.texts} expected): {REBUILD_HINT}"
        )


def _client(directory: Path, edition: Edition) -> ChromaIndex | None:
    """The owner's server, if it runs one and it serves exactly this index."""
    owner = read_owner(directory)
    if owner is None or not owner.port:
        return None
    with contextlib.suppress(StoreError):
        index = ChromaIndex.connect(owner.port)
        with contextlib.suppress(StoreError):
            check_facts(index, edition)
            return index
        index.close()
    return None


def _refuse_outlived_server(directory: Path, before: Owner | None) -> None:
    """A server that lives on when its owner was killed still has Chroma's files open."""
    if before is None or not before.port or not _alive(before.server_pid):
        return
    try:
        ChromaIndex.connect(before.port).close()
    except StoreError:
        return
    raise StoreInUseError(
        f"a Chroma server (process {before.server_pid}) that outlived {before} still has "
        f"{directory} open: end that process"
    )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
