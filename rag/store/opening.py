"""Who may open Chroma's files: the owner of the directory, or a client of the owner's server."""

import contextlib
import os
from pathlib import Path

from rag.errors import StoreError, StoreInUseError, StoreMismatchError
from rag.store.catalogue import Edition, open_edition
from rag.store.chroma import ChromaIndex, collection_facts
from rag.store.client import REBUILD
from rag.store.disk import disk_errors
from rag.store.files import EncoderIdentity, Manifest, current_edition, sweep
from rag.store.lock import Owner, StoreLock, read_owner


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
        StoreError: it says of itself something else than the manifest, or holds fewer reports.
    """
    manifest, count = edition.manifest, index.count()
    facts = collection_facts(manifest, store_id=manifest.store_id, fingerprint=manifest.fingerprint)
    if index.facts != facts or count != manifest.count:
        raise StoreError(
            f"Chroma's collection in {edition.path} is not the one of its manifest ({count} "
            f"reports, {manifest.count} expected): {REBUILD}"
        )


def check_encoder(directory: Path, manifest: Manifest, encoder: EncoderIdentity | None) -> None:
    """Refuse an encoder that did not make the index.

    Raises:
        StoreMismatchError: names both and the command that embeds again.
    """
    if encoder is None:
        return
    made, asking = _described(manifest), _described(encoder)
    if made != asking:
        raise StoreMismatchError(
            f"the index in {directory} was made by {made}, and {asking} is asking: use the encoder "
            "it was made with, or embed all its reports again with `cxr-rag index --replace`"
        )


def _described(encoder: EncoderIdentity) -> str:
    return (
        f"{encoder.encoder_id} ({encoder.dim} dimensions, preprocessing {encoder.preprocess_hash})"
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
