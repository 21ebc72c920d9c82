"""Files that survive a pulled plug, who may write, and what a disk's complaints mean."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from rag.errors import CxrRagError, OutputError

_AGAIN = "free some space and run the same command again"
_ELSEWHERE = "choose another place"
_CURES = {
    errno.ENOSPC: f"the disk is full: {_AGAIN}",
    errno.EDQUOT: f"your disk quota is used up: {_AGAIN}",
    errno.EFBIG: "the file would be larger than is allowed here (ulimit -f)",
    errno.EROFS: f"the disk is read-only: {_ELSEWHERE}",
    errno.EACCES: f"permission denied: {_ELSEWHERE}",
    errno.EPERM: f"permission denied: {_ELSEWHERE}",
    errno.EISDIR: f"it is a folder: {_ELSEWHERE}",
    errno.ENOTDIR: f"a file stands where a folder should be: {_ELSEWHERE}",
    errno.EEXIST: f"a file stands where a folder should be: {_ELSEWHERE}",
}


@contextmanager
def disk_explained(path: Path, kind: type[CxrRagError] = OutputError) -> Iterator[None]:
    """Turn what the operating system or SQLite says about an output into an error with its hint.

    Args:
        path: of the output.
        kind: of the error.
    """
    try:
        yield
    except OSError as error:
        words = _CURES.get(error.errno or 0, error.strerror or str(error))
        raise kind(f"cannot write {path}: {words}") from error
    except sqlite3.Error as error:
        raise kind(f"cannot write {path} ({error}): {_AGAIN}, or {_ELSEWHERE}") from error


@contextmanager
def only_writer(
    lock_file: Path, *, in_use: type[CxrRagError], kind: type[CxrRagError] = OutputError
) -> Iterator[None]:
    """Be the only process that writes a folder, for as long as the block runs.

    The lock is the kernel's, so it ends with its owner however that ends, kill -9 included.

    Args:
        lock_file: in the folder; made if it is not there.
        in_use: raised where another process is writing.
        kind: raised where the folder cannot be written, or its file system has no locks.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415 - imports asyncio

    lock, folder = FileLock(lock_file, mode=0o600, blocking=False), lock_file.parent
    with disk_explained(folder, kind):
        try:
            lock.acquire()
        except Timeout as error:  # an OSError, too
            raise in_use(
                f"another process is writing {folder}: wait until it has finished, or {_ELSEWHERE}"
            ) from error
        except NotImplementedError as error:
            raise kind(f"the file system of {folder} has no locks: use a local disk") from error
    try:
        yield
    finally:
        lock.release()


def flush(path: Path) -> None:
    """Wait until a file or a folder's entries are on the disk, and outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_text(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a file in one step: readers, and we after a crash, see the old text or the new one.

    Raises:
        OutputError: the disk refuses; the old text stays.
    """
    with disk_explained(path):
        swap_text(path, text, mode=mode)


def swap_text(path: Path, text: str, *, mode: int = 0o666) -> None:
    """As `replace_text`, for who explains the disk's complaints otherwise.

    Raises:
        OSError: the disk refuses; the old text stays.
    """
    swap_bytes(path, text.encode(), mode=mode)


def swap_bytes(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """As `swap_text`, for bytes. One writer of a file at a time.

    Raises:
        OSError: the disk refuses; the old content stays.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        with open(beside, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    flush(path.parent)


def free_path(folder: Path, stem: str, ending: str) -> Path:
    """A path in a folder, made if missing, that nothing has: stem.ending, stem-2.ending, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    names = (f"{stem}{'' if n == 1 else f'-{n}'}.{ending}" for n in count(1))
    return next(path for path in map(folder.joinpath, names) if not path.exists())
