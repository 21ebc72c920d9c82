"""What can go wrong between us and the language model's server, as our own errors.

The only place that knows the client library's exceptions. Each becomes an error that says what
happened, at which URL, and what to do; `LlmUnavailableError` is worth another try, the others not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rag.errors import LlmBusyError, LlmRejectedError, LlmUnavailableError
from rag.settings import LlmSettings

if TYPE_CHECKING:
    import openai

_BUSY, _BROKEN = 429, 500
# what the client library trips over: not JSON, not UTF-8, or JSON of another shape than an event
_GARBAGE = (ValueError, TypeError, KeyError, IndexError, AttributeError)


@contextmanager
def explained(settings: LlmSettings) -> Iterator[None]:
    """Turn whatever the block raises on the way to the server into one of our errors."""
    import httpx  # noqa: PLC0415 - heavy, and so is the next
    import openai  # noqa: PLC0415

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
        raise LlmRejectedError(wants_key(url, error.status_code)) from error
    except openai.NotFoundError as error:
        raise LlmRejectedError(f"{url} has no model {settings.model!r}; set llm.model") from error
    except openai.APIStatusError as error:
        raise _of_status(error, url) from error
    except (openai.APIError, httpx.HTTPError) as error:
        raise LlmUnavailableError(f"{url} broke off its answer: {error}") from error
    except _GARBAGE as error:
        raise LlmUnavailableError(f"{url} answered with garbage: {str(error)[:100]}") from error


def wants_key(url: str, status: int) -> str:
    """What to say where a server does not take our key."""
    return (
        f"{url} does not accept the key ({status}); set llm.api_key, best as the environment "
        "variable CXR_RAG_LLM__API_KEY"
    )


def _of_status(error: "openai.APIStatusError", url: str) -> LlmRejectedError | LlmUnavailableError:
    status = error.status_code
    if status == _BUSY:
        after = error.response.headers.get("retry-after", "")
        seconds = float(after) if after.replace(".", "", 1).isdigit() else None
        return LlmBusyError(f"{url} is busy (429); ask later", retry_after=seconds)
    message = str(error.message)[:300]
    if status >= _BROKEN:
        return LlmUnavailableError(f"{url} failed with {status}: {message}; see the server's log")
    return LlmRejectedError(f"{url} answered {status}: {message}")
