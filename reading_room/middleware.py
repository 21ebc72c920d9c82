"""Checks before every request (host, login, rate, size) and security headers on every response.

A refusal is a status and one sentence. Gradio's own routes that fetch addresses for a client are
closed here: neither the page nor its server contacts anybody outside.
"""

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from socket import gethostname
from urllib.parse import unquote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag.settings import PageSettings
from reading_room.login import LOOPBACK, Login

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
OPEN_PATHS = ("/healthz", "/readyz")
"""They answer without a login, and say no more than that the page runs and can draft."""

_CLOSED = re.compile(
    r"/gradio_api/(?:file=\s*[a-z][a-z0-9+.-]*:|proxy=|vibe|deep_link|run-history|dev|process_rec)"
    r"|^/monitoring",
    re.IGNORECASE,
)
_UPLOADS = ("/gradio_api/upload", "/api/draft")
SMALL_BODY = 2 * 2**20
_MAX_KNOWN = 10_000


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
        settings: names that the page may be called by, so that no web site can point its own name
            at this machine (DNS rebinding; a bare address is allowed), proxies whose X-Forwarded-*
            headers are believed, and the rate of requests that change something.
        max_bytes: of an upload.
    """

    def __init__(
        self, app: ASGIApp, *, login: Login, settings: PageSettings, max_bytes: int
    ) -> None:
        self._app = app
        self._bounded = RequestBodyLimitMiddleware(app, max_body_size=SMALL_BODY)
        self._uploading = RequestBodyLimitMiddleware(app, max_body_size=max_bytes)
        self._login = login
        self._hosts = {*LOOPBACK, settings.host, gethostname(), *settings.hosts}
        self._proxies = settings.trusted_proxies
        self._rate = Rate(settings.requests_per_minute)
        self._wrong_passwords = Rate(20)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with the reader's name in the scope."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        if scope["type"] != "http":
            return
        if _peer(scope) not in self._proxies:
            scope["headers"] = [
                pair for pair in scope["headers"] if not pair[0].lower().startswith(b"x-forwarded-")
            ]
        headers = dict(Headers(scope=scope).items())  # of several lines the last: the proxy's
        upload = scope["path"].startswith(_UPLOADS)
        app: ASGIApp = self._uploading if upload else self._bounded
        try:
            self._check_address(scope["path"], headers.get("host", ""))
            scope["reader"] = "" if scope["path"] in OPEN_PATHS else self._reader(scope, headers)
        except HTTPException as refused:
            no_store = {"cache-control": "no-store", **(refused.headers or {})}
            app = PlainTextResponse(refused.detail, refused.status_code, no_store)
        await app(scope, receive, _with_headers(send))

    def _check_address(self, path: str, host: str) -> None:
        path, name = unquote(path), urlsplit(f"//{host}").hostname or ""
        if name not in self._hosts and not _is_address(name):
            raise HTTPException(421, "Unknown host name: see page.hosts.")
        if _CLOSED.search(path):
            raise HTTPException(404, "Not found.")

    def _reader(self, scope: Scope, headers: Mapping[str, str]) -> str:
        """Who asks; refused is who may not, or asks too often."""
        peer = _peer(scope)
        # the proxy appends its client at the end; what stands before it is the client's word
        address = headers.get("x-forwarded-for", peer).rpartition(",")[2].strip()
        changes = scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if changes and headers.get("sec-fetch-site", "same-origin") == "cross-site":
            raise HTTPException(403, "Requests from other web sites are refused.")
        # who has guessed too often is not heard, nor with the right word; who is signed in is
        guessing = not self._wrong_passwords.allows(address, count=False)
        reader = self._login.reader_of(headers, address=peer, known_only=guessing)
        if reader is None:
            if headers.get("authorization"):
                if guessing:
                    raise _too_many("Too many wrong passwords. Wait a minute.")
                self._wrong_passwords.allows(address)
            challenge = {"www-authenticate": 'Basic realm="cxr-rag", charset="UTF-8"'}
            raise HTTPException(401, "Sign in with your name and password.", challenge)
        if changes and not self._rate.allows(reader or address):
            raise _too_many("Too many requests. Wait some seconds.")
        return reader


def _too_many(sentence: str) -> HTTPException:
    return HTTPException(429, sentence, {"retry-after": "15"})


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
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return sending
