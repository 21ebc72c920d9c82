"""The connection to the language model's server: its time limit, and its faults as our own errors.

The only place that knows the client library's exceptions. Each becomes an error that says what
happened, at which URL, and what to do; `LlmUnavailableError` is worth another try, the others not.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import httpx
import openai

from rag.errors import LlmBusyError, LlmRejectedError, LlmUnavailableError
from rag.llm.vllm_server import wants_key
from rag.settings import LlmSettings

_BUSY, _BROKEN = 429, 500
# what the client library trips over: not JSON, not UTF-8, or JSON of another shape than an event
_GARBAGE = (ValueError, TypeError, KeyError, IndexError, AttributeError)


def client_with_deadline(seconds: float) -> httpx.Client:
    """An HTTP client that gives up on an answer that is not whole after so many seconds.

    A server that sends a byte now and then would else never time out. The limit is looked at when
    something arrives; silence is ended by the timeout of a read, which is as long.
    """
    return httpx.Client(timeout=seconds, transport=_Deadline(seconds))


class _Deadline(httpx.HTTPTransport):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        until = time.monotonic() + self._seconds
        response = super().handle_request(request)
        response.stream = _Until(cast(httpx.SyncByteStream, response.stream), until)
        return response


class _Until(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, until: float) -> None:
        self._stream = stream
        self._until = until

    def __iter__(self) -> Iterator[bytes]:
        for part in self._stream:
            if time.monotonic() > self._until:
                raise httpx.ReadTimeout("the answer was not whole in time")
            yield part

    def close(self) -> None:
        self._stream.close()


@contextmanager
def as_llm_error(settings: LlmSettings) -> Iterator[None]:
    """Turn whatever the block raises on the way to the server into one of our errors."""
    url = settings.url
    try:
        yield
    except (openai.APITimeoutError, httpx.TimeoutException) as error:
        raise LlmUnavailableError(
            f"no whole answer from {url} within {settings.timeout_seconds:g} s; "
            "raise llm.timeout_seconds or look at the server's log"
        ) from error
    except openai.APIConnectionError as error:
        raise LlmUnavailableError(
            f"no connection to {url} ({error.__cause__ or error}); is its server running? "
            "`cxr-rag doctor` looks, and llm.url says where"
        ) from error
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise wants_key(url, error.status_code) from error
    except openai.NotFoundError as error:
        raise LlmRejectedError(f"{url} has no model {settings.model!r}; set llm.model") from error
    except openai.APIStatusError as error:
        raise _of_status(error, url) from error
    except (openai.APIError, httpx.HTTPError) as error:
        raise LlmUnavailableError(f"{url} broke off its answer: {error}") from error
    except _GARBAGE as error:
        raise LlmUnavailableError(f"{url} answered with garbage: {str(error)[:100]}") from error


def _of_status(error: openai.APIStatusError, url: str) -> LlmRejectedError | LlmUnavailableError:
    status = error.status_code
    if status == _BUSY:
        after = error.response.headers.get("retry-after", "")
        seconds = float(after) if after.replace(".", "", 1).isdigit() else None
        return LlmBusyError(f"{url} is busy (429); ask later", retry_after=seconds)
    message = str(error.message)[:300]
    if status >= _BROKEN:
        return LlmUnavailableError(f"{url} failed with {status}: {message}; see the server's log")
    return LlmRejectedError(f"{url} answered {status}: {message}")
