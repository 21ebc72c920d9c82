"""Temporary files of readers: images, uploads, exports.

They are in one private folder, with a subfolder per reader. A file's name is 32 random bytes and is
looked up among its reader's files only: it can be neither guessed nor used by another login.
Files are deleted after ``keep_seconds``, and all of them when the process ends.
"""

import logging
import re
import secrets
import shutil
import threading
import time
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

from rag.atomic_io import exclusive_lock, explain_disk_errors
from rag.errors import ServerError

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9_-]{43}")


class FileStore:
    """Files of readers under unguessable names.

    Args:
        folder: made private; emptied when the store is opened and closed.
        keep_seconds: age at which a file is deleted.

    Raises:
        ServerError: another page uses this folder.
        OutputError: the disk refuses, or does not support locks.
    """

    def __init__(self, folder: Path, *, keep_seconds: float) -> None:
        self.folder = folder
        self.uploads = folder / "uploads"
        self.keep_seconds = keep_seconds
        self._closed = threading.Event()
        self._lock = ExitStack()
        lock_file = folder.with_name(f"{folder.name}.lock")
        with explain_disk_errors(folder):
            folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._lock.enter_context(exclusive_lock(lock_file, in_use=ServerError))
        except ServerError:
            raise ServerError(
                f"another page keeps its files in {folder}: stop it, or choose another --port"
            ) from None
        with explain_disk_errors(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
            self.uploads.mkdir(mode=0o700)

    def put(self, content: bytes, *, reader: str) -> str:
        """Store a file for a reader; returns its name."""
        path = self._folder_of(reader) / secrets.token_urlsafe(32)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        path.write_bytes(content)
        return path.name

    def find(self, name: str, *, reader: str) -> Path | None:
        """A reader's file by its name; None if this reader has no such file."""
        path = self._folder_of(reader) / name
        return path if _NAME.fullmatch(name) and path.is_file() else None

    def delete_expired(self, *, now: float | None = None) -> int:
        """Delete files older than `keep_seconds`; returns how many."""
        oldest_kept = (time.time() if now is None else now) - self.keep_seconds
        deleted = 0
        for path in self.folder.rglob("*"):
            try:
                if path.is_file() and path.stat().st_mtime < oldest_kept:
                    path.unlink()
                    deleted += 1
            except FileNotFoundError:
                continue  # deleted meanwhile
        if deleted:
            logger.info("deleted %d files of readers", deleted)
        return deleted

    def start_cleanup(self) -> None:
        """Delete expired files in the background until `close`."""
        interval_s = min(self.keep_seconds / 4, 60)

        def clean_up() -> None:
            while not self._closed.wait(interval_s):
                self.delete_expired()

        threading.Thread(target=clean_up, name="file_store", daemon=True).start()

    def close(self) -> None:
        """Stop the cleanup and delete everything."""
        self._closed.set()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    def _folder_of(self, reader: str) -> Path:
        return self.folder / sha256(reader.encode()).hexdigest()
