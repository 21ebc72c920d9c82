"""One process owns a store's directory. Who it is, and how others can reach it.

The lock is the kernel's (flock), so it ends with its owner however that ends, kill -9 included.
Beside it, owner.json says who the owner is and, where it runs a server, on which port.
"""

import json
import os
import re
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import lock_descriptor

from rag.atomic_io import swap_text
from rag.errors import StoreError, StoreInUseError
from rag.store.disk import disk_errors

_LOCK, _OWNER = "store.lock", "owner.json"
_WORD = re.compile(r"[a-z][a-z-]{0,19}")


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that owns a store.

    Attributes:
        pid: its process id.
        command: program and subcommand, without arguments (they may name patients).
        since: when it took the store, ISO 8601 in UTC.
        port: of the Chroma server on 127.0.0.1 that it runs for others, 0 if it runs none.
        server_pid: that server's process id.
    """

    pid: int
    command: str
    since: str
    port: int = 0
    server_pid: int = 0

    def __str__(self) -> str:
        return f"`{self.command}` (process {self.pid}, since {self.since})"


class StoreLock:
    """The right to open Chroma's files in a directory: `take` it; leaving the block releases it."""

    def __init__(self, directory: Path, descriptor: int) -> None:
        self._directory = directory
        self._descriptor: int | None = descriptor

    @classmethod
    def take(cls, directory: Path) -> "StoreLock":
        """Take the store, or say who has it.

        Raises:
            StoreInUseError: another process owns it.
            StoreError: the folder cannot be written, or its file system has no locks.
        """
        with disk_errors(directory):
            path = directory / _LOCK
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            taken = lock_descriptor(descriptor, blocking=False)
        except OSError as error:
            os.close(descriptor)
            raise StoreError(
                f"the file system of {directory} has no locks ({error.strerror}): put the store on "
                "a local disk"
            ) from error
        if not taken:
            os.close(descriptor)
            raise StoreInUseError(in_use(directory))
        lock = cls(directory, descriptor)
        try:
            lock.announce()
        except BaseException:
            lock.release()
            raise
        return lock

    def announce(self, *, port: int = 0, server_pid: int = 0) -> None:
        """Write down who we are, and the server we run if any."""
        since = datetime.now(UTC).isoformat(timespec="seconds")
        owner = Owner(os.getpid(), _command(), since, port, server_pid)
        with disk_errors(self._directory):
            swap_text(self._directory / _OWNER, json.dumps(asdict(owner)))

    def release(self) -> None:
        """Give the store back. Safe to call twice."""
        if self._descriptor is not None:
            (self._directory / _OWNER).unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "StoreLock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def read_owner(directory: Path) -> Owner | None:
    """What the present or last owner wrote down; None if nothing readable is there."""
    try:
        return Owner(**json.loads((directory / _OWNER).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def in_use(directory: Path) -> str:
    """The sentence that says who owns the store, and what to do."""
    owner = read_owner(directory) or "another process"
    return f"the store {directory} is in use by {owner}: wait until it has finished, or stop it"


def _command() -> str:
    words = sys.argv[1:2] if sys.argv else []
    program = Path(sys.argv[0]).name if sys.argv else "python"
    return " ".join([program, *(word for word in words if _WORD.fullmatch(word))])
