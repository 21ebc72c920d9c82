"""Checks before every request (host, login, rate, size) and security headers on every response.

A refusal is a status and one sentence. Gradio's routes that fetch an address for a client are
closed: neither the page nor its server contacts any other host.
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

# Gradio's front end evaluates strings and sets inline styles: both need "unsafe". No other host is
# contacted or framed, or may frame us.
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
"""Answer without a login, and say only that the page runs and can draft."""

_CLOSED_PATHS = re.compile(
    r"/gradio_api/(?:file=\s*[a-z][a-z0-9+.-]*:|proxy=|vibe|deep_link|run-history|dev|process_rec)"
    r"|^/monitoring",
    re.IGNORECASE,
)
_UPLOAD_PATHS = ("/gradio_api/upload", "/api/draft")
_MAX_BODY_BYTES = 2 * 2**20
_MAX_BUCKETS = 10_000


@dataclass(slots=True)
class RateLimiter:
    """A token bucket per reader or address; full, it holds the requests of 15 seconds.

    Attributes:
        per_minute: requests.
        clock: monotonic seconds.
    """

    per_minute: int
    clock: Callable[[], float] = time.monotonic
    _buckets: "OrderedDict[str, tuple[float, float]]" = field(default_factory=OrderedDict)

    def allows(self, key: str, *, count: bool = True) -> bool:
        """Whether a request is within the limit; it is counted unless `count` is false."""
        capacity = max(1.0, self.per_minute / 4)
        now = self.clock()
        tokens, updated = self._buckets.pop(key, (capacity, now))
        tokens = min(capacity, tokens + (now - updated) * self.per_minute / 60)
        allowed = tokens >= 1
        self._buckets[key] = (tokens - 1 if allowed and count else tokens, now)
        if len(self._buckets) > _MAX_BUCKETS:
            self._buckets.popitem(last=False)
        return allowed


class Middleware:
    """ASGI middleware around the whole server.

    Args:
        app: the server.
        login: recognises readers.
        settings: host names of the page, so that no web site can point its own name at this machine
            (DNS rebinding; a bare address is allowed), proxies whose X-Forwarded-* headers are
            trusted, and the rate of requests that change something.
        max_upload_bytes: of one request.
    """

    def __init__(
        self, app: ASGIApp, *, login: Login, settings: PageSettings, max_upload_bytes: int
    ) -> None:
        self._app = app
        self._small_body_app = RequestBodyLimitMiddleware(app, max_body_size=_MAX_BODY_BYTES)
        self._upload_app = RequestBodyLimitMiddleware(app, max_body_size=max_upload_bytes)
        self._login = login
        self._hosts = {*LOOPBACK, settings.host, gethostname(), *settings.hosts}
        self._proxies = settings.trusted_proxies
        self._requests = RateLimiter(settings.requests_per_minute)
        self._wrong_passwords = RateLimiter(20)

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
        headers = dict(Headers(scope=scope).items())  # of repeated headers the last: the proxy's
        is_upload = scope["path"].startswith(_UPLOAD_PATHS)
        app: ASGIApp = self._upload_app if is_upload else self._small_body_app
        try:
            self._check_address(scope["path"], headers.get("host", ""))
            scope["reader"] = "" if scope["path"] in OPEN_PATHS else self._reader(scope, headers)
        except HTTPException as error:
            no_store = {"cache-control": "no-store", **(error.headers or {})}
            app = PlainTextResponse(error.detail, error.status_code, no_store)
        await app(scope, receive, _with_headers(send))

    def _check_address(self, path: str, host: str) -> None:
        path, name = unquote(path), urlsplit(f"//{host}").hostname or ""
        if name not in self._hosts and not _is_ip_address(name):
            raise HTTPException(421, "Unknown host name: see page.hosts.")
        if _CLOSED_PATHS.search(path):
            raise HTTPException(404, "Not found.")

    def _reader(self, scope: Scope, headers: Mapping[str, str]) -> str:
        """The reader's name.

        Raises:
            HTTPException: not signed in, too many requests, or a request from another web site.
        """
        peer = _peer(scope)
        # the proxy appends its client at the end; anything before that the client wrote itself
        address = headers.get("x-forwarded-for", peer).rpartition(",")[2].strip()
        is_change = scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if is_change and headers.get("sec-fetch-site", "same-origin") == "cross-site":
            raise HTTPException(403, "Requests from other web sites are refused.")
        # too many wrong passwords block correct ones too; readers who are signed in stay so
        blocked = not self._wrong_passwords.allows(address, count=False)
        reader = self._login.reader_of(headers, address=peer, verified_only=blocked)
        if reader is None:
            if headers.get("authorization"):
                if blocked:
                    raise _too_many("Too many wrong passwords. Wait a minute.")
                self._wrong_passwords.allows(address)
            challenge = {"www-authenticate": 'Basic realm="cxr-rag", charset="UTF-8"'}
            raise HTTPException(401, "Sign in with your name and password.", challenge)
        if is_change and not self._requests.allows(reader or address):
            raise _too_many("Too many requests. Wait a few seconds.")
        return reader


def _too_many(detail: str) -> HTTPException:
    return HTTPException(429, detail, {"retry-after": "15"})


def _peer(scope: Scope) -> str:
    """Address of the direct client: the browser, or a proxy."""
    return scope["client"][0] if scope.get("client") else ""


def _is_ip_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return send_with_headers
