"""HTTP sessions with limits for hostile or broken servers.

Limits the length of a response and the waiting time, follows no redirect, and refuses plain http
except to this machine. Name and password come from ``~/.netrc`` (read by requests), a bearer token
from the environment, because other users of the machine can see a command line.
"""

import ipaddress
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import responses
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from encoders.images.raw_image import MAX_BYTES
from rag.pacs import PacsError

logger = logging.getLogger(__name__)

TOKEN_VARIABLE = "CXR_RAG_DICOMWEB_TOKEN"  # noqa: S105 - the variable's name
_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S = 10.0, 60.0
_ENVELOPE_BYTES = 1 << 20  # multipart headers around an image


class _TooLongError(requests.RequestException):
    """The response is longer than the largest image."""


class _BoundedAdapter(HTTPAdapter):
    def send(self, request: Any, *args: Any, **kwargs: Any) -> requests.Response:
        """Read the whole response, counting bytes after decompression."""
        kwargs |= {"timeout": (_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S), "stream": True}
        response = super().send(request, *args, **kwargs)
        body = bytearray()
        for chunk in response.iter_content(1 << 16):
            body += chunk
            if len(body) > MAX_BYTES + _ENVELOPE_BYTES:
                response.close()
                raise _TooLongError
        response._content = bytes(body)
        return response


def open_session(url: str) -> requests.Session:
    """A session for one server.

    Raises:
        PacsError: patients' data may not be sent to this URL.
    """
    _check_url(url)
    session = requests.Session()
    session.max_redirects = 0
    for scheme in ("http://", "https://"):
        session.mount(scheme, _BoundedAdapter())
    if token := os.environ.get(TOKEN_VARIABLE):
        session.headers["Authorization"] = f"Bearer {token}"
    return session


@contextmanager
def as_pacs_error() -> Iterator[None]:
    """Turn any error into a `PacsError` without the URL, which names the study."""
    try:
        yield
    except PacsError:
        raise
    except Exception as error:
        logger.debug("a DICOMweb request failed", exc_info=error)
        raise PacsError(f"the DICOMweb server failed: {_explain(error)}") from None


def _explain(error: Exception) -> str:
    if isinstance(error, _TooLongError):
        words = f"its answer is longer than {MAX_BYTES >> 20} MB, the largest image"
    elif isinstance(error, requests.TooManyRedirects):
        words = "it redirects to another address: give that URL if you trust it"
    elif isinstance(error, requests.HTTPError) and error.response is not None:
        status = error.response.status_code  # the reason phrase may name the study
        words = f"it answers with HTTP status {status} {responses.get(status, '')}".rstrip()
        if status == HTTPStatus.UNAUTHORIZED:
            words += f": it needs a name and password (~/.netrc) or a token ({TOKEN_VARIABLE})"
    elif isinstance(error, requests.exceptions.SSLError):
        words = "its certificate is not trusted: set REQUESTS_CA_BUNDLE to your hospital's"
    elif isinstance(error, requests.Timeout):
        words = "it does not answer in time"
    elif isinstance(error, requests.ConnectionError):
        words = "nothing answers at this URL, or it hangs up"
    else:
        words = f"it did not answer with DICOMweb ({type(error).__name__})"
    return words


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PacsError("a DICOMweb URL looks like https://server/dicom-web")
    if parts.username or parts.password:
        raise PacsError("others can see a password in a URL: write it into ~/.netrc")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise PacsError(
            f"http:// to {parts.hostname} would send patients' data in the clear: use https://, or "
            "a tunnel that ends on this machine"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
