"""A misbehaving server: one raw answer per connection, in order."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

EVENT = (
    'data: {"id":"1","object":"chat.completion.chunk","created":0,"model":"m","choices":[%s]}\n\n'
)
DELTA = '{"index":0,"delta":{"content":"%s"},"finish_reason":null}'
STOP = '{"index":0,"delta":{},"finish_reason":"stop"}'
STREAM = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"

Answer = Callable[[socket.socket], None]


def good(text: str) -> Answer:
    """A complete, well-formed stream."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return _send(STREAM + EVENT % (DELTA % escaped) + EVENT % STOP + "data: [DONE]\n\n")


def status(code: int, *headers: str) -> Answer:
    """An error status with a JSON body."""
    body = '{"error": {"message": "said no"}}'
    lines = [f"HTTP/1.1 {code} X", f"content-length: {len(body)}", "connection: close", *headers]
    return _send("\r\n".join([*lines, "content-type: application/json", "", body]))


def raw(data: str | bytes) -> Answer:
    """These bytes as the body of a stream, then end of connection."""
    return _send(STREAM.encode() + (data.encode() if isinstance(data, str) else data))


def reset_after(data: str) -> Answer:
    """The beginning of a stream, then a TCP reset."""

    def answer(connection: socket.socket) -> None:
        connection.sendall((STREAM + data).encode())
        time.sleep(0.2)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return answer


def silent(seconds: float) -> Answer:
    """Accepts a request and sends nothing."""
    return lambda _: time.sleep(seconds)


def _send(data: str | bytes) -> Answer:
    return lambda connection: connection.sendall(data.encode() if isinstance(data, str) else data)


@dataclass
class FaultServer:
    """Answers in order, repeating the last; records the times of requests."""

    url: str
    answers: list[Answer]
    times: list[float] = field(default_factory=list)


@contextmanager
def serve(*answers: Answer) -> Iterator[FaultServer]:
    """Serve on a free loopback port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = FaultServer(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", list(answers))

    def loop() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                _read_request(connection)
                server.times.append(time.monotonic())
                answer = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
                with suppress(OSError):
                    answer(connection)

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _read_request(connection: socket.socket) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length")
    )
    while len(body) < length:
        body += connection.recv(65536)
