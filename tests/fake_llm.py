"""A fake OpenAI-compatible server for unit tests: real HTTP, canned answers, no model.

It streams the text it was given word by word, as vLLM would, and keeps the requests it got.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "fake-model"


class FakeLlm:
    """Answers queued by the test, one a request; the last one is repeated."""

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
    """A fake on a free loopback port for as long as the block runs."""
    fake = FakeLlm()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self._send(200, {"data": [{"id": MODEL}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            fake.requests.append(body)
            if fake.status != 200:
                self._send(fake.status, {"error": {"message": "no", "code": fake.status}})
                return
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            for piece in fake.next_answer().split(" "):
                self._event({"content": piece + " "}, None)
            self._event({}, fake.finish_reason)
            self.wfile.write(b"data: [DONE]\n\n")

        def _event(self, delta: dict[str, str], finish_reason: str | None) -> None:
            choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
            event = {"id": "1", "object": "chat.completion.chunk", "model": MODEL, "created": 0}
            self.wfile.write(f"data: {json.dumps({**event, 'choices': [choice]})}\n\n".encode())
            self.wfile.flush()

        def _send(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
