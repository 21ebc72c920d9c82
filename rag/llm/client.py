"""Chat client for an OpenAI-compatible server: messages in, the answer or a typed error out.

The only importer of langchain_openai. What the answer must look like is sent as a JSON schema; vLLM
enforces it while it decodes, the caller checks it all the same. Tells what a model writes instead
of a draft (refusals, loops, another language) by its words alone; whether a sentence is true is for
`rag.grounding`.
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

LONGEST_PAUSE_SECONDS = 30
MOST_BLANKS = 300
"""An answer that ends in so many blanks has ended: small models fill what a schema lets them."""

MOST_COPIES = 2
"""A report may say a thing in the findings and again in the impression, but not three times."""

LEAST_KNOWN_WORDS = 0.5
"""Share of a draft's words that the lexicon or the evidence knows."""

_REFUSAL = re.compile(
    r"\b(?:as an? (?:ai|artificial intelligence|(?:large )?language model)\b"
    r"|i(?:'m| am)? (?:sorry|apologi[sz]e|cannot|can't|can not|could not|am unable|unable|won't)\b"
    r"|(?:please )?consult (?:a|your|with a) (?:doctor|physician|radiologist|qualified)\b"
    r"|not (?:able|allowed|permitted) to (?:provide|give|make|interpret|assist|diagnose)\b"
    r"|(?:i|we) (?:must|have to) decline\b)",
    re.IGNORECASE,
)
_LOOP_AT_END = re.compile(r"(\S.{2,120}?)\1{4,}\S{0,120}\s*$|\s{40,}$", re.DOTALL)
_LETTERS = re.compile(r"[^\W\d_]+")
_LOOP_CURE = "set a larger llm.model, or llm.template = select_v1, which cannot loop"

Messages = Sequence[tuple[str, str]]


class ChatClient:
    """Asks one model at one URL. Deterministic as far as the server is: temperature 0, a seed.

    A server that is busy or breaks off is asked again (``llm.retries`` times, after what it said in
    Retry-After or a growing, jittered pause).
    """

    def __init__(self, settings: LlmSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
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
        from rag.llm.connection import as_llm_error  # noqa: PLC0415 - httpx and openai

        for attempt in range(self._settings.retries + 1):
            try:
                with as_llm_error(self._settings):
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
            raise LlmLoopError(f"{self.model} repeats itself until it is cut off; {_LOOP_CURE}")
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
        """Close its connections."""
        if self._chat is not None:
            self._chat.root_client.close()

    def _client(self) -> "ChatOpenAI":
        with self._lock:  # a batch asks from many threads
            if self._chat is None:
                self._chat = _connected(self._settings)
            return self._chat


def _connected(settings: LlmSettings) -> "ChatOpenAI":
    from langchain_openai import ChatOpenAI  # noqa: PLC0415 - a second to import

    from rag.llm.connection import client_with_deadline  # noqa: PLC0415 - httpx too

    return ChatOpenAI(
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


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def validate(texts: Sequence[str], *, evidence: Iterable[str]) -> None:
    """Raise what is wrong with sentences that a model wrote, if they are no draft at all.

    Args:
        texts: the sentences of the answer.
        evidence: the reports the model was shown.

    Raises:
        LlmRefusalError: a sentence apologises, or sends the reader to a doctor.
        LlmLoopError: a sentence comes more than `MOST_COPIES` times.
        LlmLanguageError: fewer than `LEAST_KNOWN_WORDS` of the words are the lexicon's or the
            evidence's.
    """
    for text in texts:
        if refusal := _REFUSAL.search(text):
            raise LlmRefusalError(
                f"the model declined ({refusal.group()!r}); another model, or a template that says "
                "more plainly that a radiologist will check the draft, may help"
            )
    copies = Counter(" ".join(text.casefold().split()) for text in texts)
    if copies and (most := max(copies.values())) > MOST_COPIES:
        raise LlmLoopError(f"the model wrote one sentence {most} times; {_LOOP_CURE}")
    words = [word for text in texts for word in _words(text)]
    known = vocabulary()[0].union(*(_words(text) for text in evidence))
    share = sum(word in known for word in words) / len(words) if words else 1.0
    if share < LEAST_KNOWN_WORDS:
        raise LlmLanguageError(
            f"only {share:.0%} of the words are the evidence's or a radiologist's English; set "
            "another llm.model, or index reports in the language it writes"
        )


def is_degenerate(text: str) -> bool:
    """Whether an answer that was cut off ends in the same few words again and again, or blanks."""
    return _LOOP_AT_END.search(text[-2000:]) is not None


def is_refusal(text: str) -> bool:
    """Whether an answer that is not even JSON is a refusal in plain words."""
    return _REFUSAL.search(text) is not None


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _LETTERS.findall(text)]
