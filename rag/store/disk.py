"""What a disk's complaints about a store mean, and the hash of a file. Knows nothing of reports."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

from rag.atomic_io import hint
from rag.errors import StoreError


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def disk_errors(directory: Path) -> Iterator[None]:
    """Turn what the operating system says about a disk into one sentence with its hint."""
    try:
        yield
    except OSError as error:
        words = hint(error, instead="choose another folder; exact search only reads")
        raise StoreError(f"cannot write the store in {directory}: {words}") from error
