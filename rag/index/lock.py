"""One process at a time writes an index. Readers need no lock: what they read never changes.

The lock is the kernel's, so it ends with its owner however that ends, kill -9 included.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from rag.errors import StoreError, StoreInUseError
from rag.index.info import disk_errors

_LOCK = "write.lock"


@contextmanager
def write_lock(directory: Path) -> Iterator[None]:
    """Be the only writer of an index for as long as the block runs.

    Raises:
        StoreInUseError: another process is writing.
        StoreError: the folder cannot be written, or its file system has no locks.
    """
    lock = FileLock(directory / _LOCK, mode=0o600, blocking=False)
    try:
        lock.acquire()
    except Timeout as error:  # an OSError, too
        raise StoreInUseError(
            f"another process is writing the index in {directory}: wait until it has finished"
        ) from error
    except NotImplementedError as error:
        raise StoreError(
            f"the file system of {directory} has no locks: put the index on a local disk"
        ) from error
    except OSError:
        with disk_errors(directory):
            raise
    try:
        yield
    finally:
        lock.release()
