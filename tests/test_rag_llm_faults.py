"""Faults of a language-model server, over HTTP: each has a typed, explained error in time."""

import json
import time
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from support import fault_server
from support.fault_server import DELTA, EVENT, STOP, Answer, good, raw, reset_after, silent, status

from rag.errors import (
    LlmBusyError,
    LlmCutOffError,
    LlmEmptyError,
    LlmError,
    LlmLoopError,
    LlmRefusalError,
    LlmRejectedError,
    LlmUnavailableError,
)
from rag.llm import client as llm_module
from rag.llm.client import ChatClient
from rag.settings import LlmSettings

SCHEMA = {"type": "object"}
MESSAGES = [("user", "hello")]
BEGINNING = EVENT % (DELTA % "half an ans")


def ask(url: str, *, retries: int = 0, timeout: float = 5) -> str:
    settings = LlmSettings(url=url, model="m", retries=retries, timeout_seconds=timeout)
    return ChatClient(settings).ask(MESSAGES, schema=SCHEMA)


CUT_OFF = EVENT % STOP.replace("stop", "length") + "data: [DONE]\n\n"
FILTERED = STOP.replace("stop", "content_filter")
LOOP = EVENT % (DELTA % ("No effusion. " * 20))
BLANKS = EVENT % (DELTA % ("{" + " " * 200))
FAULTS: dict[str, tuple[Answer, type[LlmError], str]] = {
    "busy": (status(429), LlmBusyError, "busy"),
    "wrong model": (status(404), LlmRejectedError, "no model"),
    "prompt too long": (status(400), LlmRejectedError, "400"),
    "wrong key": (status(401), LlmRejectedError, "API_KEY"),
    "out of memory": (status(500), LlmUnavailableError, "500"),
    "gateway": (status(503), LlmUnavailableError, "503"),
    "reset in the middle": (reset_after(BEGINNING), LlmUnavailableError, "no connection"),
    "ends in the middle": (raw(BEGINNING), LlmUnavailableError, "in the middle"),
    "garbage events": (raw("data: {not json\n\n"), LlmUnavailableError, "garbage"),
    "no events at all": (raw("hello\n\n"), LlmUnavailableError, "http"),
    "invalid utf-8": (raw(b'data: {"id": "\xff\xfe"}\n\n'), LlmUnavailableError, "http"),
    "events of another shape": (raw('data: {"choices": 7}\n\n'), LlmError, "http"),
    "empty answer": (raw(EVENT % STOP + "data: [DONE]\n\n"), LlmEmptyError, "nothing"),
    "loop until cut off": (raw(LOOP + CUT_OFF), LlmLoopError, "repeats"),
    "blanks until cut off": (raw(BLANKS + CUT_OFF), LlmLoopError, "repeats"),
    "too long": (raw(BEGINNING + CUT_OFF), LlmCutOffError, "max_tokens"),
    "filtered": (raw(EVENT % FILTERED + "data: [DONE]\n\n"), LlmRefusalError, "content_filter"),
    "error event": (
        raw('data: {"error": {"message": "engine died"}}\n\n'),
        LlmUnavailableError,
        "http",
    ),
    "not http": (lambda reply: reply.sendall(b"SSH-2.0\r\n"), LlmUnavailableError, "http"),
    "hangs up at once": (lambda _: None, LlmUnavailableError, "http"),
}


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # the client on odd shapes
@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_a_typed_error_that_names_the_server(name: str) -> None:
    answer, expected, words = FAULTS[name]
    with fault_server.serve(answer) as server:
        with pytest.raises(expected, match=words) as caught:
            ask(server.url)
        assert server.url in str(caught.value) or "m " in str(caught.value)


def test_silence_ends_at_the_timeout() -> None:
    with fault_server.serve(silent(3)) as server:
        started = time.monotonic()
        with pytest.raises(LlmUnavailableError, match=r"within 0\.5 s"):
            ask(server.url, timeout=0.5)
        assert time.monotonic() - started < 2.5


@pytest.mark.parametrize(
    "fault", ["busy", "out of memory", "reset in the middle", "garbage events"]
)
def test_transient_faults_are_retried(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llm_module, "MAX_RETRY_PAUSE_S", 0.05)
    with fault_server.serve(FAULTS[fault][0], good("fine")) as server:
        assert ask(server.url, retries=1) == "fine"
        assert len(server.times) == 2


def test_retries_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llm_module, "MAX_RETRY_PAUSE_S", 0.05)
    with fault_server.serve(status(503)) as server:
        with pytest.raises(LlmUnavailableError):
            ask(server.url, retries=2)
        assert len(server.times) == 3


def test_permanent_faults_are_not_retried() -> None:
    with fault_server.serve(status(400)) as server:
        with pytest.raises(LlmRejectedError):
            ask(server.url, retries=3)
        assert len(server.times) == 1


def test_retry_after_is_obeyed() -> None:
    with fault_server.serve(status(429, "retry-after: 1"), good("fine")) as server:
        assert ask(server.url, retries=1) == "fine"
        ((first, second),) = pairwise(server.times)
        assert second - first >= 1


def test_closing_a_stream_early_is_no_failure() -> None:
    with fault_server.serve(good("one two")) as server:
        client = ChatClient(LlmSettings(url=server.url, model="m", retries=0))
        for _ in range(3):
            stream = client.stream(MESSAGES, schema=SCHEMA)
            next(stream)
            stream.close()
        assert client.ask(MESSAGES, schema=SCHEMA) == "one two"


def endless(beginning: str, piece: str) -> Answer:
    """A stream that never ends."""

    def answer(reply: Any) -> None:
        raw(EVENT % (DELTA % beginning))(reply)
        with suppress(OSError):
            while True:
                reply.sendall((EVENT % (DELTA % piece)).encode())

    return answer


def test_trailing_blanks_end_a_complete_answer() -> None:
    with fault_server.serve(endless('{\\"a\\": 1}', " " * 40)) as server:
        assert json.loads(ask(server.url)) == {"a": 1}


@pytest.mark.parametrize("end", [CUT_OFF, ""])
def test_a_complete_answer_is_used_however_its_stream_ends(end: str) -> None:
    answer = EVENT % (DELTA % '{\\"a\\": 1}') + EVENT % (DELTA % (r"\n" * 30)) + end
    with fault_server.serve(raw(answer)) as server:
        assert json.loads(ask(server.url)) == {"a": 1}


def test_blanks_within_an_answer_are_a_loop() -> None:
    answer = endless('{\\"a\\":', " " * 40)
    with fault_server.serve(answer) as server, pytest.raises(LlmLoopError, match="repeats"):
        ask(server.url)


def test_a_slow_stream_ends_at_the_timeout() -> None:
    def drip(reply: Any) -> None:
        raw(BEGINNING)(reply)
        with suppress(OSError):
            for _ in range(100):
                reply.sendall(b": still here\n\n")
                time.sleep(0.1)

    with fault_server.serve(drip) as server:
        started = time.monotonic()
        with pytest.raises(LlmUnavailableError, match=r"no whole answer from .* within 0\.5 s"):
            ask(server.url, timeout=0.5)
        assert time.monotonic() - started < 2.5


def test_a_rejected_key_names_the_setting() -> None:
    words = "CXR_RAG_LLM__API_KEY"
    with fault_server.serve(status(401)) as server, pytest.raises(LlmRejectedError, match=words):
        ask(server.url)
