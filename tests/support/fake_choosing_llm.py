"""A fake OpenAI-compatible server for unit tests that always chooses the first option.

Its answers are valid for any evidence, and deterministic. It can be slow, busy or broken.
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
    """How the server behaves, and what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.delay_s = 0.0
        self.status: Callable[[str], int] = lambda prompt: 200
        self.prompts: list[str] = []
        self.active = 0
        self.max_active = 0
        self.lock = threading.Lock()

    def answer(self, body: dict[str, Any]) -> str:
        schema = body["response_format"]["json_schema"]["schema"]
        return json.dumps({name: v["enum"][0] for name, v in schema["properties"].items()})


@contextmanager
def serve() -> Iterator[ChoosingLlm]:
    """Serve on a free loopback port."""
    fake = ChoosingLlm()

    class Handler(ChatHandler):
        protocol_version = "HTTP/1.0"

        def do_POST(self) -> None:
            body = self.read_body()
            prompt = json.dumps(body["messages"])
            with fake.lock:
                fake.prompts.append(prompt)
                fake.active += 1
                fake.max_active = max(fake.max_active, fake.active)
            try:
                status = fake.status(prompt)
                if status != 200:
                    self.refuse(status)
                    return
                time.sleep(fake.delay_s)
                self.stream([fake.answer(body)], "stop")
            finally:
                with fake.lock:
                    fake.active -= 1

        def handle(self) -> None:
            # the tests kill clients
            with suppress(BrokenPipeError, ConnectionResetError):
                super().handle()

    with listening(Handler, daemon_threads=True) as fake.url:
        yield fake
