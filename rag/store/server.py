"""Runs Chroma's own Rust server (`chroma run`) over a store, so that several processes may ask.

While `serve_store` runs, this process owns the directory and `rag.store.open_store`, here or in
any other process of this machine, becomes a client. The server listens on 127.0.0.1 without a
password: whoever can log in to this machine can ask it. Chroma's Python server is never used
(CVE-2026-45829).
"""

import contextlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rag.errors import ServerError, StoreError
from rag.processes import log_tail, start_child, stop_child
from rag.store.catalogue import Edition, open_edition
from rag.store.chroma import ChromaIndex
from rag.store.client import REBUILD_HINT
from rag.store.files import CHROMA, current_edition
from rag.store.opening import check_facts, own_store

_LOG = "server.log"
_ATTEMPTS = 3  # another process may take the port between our choice and the server's start


@contextlib.contextmanager
def serve_store(directory: Path, *, start_seconds: float = 60) -> Iterator[int]:
    """Serve a store for as long as the block runs; yields the port.

    The server ends with the block, and with this process if that is killed (Linux). Call it from
    the main thread.

    Args:
        directory: of the store.
        start_seconds: how long to wait until the server answers.

    Raises:
        StoreMissingError: nothing has been indexed here.
        StoreInUseError: another process owns the store.
        StoreError: Chroma's files are missing or do not belong to the index.
        ServerError: the server did not start; the end of its log is quoted.
    """
    current_edition(directory)
    with own_store(directory) as lock:
        edition = open_edition(directory)
        if not (edition.path / CHROMA / "chroma.sqlite3").is_file():
            raise StoreError(f"{edition.path / CHROMA} is missing or half deleted: {REBUILD_HINT}")
        process, port = _start(edition, directory / _LOG, time.monotonic() + start_seconds)
        try:
            lock.announce(port=port, server_pid=process.pid)
            yield port
        finally:
            stop_child(process)


def _start(edition: Edition, log: Path, deadline: float) -> tuple[subprocess.Popen[bytes], int]:
    for _ in range(_ATTEMPTS):
        port = _free_port()
        command = [_program(), "run", "--path", str(edition.path / CHROMA)]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        # errors only: at its default level the server writes down every request
        environment = {"RUST_LOG": "error", "ANONYMIZED_TELEMETRY": "False"}
        process = start_child(command, log=log, environment=environment)
        try:
            if _answers(process, port, edition, deadline):
                return process, port
        except BaseException:
            stop_child(process)
            raise
        stop_child(process)
    raise ServerError(f"Chroma's server did not start: {log_tail(log)} (whole log: {log})")


def _answers(
    process: subprocess.Popen[bytes], port: int, edition: Edition, deadline: float
) -> bool:
    """Wait until the server serves our index; False if it ended by itself."""
    while process.poll() is None:
        if time.monotonic() > deadline:
            raise ServerError(f"Chroma's server on port {port} does not answer")
        time.sleep(0.05)
        if not _listens(port):
            continue
        try:
            with ChromaIndex.connect(port) as index:
                check_facts(index, edition)
        except StoreError:
            time.sleep(0.5)  # perhaps another program's port, and ours is about to give up
            if process.poll() is None:
                raise
        else:
            return True
    return False


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _program() -> str:
    beside = Path(sys.executable).with_name("chroma")
    found = str(beside) if beside.exists() else shutil.which("chroma")
    if not found:
        raise ServerError("Chroma's command line is not installed: pip install chromadb")
    return found
