"""A fake OpenAI-compatible server for unit tests: real HTTP, canned answers, no model.

It streams an answer word by word, as vLLM does, and records the requests.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support.fake_chat_server import MODEL, ChatHandler, listening

__all__ = ["MODEL", "FakeLlm", "serve"]


class FakeLlm:
    """Answers queued by a test, one per request; the last is repeated."""

    def __init__(self) -> None:
        self.answers: list[str] = ["{}"]
        self.finish_reason = "stop"
        self.status = 200
        self.requests: list[dict[str, Any]] = []
        self.url = ""

    def next_answer(self) -> str:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def serve() -> Iterator[FakeLlm]:
    """Serve on a free loopback port."""
    fake = FakeLlm()

    class Handler(ChatHandler):
        def do_POST(self) -> None:
            fake.requests.append(self.read_body())
            if fake.status != 200:
                self.refuse(fake.status)
                return
            pieces = [piece + " " for piece in fake.next_answer().split(" ")]
            self.stream(pieces, fake.finish_reason)

    with listening(Handler) as fake.url:
        yield fake
