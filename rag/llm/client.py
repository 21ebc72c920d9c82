"""Chat client for an OpenAI-compatible server: messages in, the answer or a typed error out.

The only importer of langchain_openai. The JSON schema of the answer is sent along; vLLM enforces it
while decoding, and the caller validates it anyway. Recognises refusals, loops and other languages
by their words; whether a sentence is true is for `rag.grounding`.
"""

import json
import logging
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from rag.errors import (
    LlmCutOffError,
    LlmEmptyError,
    LlmLanguageError,
    LlmLoopError,
    LlmRefusalError,
    LlmUnavailableError,
)
from rag.report_nlp.lexicon import vocabulary
from rag.settings import LlmSettings

if TYPE_CHECKING:
    from langchain_openai import ChatOpenAI

logger = logging.getLogger(__name__)

MAX_RETRY_PAUSE_S = 30
MAX_TRAILING_BLANKS = 300
"""More end an answer: small models pad where the schema allows whitespace."""

MAX_REPEATS = 2
"""Of a sentence: once in the findings and once in the impression."""

MIN_KNOWN_WORD_SHARE = 0.5
"""Share of a draft's words that are in the lexicon or the evidence."""

_REFUSAL = re.compile(
    r"\b(?:as an? (?:ai|artificial intelligence|(?:large )?language model)\b"
    r"|i(?:'m| am)? (?:sorry|apologi[sz]e|cannot|can't|can not|could not|am unable|unable|won't)\b"
    r"|(?:please )?consult (?:a|your|with a) (?:doctor|physician|radiologist|qualified)\b"
    r"|not (?:able|allowed|permitted) to (?:provide|give|make|interpret|assist|diagnose)\b"
    r"|(?:i|we) (?:must|have to) decline\b)",
    re.IGNORECASE,
)
_TRAILING_LOOP = re.compile(r"(\S.{2,120}?)\1{4,}\S{0,120}\s*$|\s{40,}$", re.DOTALL)
_LETTERS = re.compile(r"[^\W\d_]+")
_LOOP_HINT = "set a larger llm.model, or llm.template = select_v1, which cannot loop"

Messages = Sequence[tuple[str, str]]


class ChatClient:
    """Asks one model at one URL, with temperature 0 and a fixed seed.

    Retries a busy or failing server ``llm.retries`` times, after its Retry-After or with jittered
    exponential backoff.
    """

    def __init__(self, settings: LlmSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._chat: ChatOpenAI | None = None

    @property
    def model(self) -> str:
        """The model's name on the server."""
        return self._settings.model

    def ask(self, messages: Messages, *, schema: dict[str, Any]) -> str:
        """The complete answer; raises what `stream` does."""
        *_, text = self.stream(messages, schema=schema)
        return text

    def stream(self, messages: Messages, *, schema: dict[str, Any]) -> Iterator[str]:
        """Yield the answer so far each time it grows; a retry starts over.

        Args:
            messages: (role, content) pairs.
            schema: JSON schema of the answer.

        Raises:
            LlmUnavailableError: nothing answers at the URL, or the answer broke off.
            LlmRejectedError: an error that a retry would not fix.
            LlmOutputError: by subclass, the answer is empty, filtered, cut off at ``max_tokens``,
                or a loop.
        """
        from rag.llm.connection import translate_errors  # noqa: PLC0415 - httpx and openai

        for attempt in range(self._settings.retries + 1):
            try:
                with translate_errors(self._settings):
                    yield from self._stream_once(messages, schema)
            except LlmUnavailableError as error:
                if attempt == self._settings.retries:
                    raise
                pause = error.retry_after or random.uniform(0.5, 1) * 2**attempt  # noqa: S311
                logger.info("language model unavailable, asking again in %.1f s", pause)
                time.sleep(min(pause, MAX_RETRY_PAUSE_S))
            else:
                return

    def _stream_once(self, messages: Messages, schema: dict[str, Any]) -> Iterator[str]:
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
            if text[-MAX_TRAILING_BLANKS:].isspace() and len(text) > MAX_TRAILING_BLANKS:
                finish_reason = "length"
                break
        self._check_finished(text, finish_reason)

    def _check_finished(self, text: str, finish_reason: str) -> None:
        if finish_reason in ("length", "") and _is_json_object(text):
            return  # complete but for trailing blanks
        if finish_reason == "length" and is_degenerate(text):
            raise LlmLoopError(f"{self.model} repeats itself until it is cut off; {_LOOP_HINT}")
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

    def close(self) -> None:
        """Close the connections."""
        if self._chat is not None:
            self._chat.root_client.close()

    def _client(self) -> "ChatOpenAI":
        from langchain_openai import ChatOpenAI  # noqa: PLC0415 - a second to import

        from rag.llm.connection import client_with_deadline  # noqa: PLC0415 - httpx too

        settings = self._settings
        with self._lock:  # a batch asks from many threads
            if self._chat is None:
                self._chat = ChatOpenAI(
                    base_url=settings.url,
                    api_key=SecretStr(settings.api_key),
                    model=settings.model,
                    temperature=0,
                    seed=0,
                    max_completion_tokens=settings.max_tokens,
                    timeout=settings.timeout_seconds,
                    http_client=client_with_deadline(settings.timeout_seconds),
                    max_retries=0,  # `stream` retries, also after a stream that broke off
                )
            return self._chat


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def validate(texts: Sequence[str], *, evidence: Iterable[str]) -> None:
    """Check that sentences of a model are a draft at all.

    Args:
        texts: the sentences.
        evidence: texts of the reports that the model was shown.

    Raises:
        LlmRefusalError: a sentence apologises, or refers the reader to a doctor.
        LlmLoopError: a sentence occurs more than `MAX_REPEATS` times.
        LlmLanguageError: too few words are in the lexicon or the evidence.
    """
    for text in texts:
        if refusal := _REFUSAL.search(text):
            raise LlmRefusalError(
                f"the model declined ({refusal.group()!r}); another model, or a template that says "
                "more plainly that a radiologist will check the draft, may help"
            )
    counts = Counter(" ".join(text.casefold().split()) for text in texts)
    repeats = max(counts.values(), default=0)
    if repeats > MAX_REPEATS:
        raise LlmLoopError(f"the model wrote one sentence {repeats} times; {_LOOP_HINT}")
    words = [word for text in texts for word in _words(text)]
    known = vocabulary()[0].union(*(_words(text) for text in evidence))
    share = sum(word in known for word in words) / len(words) if words else 1.0
    if share < MIN_KNOWN_WORD_SHARE:
        raise LlmLanguageError(
            f"only {share:.0%} of the words are the evidence's or a radiologist's English; set "
            "another llm.model, or index reports in the language it writes"
        )


def is_degenerate(text: str) -> bool:
    """Whether an answer ends in a loop: the same few words over and over, or blanks."""
    return _TRAILING_LOOP.search(text[-2000:]) is not None


def is_refusal(text: str) -> bool:
    """Whether a text apologises or declines."""
    return _REFUSAL.search(text) is not None


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _LETTERS.findall(text)]
