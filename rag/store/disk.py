"""Files that survive a pulled plug, and what a disk's complaints mean. Knows nothing of reports."""

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from rag.errors import StoreError


def replace_text(path: Path, text: str) -> None:
    """Write a small file in one step; readers see the old text or the new one."""
    beside = path.with_name(f".{path.name}.new")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    flush(path.parent)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def disk_errors(directory: Path) -> Iterator[None]:
    """Turn what the operating system says about a disk into one sentence with its cure."""
    try:
        yield
    except OSError as error:
        cures = {
            errno.ENOSPC: "the disk is full: free some space and run the same command again",
            errno.EDQUOT: "your disk quota is used up: free some space and run it again",
            errno.EFBIG: "the file would be larger than is allowed here (ulimit -f)",
            errno.EROFS: "the disk is read-only: choose another folder; exact search only reads",
            errno.EACCES: "permission denied: choose another folder; exact search only reads",
            errno.EPERM: "permission denied: choose another folder; exact search only reads",
            errno.ENOTDIR: "a file stands where the folder should be: choose another folder",
            errno.EEXIST: "a file stands where the folder should be: choose another folder",
        }
        cure = cures.get(error.errno or 0, error.strerror or str(error))
        raise StoreError(f"cannot write the store in {directory}: {cure}") from error
