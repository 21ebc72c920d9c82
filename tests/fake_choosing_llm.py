"""A fake OpenAI-compatible server for unit tests: takes the first option wherever it may choose.

So its answers are valid whatever the evidence is, and the same for the same question. It can be
slow, busy, broken or away, for all questions or for some.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "fake-model"


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

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self._send(200, {"data": [{"id": MODEL}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            prompt = json.dumps(body["messages"])
            with fake.lock:
                fake.prompts.append(prompt)
                fake.under_way += 1
                fake.most = max(fake.most, fake.under_way)
            try:
                status = fake.status(prompt)
                if status != 200:
                    self._send(status, {"error": {"message": "no", "code": status}})
                    return
                with fake.room:
                    time.sleep(fake.seconds)
                self._stream(fake.answer(body))
            finally:
                with fake.lock:
                    fake.under_way -= 1

        def _stream(self, answer: str) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            self._event({"content": answer}, None)
            self._event({}, "stop")
            self.wfile.write(b"data: [DONE]\n\n")

        def _event(self, delta: dict[str, str], finish_reason: str | None) -> None:
            choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
            event = {"id": "1", "object": "chat.completion.chunk", "model": MODEL, "created": 0}
            self.wfile.write(f"data: {json.dumps({**event, 'choices': [choice]})}\n\n".encode())

        def _send(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def handle(self) -> None:
            # askers are killed: that is what the tests are about
            with suppress(BrokenPipeError, ConnectionResetError):
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
