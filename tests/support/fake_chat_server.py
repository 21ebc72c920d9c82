"""Base of the fake OpenAI-compatible servers: HTTP on a free loopback port, no model."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "fake-model"


class ChatHandler(BaseHTTPRequestHandler):
    """Lists one model; subclasses answer requests."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.send(200, {"data": [{"id": MODEL}]})

    def read_body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["content-length"])))
        return body

    def stream(self, pieces: list[str], finish_reason: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for piece in pieces:
            self._event({"content": piece}, None)
        self._event({}, finish_reason)
        self.wfile.write(b"data: [DONE]\n\n")

    def refuse(self, status: int) -> None:
        self.send(status, {"error": {"message": "no", "code": status}})

    def send(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _event(self, delta: dict[str, str], finish_reason: str | None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        event = {"id": "1", "object": "chat.completion.chunk", "model": MODEL, "created": 0}
        self.wfile.write(f"data: {json.dumps({**event, 'choices': [choice]})}\n\n".encode())
        self.wfile.flush()


@contextmanager
def listening(handler: type[ChatHandler], *, daemon_threads: bool = False) -> Iterator[str]:
    """Serve; yields the base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = daemon_threads
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
