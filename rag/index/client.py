"""Clients of Chroma, and what its errors mean. No other module imports chromadb, but for types.

Traps of Chroma 1.5 that are minded here: the HTTP client obeys proxy variables even for this
machine, waits for ever and is never closed; a client that failed to start is remembered. Chroma's
Python server has a remote code execution (CVE-2026-45829): use `chroma run`.
"""

import contextlib
import os
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from rag.errors import StoreError
from rag.index.info import REBUILD_HINT, IndexInfo

if TYPE_CHECKING:
    from chromadb.api.client import Client

_TIMEOUT_SECONDS = 60.0
_KEPT, _KEPT_SECONDS = 16, 60.0  # embedded clients stay open for a while
_IDLE: "deque[tuple[float, Client]]" = deque()
"""Since when, and which; the oldest first."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the collections of one version are.

    Attributes:
        folder: Chroma's own files; opened in this process where there is no URL.
        url: of a Chroma server, e.g. "http://127.0.0.1:8000", or empty.
        version: stands in the collections' names.
        store_id: of the index; its collections on a server are marked with it.
    """

    folder: Path
    url: str
    version: str
    store_id: str

    def __str__(self) -> str:
        return self.url or str(self.folder)


def place_of(directory: Path, info: IndexInfo, url: str) -> Place:
    """Where the collections of a version are."""
    return Place(directory / f"version-{info.version}" / "chroma", url, info.version, info.store_id)


@contextlib.contextmanager
def chroma_errors(place: Place) -> Iterator[None]:
    """What Chroma, SQLite or the HTTP client say, as one sentence with its hint."""
    try:
        yield
    except (StoreError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # Rust's panics are no Exception
        words = " ".join(str(error).split())[:200]
        if "disk is full" in words or "No space left" in words:
            hint = "the disk is full: free some space and run the same command again"
        elif place.url and ("connect" in words.lower() or "http" in type(error).__module__):
            hint = "start the Chroma server that `chroma_url` names"
        else:
            hint = REBUILD_HINT
        raise StoreError(
            f"Chroma failed at {place} ({type(error).__name__}: {words}): {hint}"
        ) from error


@contextlib.contextmanager
def connect(place: Place, *, writes: bool = False) -> Iterator["Client"]:
    """A client, closed at the end of the block; one that only read a folder, some time later."""
    with chroma_errors(place):
        client = _http_client(place.url) if place.url else _embedded_client(place.folder)
    try:
        yield client
    finally:
        if place.url or writes:
            for session in _sessions_of(client) if place.url else ():
                session.close()
            client.close()
        else:
            _IDLE.append((time.monotonic(), client))
            close_idle(keep=_KEPT, for_seconds=_KEPT_SECONDS)


def close_idle(*, keep: int = 0, for_seconds: float = 0.0) -> None:
    """Close the embedded clients that are no longer used, but for the last few of some seconds.

    Stopping one right after it was asked may never return: in Chroma 1.5.9 a thread of its spins
    while we wait for it (once in some thousand times, on a busy machine). And another thread may
    still be asking it, if a new version has just come to count. What is left at the end of the
    process is not stopped at all.
    """
    while _IDLE:
        since, client = _IDLE.popleft()
        if len(_IDLE) < keep and time.monotonic() < since + for_seconds:
            _IDLE.appendleft((since, client))
            return
        client.close()


def _embedded_client(folder: Path) -> "Client":
    """A client that opens Chroma's files in this process, and makes them if there are none."""
    import chromadb  # noqa: PLC0415
    from chromadb.api.shared_system_client import SharedSystemClient  # noqa: PLC0415

    try:
        client = chromadb.PersistentClient(folder, settings=_settings())
    except BaseException:
        SharedSystemClient._identifier_to_system.pop(str(folder), None)
        raise
    return cast("Client", client)  # annotated as an interface that lacks close()


def _http_client(url: str) -> "Client":
    import chromadb  # noqa: PLC0415

    parts = urlsplit(url)
    host, secure = str(parts.hostname), parts.scheme == "https"
    port = parts.port or (443 if secure else 8000)
    if host in ("localhost", "127.0.0.1", "::1") and not proxy_bypass(host):
        # no proxy leads there; Chroma cannot be told so
        os.environ["no_proxy"] = ",".join(filter(None, [getproxies().get("no", ""), host]))
    client = cast("Client", chromadb.HttpClient(host, port, ssl=secure, settings=_settings()))
    for session in _sessions_of(client):
        session.timeout = _TIMEOUT_SECONDS
    return client


def _sessions_of(client: Any) -> list[Any]:
    """Connection pools inside Chroma's HTTP client, which neither limits nor closes them."""
    return [each._server._session for each in (client, client._admin_client)]


def _settings() -> Any:
    from chromadb.config import Settings  # noqa: PLC0415

    return Settings(anonymized_telemetry=False, allow_reset=False)
