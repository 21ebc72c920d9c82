"""Chat client for an OpenAI-compatible server: messages in, a completion or a typed error out.

The only importer of langchain_openai. Knows nothing of reports: what the answer must look like
arrives as a JSON schema, which the server enforces while it decodes.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from rag.errors import LlmOutputError, LlmRejectedError, LlmUnavailableError
from rag.settings import LlmSettings

if TYPE_CHECKING:
    from langchain_core.messages import AIMessageChunk
    from langchain_openai import ChatOpenAI

Messages = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Completion:
    """One whole answer.

    Attributes:
        text: what the model wrote.
        model: name of the model that answered.
        prompt_tokens, completion_tokens: 0 where the server does not count.
        seconds: wall time from the request to the last token.
    """

    text: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float


class ChatClient:
    """Asks one model at one URL. Deterministic as far as the server is: temperature 0, a seed."""

    def __init__(self, settings: LlmSettings) -> None:
        self._settings = settings
        self._chat: ChatOpenAI | None = None

    @property
    def model(self) -> str:
        """The name the model is asked by."""
        return self._settings.model

    def ask(self, messages: Messages, *, schema: dict[str, Any]) -> Completion:
        """Ask and wait for the whole answer; see `stream` for what it raises."""
        *_, (_, completion) = self.stream(messages, schema=schema)
        assert completion is not None  # noqa: S101 - a stream ends with one or raises
        return completion

    def stream(
        self, messages: Messages, *, schema: dict[str, Any]
    ) -> Iterator[tuple[str, Completion | None]]:
        """Yield the text so far each time it grows, last with the completion.

        Args:
            messages: (role, content) pairs.
            schema: JSON schema the answer must obey.

        Raises:
            LlmUnavailableError: nothing answers at the URL, or it stopped answering.
            LlmRejectedError: an error status; the message names it and the cure.
            LlmOutputError: the answer is empty or was cut off at ``max_tokens``.
        """
        started = time.perf_counter()
        text, finish_reason, usage = "", "", (0, 0)
        response_format = {
            "type": "json_schema",
            "json_schema": {"name": "draft", "strict": True, "schema": schema},
        }
        with self._explained():
            # in extra_body, so that the client library does not parse and reject the answer itself
            body = {"response_format": response_format}
            for chunk in self._client().stream(list(messages), extra_body=body):
                finish_reason = chunk.response_metadata.get("finish_reason") or finish_reason
                usage = _usage(chunk) or usage
                if chunk.text:
                    text += chunk.text
                    yield text, None
        if finish_reason == "length":
            raise LlmOutputError(
                f"{self.model} was cut off after {self._settings.max_tokens} tokens; "
                "raise llm.max_tokens or lower retrieval.k"
            )
        if not text.strip():
            raise LlmOutputError(
                f"{self.model} answered with nothing ({finish_reason or 'no reason'})"
            )
        yield (
            text,
            Completion(
                text=text,
                model=self.model,
                prompt_tokens=usage[0],
                completion_tokens=usage[1],
                seconds=time.perf_counter() - started,
            ),
        )

    def _client(self) -> "ChatOpenAI":
        if self._chat is None:
            from langchain_openai import ChatOpenAI  # noqa: PLC0415 - a second to import

            settings = self._settings
            self._chat = ChatOpenAI(
                base_url=settings.url,
                api_key=SecretStr(settings.api_key),
                model=settings.model,
                temperature=0,
                seed=0,
                max_completion_tokens=settings.max_tokens,
                timeout=settings.timeout_seconds,
                max_retries=settings.retries,
                stream_usage=True,
            )
        return self._chat

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn the client library's errors into ours, each with its cure."""
        import openai  # noqa: PLC0415 - heavy

        url, model = self._settings.url, self.model
        try:
            yield
        except openai.APITimeoutError as error:
            raise LlmUnavailableError(
                f"no answer from {url} within {self._settings.timeout_seconds:g} s; "
                "raise llm.timeout_seconds or look at the server's log"
            ) from error
        except openai.APIConnectionError as error:
            raise LlmUnavailableError(
                f"nothing answers at {url}; start the server with `cxr-rag demo`, or set llm.url"
            ) from error
        except openai.NotFoundError as error:
            raise LlmRejectedError(f"{url} has no model {model!r}; set llm.model") from error
        except openai.APIStatusError as error:
            raise LlmRejectedError(
                f"{url} answered {error.status_code}: {error.message}"
            ) from error
        except openai.APIError as error:
            raise LlmUnavailableError(f"{url} broke off its answer: {error.message}") from error


def _usage(chunk: "AIMessageChunk") -> tuple[int, int] | None:
    usage = chunk.usage_metadata
    return (usage["input_tokens"], usage["output_tokens"]) if usage else None
