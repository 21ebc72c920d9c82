"""Writing files so that a crash leaves the old content or the new, and explaining disk errors."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from rag.errors import CxrRagError, OutputError

_RETRY = "free some space and run the same command again"
_ELSEWHERE = "choose another place"
_HINTS = {
    errno.ENOSPC: f"the disk is full: {_RETRY}",
    errno.EDQUOT: f"your disk quota is used up: {_RETRY}",
    errno.EFBIG: "the file would be larger than is allowed here (ulimit -f)",
    errno.EROFS: f"the disk is read-only: {_ELSEWHERE}",
    errno.EACCES: f"permission denied: {_ELSEWHERE}",
    errno.EPERM: f"permission denied: {_ELSEWHERE}",
    errno.EISDIR: f"it is a folder: {_ELSEWHERE}",
    errno.ENOTDIR: f"there is a file where a folder should be: {_ELSEWHERE}",
    errno.EEXIST: f"there is a file where a folder should be: {_ELSEWHERE}",
}


@contextmanager
def explain_disk_errors(path: Path, error_type: type[CxrRagError] = OutputError) -> Iterator[None]:
    """Turn OSError and sqlite3.Error into ``error_type`` with the output's path and a hint."""
    try:
        yield
    except OSError as error:
        reason = _HINTS.get(error.errno or 0, error.strerror or str(error))
        raise error_type(f"cannot write {path}: {reason}") from error
    except sqlite3.Error as error:
        raise error_type(f"cannot write {path} ({error}): {_RETRY}, or {_ELSEWHERE}") from error


@contextmanager
def exclusive_lock(
    lock_file: Path, *, in_use: type[CxrRagError], error_type: type[CxrRagError] = OutputError
) -> Iterator[None]:
    """Hold the write lock of the folder that contains ``lock_file``.

    The kernel releases the lock when its process ends, even by kill -9.

    Raises:
        in_use: another process holds it.
        error_type: the folder cannot be written, or its file system has no locks.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415 - imports asyncio

    lock, folder = FileLock(lock_file, mode=0o600, blocking=False), lock_file.parent
    with explain_disk_errors(folder, error_type):
        try:
            lock.acquire()
        except Timeout as error:  # an OSError, too
            raise in_use(
                f"another process is writing {folder}: wait until it has finished, or {_ELSEWHERE}"
            ) from error
        except NotImplementedError as error:
            raise error_type(
                f"the file system of {folder} has no locks: use a local disk"
            ) from error
    try:
        yield
    finally:
        lock.release()


def fsync_path(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text_atomic(path: Path, text: str, *, mode: int = 0o666) -> None:
    """As `write_bytes_atomic`, for UTF-8 text."""
    write_bytes_atomic(path, text.encode(), mode=mode)


def write_bytes_atomic(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Replace a file in one step; only one process may write it at a time.

    Raises:
        OSError: the old content stays.
    """
    new = path.with_name(f".{path.name}.new")
    try:
        with open(new, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    fsync_path(path.parent)


def free_path(folder: Path, stem: str, ending: str) -> Path:
    """The first of stem.ending, stem-2.ending, ... that does not exist; makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    names = (f"{stem}{'' if n == 1 else f'-{n}'}.{ending}" for n in count(1))
    return next(path for path in map(folder.joinpath, names) if not path.exists())
