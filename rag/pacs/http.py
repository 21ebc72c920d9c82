"""An HTTP session that a hostile or broken server cannot use against us.

Owns the limits: how much of an answer is read, how long one waits, that nobody is followed
elsewhere, and that credentials and reports go over the wire in the clear to this machine only.
Name and password come from ``~/.netrc`` (requests reads it), a bearer token from the environment:
a command line is seen by every user of the machine.
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
_CONNECT_SECONDS, _READ_SECONDS = 10.0, 60.0
_SLACK = 1 << 20  # of the multipart envelope around an image


class _TooLongError(requests.RequestException):
    """The answer is longer than the largest image."""


class _BoundedAdapter(HTTPAdapter):
    def send(self, request: Any, *args: Any, **kwargs: Any) -> requests.Response:
        """An answer that was read whole, after decompression: a small body may unpack to much."""
        kwargs |= {"timeout": (_CONNECT_SECONDS, _READ_SECONDS), "stream": True}
        response = super().send(request, *args, **kwargs)
        body = bytearray()
        for chunk in response.iter_content(1 << 16):
            body += chunk
            if len(body) > MAX_BYTES + _SLACK:
                response.close()
                raise _TooLongError
        response._content = bytes(body)
        return response


def open_session(url: str) -> requests.Session:
    """A session for one server.

    Raises:
        PacsError: the URL is none that patients' data may be sent to.
    """
    _check(url)
    session = requests.Session()
    session.max_redirects = 0
    for scheme in ("http://", "https://"):
        session.mount(scheme, _BoundedAdapter())
    if token := os.environ.get(TOKEN_VARIABLE):
        session.headers["Authorization"] = f"Bearer {token}"
    return session


@contextmanager
def as_pacs_error() -> Iterator[None]:
    """Whatever client and server do becomes one error, without its URL, which names the study."""
    try:
        yield
    except PacsError:
        raise
    except Exception as error:
        logger.debug("a DICOMweb request failed", exc_info=error)
        raise PacsError(f"the DICOMweb server failed: {_meaning(error)}") from None


def _meaning(error: Exception) -> str:
    if isinstance(error, _TooLongError):
        words = f"its answer is longer than {MAX_BYTES >> 20} MB, the largest image"
    elif isinstance(error, requests.TooManyRedirects):
        words = "it redirects to another address: give that URL if you trust it"
    elif isinstance(error, requests.HTTPError) and error.response is not None:
        status = error.response.status_code  # its own words may name the study, or anybody
        words = f"it answers with HTTP status {status} {responses.get(status, '')}".rstrip()
        if status == HTTPStatus.UNAUTHORIZED:
            words += f": it wants a name and password (~/.netrc) or a token ({TOKEN_VARIABLE})"
    elif isinstance(error, requests.exceptions.SSLError):
        words = "its certificate is not trusted: set REQUESTS_CA_BUNDLE to your hospital's"
    elif isinstance(error, requests.Timeout):
        words = "it does not answer in time"
    elif isinstance(error, requests.ConnectionError):
        words = "nothing answers at this URL, or it hangs up"
    else:
        words = f"it did not answer with DICOMweb ({type(error).__name__})"
    return words


def _check(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PacsError("a DICOMweb URL looks like https://server/dicom-web")
    if parts.username or parts.password:
        raise PacsError("a password in a URL is seen by others: write it into ~/.netrc")
    if parts.scheme == "http" and not _is_this_machine(parts.hostname):
        raise PacsError(
            f"http:// to {parts.hostname} would send patients' data in the clear: use https://, or "
            "a tunnel that ends on this machine"
        )


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
