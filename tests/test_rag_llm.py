"""The chat client against a fake server over HTTP."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import httpx
import pytest
from support import fake_llm
from support.fake_llm import FakeLlm

from rag.errors import LlmOutputError, LlmRejectedError, LlmUnavailableError
from rag.llm import connection
from rag.llm.client import ChatClient
from rag.llm.connection import client_with_deadline
from rag.settings import LlmSettings

SCHEMA = {"type": "object"}
MESSAGES = [("system", "be brief"), ("user", "hello")]


@pytest.fixture
def fake() -> Iterator[FakeLlm]:
    with fake_llm.serve() as server:
        yield server


def client(fake: FakeLlm) -> ChatClient:
    return ChatClient(LlmSettings(url=fake.url, model=fake_llm.MODEL, retries=0))


def test_the_stream_grows_to_the_complete_answer(fake: FakeLlm) -> None:
    fake.answers = ['{"heart": "H1"}']
    texts = list(client(fake).stream(MESSAGES, schema=SCHEMA))
    assert texts[0] == '{"heart": '
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    assert client(fake).ask(MESSAGES, schema=SCHEMA).strip() == '{"heart": "H1"}'


def test_request_is_deterministic_and_carries_the_schema(fake: FakeLlm) -> None:
    client(fake).ask(MESSAGES, schema={"type": "object", "title": "T"})
    request = fake.requests[0]
    assert request["temperature"] == 0
    assert request["seed"] == 0
    assert request["response_format"]["json_schema"]["schema"]["title"] == "T"
    assert [message["role"] for message in request["messages"]] == ["system", "user"]


def test_threads_share_one_client_that_can_be_closed(
    fake: FakeLlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def open_slowly(seconds: float) -> httpx.Client:
        time.sleep(0.1)
        opened.append(client_with_deadline(seconds))
        return opened[-1]

    monkeypatch.setattr(connection, "client_with_deadline", open_slowly)
    asked = client(fake)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: asked.ask(MESSAGES, schema=SCHEMA), range(4)))
    asked.close()
    assert [connection.is_closed for connection in opened] == [True]


def test_cut_off_and_empty_answers_are_output_errors(fake: FakeLlm) -> None:
    fake.finish_reason, fake.answers = "length", ['{"findings": [']
    with pytest.raises(LlmOutputError, match="cut off"):
        client(fake).ask(MESSAGES, schema=SCHEMA)
    fake.finish_reason, fake.answers = "stop", [""]
    with pytest.raises(LlmOutputError, match="nothing"):
        client(fake).ask(MESSAGES, schema=SCHEMA)


@pytest.mark.parametrize("status", [400, 404])
def test_error_statuses_are_rejections_that_name_the_status(fake: FakeLlm, status: int) -> None:
    fake.status = status
    with pytest.raises(LlmRejectedError, match=r"no model|answered"):
        client(fake).ask(MESSAGES, schema=SCHEMA)


def test_nothing_at_the_url_names_the_url_and_the_cure() -> None:
    nowhere = ChatClient(LlmSettings(url="http://127.0.0.1:9/v1", retries=0))
    with pytest.raises(LlmUnavailableError, match=r"127\.0\.0\.1:9/v1.*cxr-rag doctor"):
        nowhere.ask(MESSAGES, schema=SCHEMA)
