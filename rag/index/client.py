"""Chroma clients and their errors. No other module imports chromadb, except for types.

Works around Chroma 1.5: its HTTP client uses proxy variables even for localhost, has no timeout
and is never closed; it remembers a client that failed to start. Chroma's Python server has a remote
code execution (CVE-2026-45829): use `chroma run`.
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

_HTTP_TIMEOUT_S = 60.0
_MAX_IDLE_CLIENTS, _MAX_IDLE_S = 16, 60.0
_idle_clients: "deque[tuple[float, Client]]" = deque()
"""Embedded clients no longer in use, and since when (`time.monotonic`); oldest first."""


@dataclass(frozen=True, slots=True)
class ChromaLocation:
    """Where the collections of one version are.

    Attributes:
        folder: Chroma's own files, opened in this process unless there is a URL.
        url: of a Chroma server, e.g. "http://127.0.0.1:8000", or empty.
        version: part of the collections' names.
        store_id: of the index; marks its collections on a server.
    """

    folder: Path
    url: str
    version: str
    store_id: str

    def __str__(self) -> str:
        return self.url or str(self.folder)


def chroma_location(directory: Path, info: IndexInfo, url: str) -> ChromaLocation:
    """Where the collections of the version that ``info`` describes are."""
    folder = directory / f"version-{info.version}" / "chroma"
    return ChromaLocation(folder, url, info.version, info.store_id)


@contextlib.contextmanager
def chroma_errors(location: ChromaLocation) -> Iterator[None]:
    """Turn errors of Chroma, SQLite and the HTTP client into one sentence with its hint."""
    try:
        yield
    except (StoreError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic in Rust is not an Exception
        message = " ".join(str(error).split())[:200]
        if "disk is full" in message or "No space left" in message:
            hint = "the disk is full: free some space and run the same command again"
        elif location.url and ("connect" in message.lower() or "http" in type(error).__module__):
            hint = "start the Chroma server that `chroma_url` names"
        else:
            hint = REBUILD_HINT
        raise StoreError(
            f"Chroma failed at {location} ({type(error).__name__}: {message}): {hint}"
        ) from error


@contextlib.contextmanager
def connect(location: ChromaLocation, *, writes: bool = False) -> Iterator["Client"]:
    """A client, closed after the block; an embedded one that only reads is closed later."""
    with chroma_errors(location):
        client = _http_client(location.url) if location.url else _embedded_client(location.folder)
    try:
        yield client
    finally:
        if location.url or writes:
            for session in _http_sessions(client) if location.url else ():
                session.close()
            client.close()
        else:
            _idle_clients.append((time.monotonic(), client))
            close_idle_clients(keep=_MAX_IDLE_CLIENTS, max_age_s=_MAX_IDLE_S)


def close_idle_clients(*, keep: int = 0, max_age_s: float = 0.0) -> None:
    """Close unused embedded clients, except for the newest ``keep`` that are not too old.

    Not right after their last query: closing then may never return, as a thread of Chroma 1.5.9
    spins (about once in a thousand times, on a busy machine). And when the version has just
    changed, another thread may still be querying the old one. Clients left when the process ends
    are never closed.
    """
    while _idle_clients:
        since, client = _idle_clients.popleft()
        if len(_idle_clients) < keep and time.monotonic() < since + max_age_s:
            _idle_clients.appendleft((since, client))
            return
        client.close()


def _embedded_client(folder: Path) -> "Client":
    """A client that opens Chroma's files in this process, creating them if missing."""
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
        # Chroma has no setting to bypass the proxy
        os.environ["no_proxy"] = ",".join(filter(None, [getproxies().get("no", ""), host]))
    client = cast("Client", chromadb.HttpClient(host, port, ssl=secure, settings=_settings()))
    for session in _http_sessions(client):
        session.timeout = _HTTP_TIMEOUT_S
    return client


def _http_sessions(client: Any) -> list[Any]:
    """The HTTP sessions inside Chroma's client, which neither limits nor closes them."""
    return [part._server._session for part in (client, client._admin_client)]


def _settings() -> Any:
    from chromadb.config import Settings  # noqa: PLC0415

    return Settings(anonymized_telemetry=False, allow_reset=False)
