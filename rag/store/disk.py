"""What a disk's complaints about a store mean, and the hash of a file. Knows nothing of reports."""

import contextlib
import errno
import hashlib
from collections.abc import Iterator
from pathlib import Path

from rag.errors import StoreError


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
