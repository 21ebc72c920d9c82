"""A fake OpenAI-compatible server for unit tests: takes the first option wherever it may choose.

So its answers are valid whatever the evidence is, and the same for the same question. It can be
slow, busy, broken or away, for all questions or for some.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from support.fake_chat_server import MODEL, ChatHandler, listening

__all__ = ["MODEL", "ChoosingLlm", "serve"]


class ChoosingLlm:
    """What the server does, and what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.seconds = 0.0
        self.room = threading.Semaphore(10_000)
        self.status: Callable[[str], int] = lambda prompt: 200
        self.prompts: list[str] = []
        self.under_way = 0
        self.most = 0
        self.lock = threading.Lock()

    def answer(self, body: dict[str, Any]) -> str:
        schema = body["response_format"]["json_schema"]["schema"]
        return json.dumps({name: v["enum"][0] for name, v in schema["properties"].items()})


@contextmanager
def serve() -> Iterator[ChoosingLlm]:
    """A fake on a free loopback port for as long as the block runs."""
    fake = ChoosingLlm()

    class Handler(ChatHandler):
        protocol_version = "HTTP/1.0"

        def do_POST(self) -> None:
            body = self.question()
            prompt = json.dumps(body["messages"])
            with fake.lock:
                fake.prompts.append(prompt)
                fake.under_way += 1
                fake.most = max(fake.most, fake.under_way)
            try:
                status = fake.status(prompt)
                if status != 200:
                    self.refuse(status)
                    return
                with fake.room:
                    time.sleep(fake.seconds)
                self.stream([fake.answer(body)], "stop")
            finally:
                with fake.lock:
                    fake.under_way -= 1

        def handle(self) -> None:
            # askers are killed: that is what the tests are about
            with suppress(BrokenPipeError, ConnectionResetError):
                super().handle()

    with listening(Handler, daemon_threads=True) as fake.url:
        yield fake
