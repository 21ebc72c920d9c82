"""The connection to the language model's server: its deadline, and its errors as ours.

The only place that knows the client library's exceptions. Each becomes an `LlmError` that says what
happened, at which URL, and what to do; only `LlmUnavailableError` is worth a retry.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import cast

import httpx
import openai

from rag.errors import LlmBusyError, LlmError, LlmRejectedError, LlmUnavailableError
from rag.llm.vllm_server import rejected_key
from rag.settings import LlmSettings

# raised by the client library on events that are not JSON, not UTF-8, or of another shape
_MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError)


def client_with_deadline(seconds: float) -> httpx.Client:
    """An HTTP client with a deadline for each complete response, even if bytes keep arriving."""
    return httpx.Client(timeout=seconds, transport=_DeadlineTransport(seconds))


class _DeadlineTransport(httpx.HTTPTransport):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        deadline = time.monotonic() + self._seconds
        response = super().handle_request(request)
        response.stream = _DeadlineStream(cast(httpx.SyncByteStream, response.stream), deadline)
        return response


class _DeadlineStream(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def __iter__(self) -> Iterator[bytes]:
        for part in self._stream:
            if time.monotonic() > self._deadline:
                raise httpx.ReadTimeout("the response was not complete in time")
            yield part

    def close(self) -> None:
        self._stream.close()


@contextmanager
def translate_errors(settings: LlmSettings) -> Iterator[None]:
    """Turn the client library's errors within the block into an `LlmError`."""
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
        raise rejected_key(url, error.status_code) from error
    except openai.NotFoundError as error:
        raise LlmRejectedError(f"{url} has no model {settings.model!r}; set llm.model") from error
    except openai.APIStatusError as error:
        raise _status_error(error, url) from error
    except (openai.APIError, httpx.HTTPError) as error:
        raise LlmUnavailableError(f"{url} broke off its answer: {error}") from error
    except _MALFORMED as error:
        raise LlmUnavailableError(f"{url} answered with garbage: {str(error)[:100]}") from error


def _status_error(error: openai.APIStatusError, url: str) -> LlmError:
    status = error.status_code
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        after = error.response.headers.get("retry-after", "")
        seconds = float(after) if after.replace(".", "", 1).isdigit() else None
        return LlmBusyError(f"{url} is busy (429); ask later", retry_after=seconds)
    message = str(error.message)[:300]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return LlmUnavailableError(f"{url} failed with {status}: {message}; see the server's log")
    return LlmRejectedError(f"{url} answered {status}: {message}")
