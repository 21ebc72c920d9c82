"""Chat client for an OpenAI-compatible server: messages in, the answer or a typed error out.

The only importer of langchain_openai. Knows nothing of reports: what the answer must look like
arrives as a JSON schema, which the server enforces while it decodes.
"""

import json
import logging
import random
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from rag.errors import LlmCutOffError, LlmEmptyError, LlmRefusalError, LlmUnavailableError
from rag.llm.response_checks import degenerate_error, is_degenerate
from rag.settings import LlmSettings

if TYPE_CHECKING:
    from langchain_openai import ChatOpenAI

logger = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS = 30
MOST_BLANKS = 300
"""An answer that ends in so many blanks has ended: small models fill what a schema lets them."""

Messages = Sequence[tuple[str, str]]


class ChatClient:
    """Asks one model at one URL. Deterministic as far as the server is: temperature 0, a seed.

    A server that is busy or breaks off is asked again (``llm.retries`` times, after what it said in
    Retry-After or a growing, jittered pause).
    """

    def __init__(self, settings: LlmSettings) -> None:
        self._settings = settings
        self._chat: ChatOpenAI | None = None

    @property
    def model(self) -> str:
        """The name the model is asked by."""
        return self._settings.model

    def ask(self, messages: Messages, *, schema: dict[str, Any]) -> str:
        """The whole answer; see `stream` for what it raises."""
        *_, text = self.stream(messages, schema=schema)
        return text

    def stream(self, messages: Messages, *, schema: dict[str, Any]) -> Iterator[str]:
        """Yield the answer so far each time it grows, last the whole.

        After a broken stream it begins anew.

        Args:
            messages: (role, content) pairs.
            schema: JSON schema the answer must obey.

        Raises:
            LlmUnavailableError: nothing answers at the URL, or it stopped answering.
            LlmRejectedError: an error that asking again would not mend; the message says the cure.
            LlmOutputError: the answer is empty, refused by a filter, was cut off at
                ``max_tokens``, or repeats itself until there; each has a class of its own.
        """
        from rag.llm.connection import explained  # noqa: PLC0415 - httpx and openai

        for attempt in range(self._settings.retries + 1):
            try:
                with explained(self._settings):
                    yield from self._once(messages, schema)
            except LlmUnavailableError as error:
                if attempt == self._settings.retries:
                    raise
                pause = error.retry_after or random.uniform(0.5, 1) * 2**attempt  # noqa: S311
                logger.info("language model unavailable, asking again in %.1f s", pause)
                time.sleep(min(pause, LONGEST_PAUSE_SECONDS))
            else:
                return

    def _once(self, messages: Messages, schema: dict[str, Any]) -> Iterator[str]:
        text, finish_reason = "", ""
        response_format = {
            "type": "json_schema",
            "json_schema": {"name": "draft", "strict": True, "schema": schema},
        }
        # in extra_body, so that the client library does not parse and reject the answer itself
        body = {"response_format": response_format}
        for chunk in self._client().stream(list(messages), extra_body=body):
            finish_reason = chunk.response_metadata.get("finish_reason") or finish_reason
            if chunk.text:
                text += chunk.text
                yield text
            if text[-MOST_BLANKS:].isspace() and len(text) > MOST_BLANKS:
                finish_reason = "length"
                break
        self._refuse_unfinished(text, finish_reason)

    def _refuse_unfinished(self, text: str, finish_reason: str) -> None:
        if finish_reason in ("length", "") and _is_object(text):
            return  # all was said, and blanks followed
        if finish_reason == "length" and is_degenerate(text):
            raise degenerate_error(self.model)
        if finish_reason == "length":
            raise LlmCutOffError(
                f"{self.model} was cut off after {self._settings.max_tokens} tokens; "
                "raise llm.max_tokens or lower retrieval.k"
            )
        if not finish_reason:
            raise LlmUnavailableError(f"{self._settings.url} ended its answer in the middle")
        if finish_reason != "stop":
            raise LlmRefusalError(
                f"{self.model} stopped with {finish_reason!r} instead of an answer"
            )
        if not text.strip():
            raise LlmEmptyError(f"{self.model} answered with nothing")

    def _client(self) -> "ChatOpenAI":
        if self._chat is None:
            from langchain_openai import ChatOpenAI  # noqa: PLC0415 - a second to import

            from rag.llm.connection import client_with_deadline  # noqa: PLC0415 - httpx too

            settings = self._settings
            self._chat = ChatOpenAI(
                base_url=settings.url,
                api_key=SecretStr(settings.api_key),
                model=settings.model,
                temperature=0,
                seed=0,
                max_completion_tokens=settings.max_tokens,
                timeout=settings.timeout_seconds,
                http_client=client_with_deadline(settings.timeout_seconds),
                max_retries=0,  # `stream` asks again, also after a stream that broke off
            )
        return self._chat


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
