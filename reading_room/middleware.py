"""Checks before every request (host, login, rate, size) and security headers on every response.

A refusal is a status and one sentence. Gradio's own routes that fetch addresses for a client are
closed here: neither the page nor its server contacts anybody outside.
"""

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reading_room.login import Login

# Gradio's front end evaluates strings and sets inline styles: both need "unsafe". What matters
# stays closed: no other host is contacted, framed, or allowed to frame us.
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
_FETCHING = re.compile(r"/gradio_api/(?:file=\s*[a-z][a-z0-9+.-]*:|proxy=)", re.IGNORECASE)
OPEN_PATHS = ("/healthz", "/readyz")
"""They answer without a login, and say no more than that the page runs and can draft."""

_CLOSED = re.compile(r"/(?:monitoring|gradio_api/(?:vibe|deep_link|run-history|dev|process_rec))")
_UPLOADS = ("/gradio_api/upload", "/api/draft")
SMALL_BODY = 2 * 2**20
_MAX_KNOWN = 10_000


Refusal = tuple[HTTPStatus, str]


@dataclass(slots=True)
class Rate:
    """A token bucket per reader or address, which holds the requests of a quarter of a minute.

    Attributes:
        per_minute: requests.
        clock: monotonic seconds.
    """

    per_minute: int
    clock: Callable[[], float] = time.monotonic
    _left: "OrderedDict[str, tuple[float, float]]" = field(default_factory=OrderedDict)

    def allows(self, who: str, *, count: bool = True) -> bool:
        """Count one request, or only ask; False if it is over the limit."""
        capacity = max(1.0, self.per_minute / 4)
        now = self.clock()
        left, since = self._left.pop(who, (capacity, now))
        left = min(capacity, left + (now - since) * self.per_minute / 60)
        allowed = left >= 1
        self._left[who] = (left - 1 if allowed and count else left, now)
        if len(self._left) > _MAX_KNOWN:
            self._left.popitem(last=False)
        return allowed


class Middleware:
    """ASGI middleware around the whole server.

    Args:
        app: the server.
        login: recognises readers.
        hosts: names the page may be called by. Others are refused, so that no web site can point
            its own name at this machine (DNS rebinding); a bare address is allowed.
        proxies: addresses whose X-Forwarded-* headers are believed; others' are dropped.
        per_minute: requests that change something, per reader or address.
        max_bytes: of an upload.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        login: Login,
        hosts: frozenset[str],
        proxies: frozenset[str],
        per_minute: int,
        max_bytes: int,
    ) -> None:
        self._app = app
        self._login = login
        self._hosts = hosts
        self._proxies = proxies
        self._rate = Rate(per_minute)
        self._wrong_passwords = Rate(20)
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with the reader's name in the scope."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        if _peer(scope) not in self._proxies:
            scope["headers"] = [
                pair for pair in scope["headers"] if not pair[0].lower().startswith(b"x-forwarded-")
            ]
        limit = self._max_bytes if scope["path"].startswith(_UPLOADS) else SMALL_BODY
        refusal = (
            self._wrong_address(scope)
            or self._unauthorized(scope)
            or _too_large(_headers(scope), limit)
        )
        app = _response(*refusal) if refusal else self._app
        await app(scope, _bounded(receive, limit), _with_headers(send))

    def _wrong_address(self, scope: Scope) -> Refusal | None:
        path = unquote(scope.get("path", ""))
        host = urlsplit(f"//{_headers(scope).get('host', '')}").hostname or ""
        if host not in self._hosts and not _is_address(host):
            return HTTPStatus.MISDIRECTED_REQUEST, "Unknown host name: see page.hosts."
        if _FETCHING.search(path):
            return HTTPStatus.FORBIDDEN, "This server fetches nothing from elsewhere."
        if _CLOSED.match(path):
            return HTTPStatus.NOT_FOUND, "Not found."
        return None

    def _unauthorized(self, scope: Scope) -> Refusal | None:
        """Who may not ask, or too often; else the reader's name is in the scope."""
        headers, peer = _headers(scope), _peer(scope)
        if scope["path"] in OPEN_PATHS:
            scope["reader"] = ""
            return None
        # the proxy appends its client at the end; what stands before it is the client's word
        address = headers.get("x-forwarded-for", peer).rpartition(",")[2].strip()
        changes = scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if changes and headers.get("sec-fetch-site", "same-origin") == "cross-site":
            return HTTPStatus.FORBIDDEN, "Requests from other web sites are refused."
        # who has guessed too often is not heard, nor with the right word; who is signed in is
        guessing = not self._wrong_passwords.allows(address, count=False)
        reader = self._login.reader_of(headers, address=peer, known_only=guessing)
        if reader is None:
            if guessing and headers.get("authorization"):
                return HTTPStatus.TOO_MANY_REQUESTS, "Too many wrong passwords. Wait a minute."
            if headers.get("authorization"):
                self._wrong_passwords.allows(address)
            return HTTPStatus.UNAUTHORIZED, "Sign in with your name and password."
        scope["reader"] = reader
        if changes and not self._rate.allows(reader or address):
            return HTTPStatus.TOO_MANY_REQUESTS, "Too many requests. Wait some seconds."
        return None


def _peer(scope: Scope) -> str:
    """Address of who connected to us."""
    return scope["client"][0] if scope.get("client") else ""


def _headers(scope: Scope) -> dict[str, str]:
    """By lower-case name; of several lines the last, which is the proxy's."""
    return dict(Headers(scope=scope).items())


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _too_large(headers: Mapping[str, str], limit: int) -> Refusal | None:
    if int(headers.get("content-length") or 0) <= limit:
        return None
    return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"At most {limit >> 20} MB per request."


def _response(status: HTTPStatus, sentence: str) -> PlainTextResponse:
    more = {
        HTTPStatus.UNAUTHORIZED: {"www-authenticate": 'Basic realm="cxr-rag", charset="UTF-8"'},
        HTTPStatus.TOO_MANY_REQUESTS: {"retry-after": "15"},
    }
    headers = {"cache-control": "no-store", **more.get(status, {})}
    return PlainTextResponse(sentence, status, headers)


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return sending


def _bounded(receive: Receive, limit: int) -> Receive:
    """A longer body than declared ends the request."""
    seen = 0

    async def receiving() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return {"type": "http.disconnect"} if seen > limit else message

    return receiving
