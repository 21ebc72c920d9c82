"""What stands before every request: host, login, rate, size, and the headers of every answer.

Owns refusals, each a status and one sentence. Knows HTTP (ASGI) and `reading_room.login`; nothing
of what the page does. Gradio's own routes that fetch addresses for a client are closed here, since
neither the page nor its server speaks to anybody outside.
"""

import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote, urlsplit

from reading_room.login import Login

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Gradio's front end makes functions of strings and style of attributes: both need "unsafe".
# What matters stays closed: no other host is reached, framed, or allowed to frame us.
HEADERS = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        "connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_FETCHES = re.compile(r"/gradio_api/(?:file=\s*[a-z][a-z0-9+.-]*:|proxy=)", re.IGNORECASE)
_CLOSED = re.compile(r"/(?:monitoring|gradio_api/(?:vibe|deep_link|run-history|dev|process_rec))")
_UPLOADS = ("/gradio_api/upload", "/api/draft")
SMALL_BODY = 2 * 2**20
_MOST_KNOWN = 10_000


@dataclass(slots=True)
class Rate:
    """So many requests a minute of one reader or address, saved up for a quarter of a minute.

    Attributes:
        per_minute: how many.
        clock: seconds that only grow.
    """

    per_minute: int
    clock: Callable[[], float] = time.monotonic
    _left: "OrderedDict[str, tuple[float, float]]" = field(default_factory=OrderedDict)

    def allows(self, who: str) -> bool:
        """Count one request; False if it is one too many."""
        most = max(1.0, self.per_minute / 4)
        now = self.clock()
        left, since = self._left.pop(who, (most, now))
        left = min(most, left + (now - since) * self.per_minute / 60)
        allowed = left >= 1
        self._left[who] = (left - 1 if allowed else left, now)
        if len(self._left) > _MOST_KNOWN:
            self._left.popitem(last=False)
        return allowed


class Middleware:
    """ASGI middleware around the whole server.

    Args:
        app: what is guarded.
        login: recognises readers.
        hosts: names the page may be called by; others are refused, so that no web site can have
            its own name point at this machine. An address is nobody's name and passes.
        proxies: addresses whose X-Forwarded-* headers are believed; others' are dropped.
        per_minute: requests that change something, of one reader or address.
        most_bytes: of an upload.
    """

    def __init__(
        self,
        app: App,
        *,
        login: Login,
        hosts: frozenset[str],
        proxies: frozenset[str],
        per_minute: int,
        most_bytes: int,
    ) -> None:
        self._app = app
        self._login = login
        self._hosts = hosts
        self._proxies = proxies
        self._rate = Rate(per_minute)
        self._wrong_passwords = Rate(20)
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with the reader's name in the scope."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        send = _with_headers(send)
        if _peer(scope) not in self._proxies:
            scope["headers"] = [
                pair for pair in scope["headers"] if not pair[0].lower().startswith(b"x-forwarded-")
            ]
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        refusal = self._refusal(scope, headers)
        if refusal:
            await _answer(send, *refusal)
            return
        limit = self._most_bytes if scope["path"].startswith(_UPLOADS) else SMALL_BODY
        if int(headers.get("content-length") or 0) > limit:
            await _answer(send, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _too_large(limit))
            return
        await self._app(scope, _bounded(receive, limit), send)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[HTTPStatus, str] | None:
        """The first of all reasons not to answer; else the reader's name is in the scope."""
        return self._misplaced(scope, headers) or self._unwelcome(scope, headers)

    def _misplaced(self, scope: Scope, headers: dict[str, str]) -> tuple[HTTPStatus, str] | None:
        path = unquote(scope.get("path", ""))
        host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        if host not in self._hosts and not _is_address(host):
            return HTTPStatus.MISDIRECTED_REQUEST, "This page is not called by that name."
        if _FETCHES.search(path):
            return HTTPStatus.FORBIDDEN, "This server fetches nothing from elsewhere."
        if _CLOSED.match(path):
            return HTTPStatus.NOT_FOUND, "There is nothing here."
        return None

    def _unwelcome(self, scope: Scope, headers: dict[str, str]) -> tuple[HTTPStatus, str] | None:
        peer = _peer(scope)
        # the proxy adds whom it serves at the end; what stands before it is the client's word
        address = headers.get("x-forwarded-for", peer).rpartition(",")[2].strip()
        changes = scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if changes and headers.get("sec-fetch-site", "same-origin") == "cross-site":
            return HTTPStatus.FORBIDDEN, "Another web site asked for this: refused."
        reader = self._login.reader_of(headers, address=peer)
        if reader is None:
            if headers.get("authorization") and not self._wrong_passwords.allows(address):
                return HTTPStatus.TOO_MANY_REQUESTS, "Too many wrong passwords. Wait a minute."
            return HTTPStatus.UNAUTHORIZED, "Who are you? A name and password are needed."
        scope["reader"] = reader
        if changes and not self._rate.allows(reader or address):
            return HTTPStatus.TOO_MANY_REQUESTS, "Too many requests. Wait some seconds."
        return None


def _peer(scope: Scope) -> str:
    """Address of who connected to us."""
    return scope["client"][0] if scope.get("client") else ""


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            ours = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            theirs = [
                pair for pair in message["headers"] if pair[0].decode().lower() not in HEADERS
            ]
            message["headers"] = [*theirs, *ours]
        await send(message)

    return sending


def _bounded(receive: Receive, limit: int) -> Receive:
    """A body that is longer than it may be ends the request, whatever its header said."""
    seen = 0

    async def receiving() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return {"type": "http.disconnect"} if seen > limit else message

    return receiving


def _too_large(limit: int) -> str:
    return f"That is more than the {limit >> 20} MB that are taken at once."


async def _answer(send: Send, status: HTTPStatus, sentence: str) -> None:
    body = sentence.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if status is HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b'Basic realm="cxr-rag", charset="UTF-8"'))
    if status is HTTPStatus.TOO_MANY_REQUESTS:
        headers.append((b"retry-after", b"15"))
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
