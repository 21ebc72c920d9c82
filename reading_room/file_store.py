"""Temporary files of readers: images, uploads, exports.

In one private folder, each reader's in a folder of its own. A name is 32 random bytes and looked
for among its reader's files only, so that it can be neither guessed nor used by another login.
Nothing outlives ``keep_seconds`` or the process.
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
        folder: made private; emptied at the start and at the end.
        keep_seconds: age at which a file is deleted.

    Raises:
        ServerError: another page has this folder.
        OutputError: the disk refuses, or has no locks.
    """

    def __init__(self, folder: Path, *, keep_seconds: float) -> None:
        self.folder = folder
        self.uploads = folder / "uploads"
        self.keep_seconds = keep_seconds
        self._ended = threading.Event()
        self._held = ExitStack()
        lock_file = folder.with_name(f"{folder.name}.lock")
        with explain_disk_errors(folder):
            folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._held.enter_context(exclusive_lock(lock_file, in_use=ServerError))
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
        """The file of a name, if it exists and is this reader's."""
        path = self._folder_of(reader) / name
        return path if _NAME.fullmatch(name) and path.is_file() else None

    def sweep(self, *, now: float | None = None) -> int:
        """Delete expired files; returns how many."""
        limit = (time.time() if now is None else now) - self.keep_seconds
        swept = 0
        for path in self.folder.rglob("*"):
            try:
                if path.is_file() and path.stat().st_mtime < limit:
                    path.unlink()
                    swept += 1
            except FileNotFoundError:
                continue  # deleted meanwhile
        if swept:
            logger.info("deleted %d files of readers", swept)
        return swept

    def start_sweeping(self) -> None:
        """Sweep in the background until `close`."""
        pause = min(self.keep_seconds / 4, 60)

        def work() -> None:
            while not self._ended.wait(pause):
                self.sweep()

        threading.Thread(target=work, name="file_store", daemon=True).start()

    def close(self) -> None:
        """Stop sweeping and delete everything."""
        self._ended.set()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._held.close()

    def _folder_of(self, reader: str) -> Path:
        return self.folder / sha256(reader.encode()).hexdigest()
