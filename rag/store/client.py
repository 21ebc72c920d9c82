"""Makes and ends Chroma clients; the only module that imports chromadb, and when first needed.

Traps of Chroma 1.5 that are minded here: one process at a time may open a directory (the callers
hold the store's lock); the HTTP client obeys proxy variables even for 127.0.0.1, waits for ever and
is never closed; a client that failed to start is remembered. Chroma's Python server has a remote
code execution (CVE-2026-45829) and is never used.
"""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rag.errors import StoreError

if TYPE_CHECKING:
    from chromadb.api.client import Client

NAME = "reports"
REBUILD_HINT = "`cxr-rag index rebuild` makes it again from our own vectors, without embedding"

_TIMEOUT_SECONDS = 30.0
_ENVIRONMENT = threading.Lock()


@contextlib.contextmanager
def chroma_errors(where: object) -> Iterator[None]:
    """What Chroma, SQLite or the HTTP client say, as one sentence with its hint."""
    import httpx  # noqa: PLC0415
    from chromadb.errors import ChromaError, NotFoundError  # noqa: PLC0415

    try:
        yield
    except NotFoundError as error:
        raise StoreError(f"{where} holds no collection {NAME!r}: {REBUILD_HINT}") from error
    except (ChromaError, httpx.HTTPError, OSError, ValueError) as error:
        words = " ".join(str(error).split())[:200]
        if "disk is full" in words or "No space left" in words:
            hint = "the disk is full: free some space and run the same command again"
        elif isinstance(error, httpx.HTTPError) or "connect to a Chroma server" in words:
            hint = "the store's server has stopped: start it again"
        else:
            hint = REBUILD_HINT
        raise StoreError(f"Chroma failed at {where} ({words}): {hint}") from error


def embedded_client(folder: Path) -> "Client":
    """A client that opens Chroma's files in this process, and makes them if there are none."""
    import chromadb  # noqa: PLC0415
    from chromadb.api.shared_system_client import SharedSystemClient  # noqa: PLC0415

    try:
        with chroma_errors(folder):
            client = chromadb.PersistentClient(folder, settings=_settings())
    except StoreError:
        # Chroma remembers a client that failed to start, and would hand it out again
        SharedSystemClient._identifier_to_system.pop(str(folder), None)
        raise
    return cast("Client", client)  # annotated as an interface that lacks close()


def http_client(port: int) -> "Client":
    """A client of a Chroma server on this machine.

    Raises:
        StoreError: nothing, or no Chroma, answers there.
    """
    import chromadb  # noqa: PLC0415

    with chroma_errors(f"127.0.0.1:{port}"), _no_proxy():
        client = cast("Client", chromadb.HttpClient("127.0.0.1", port, settings=_settings()))
    for session in _http_sessions(client):
        session.timeout = _TIMEOUT_SECONDS
    return client


def _http_sessions(client: "Client") -> list[Any]:
    """Connection pools inside Chroma's HTTP client, which neither limits nor closes them."""
    servers = (client._server, client._admin_client._server)  # type: ignore[attr-defined]
    return [server._session for server in servers if hasattr(server, "_session")]


def close_client(client: "Client") -> None:
    """Let go of files and connections. Safe to call twice."""
    for session in _http_sessions(client):
        session.close()
    client.close()


def _settings() -> Any:
    from chromadb.config import Settings  # noqa: PLC0415

    return Settings(anonymized_telemetry=False, allow_reset=False)


@contextlib.contextmanager
def _no_proxy() -> Iterator[None]:
    """Talk to 127.0.0.1 directly, whatever proxy the machine is set to.

    Chroma makes its own HTTP client and gives no way to configure it; the variables are read when
    that client is made, so they are hidden for that moment.
    """
    names = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
    with _ENVIRONMENT:
        hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
        try:
            yield
        finally:
            os.environ.update(hidden)
