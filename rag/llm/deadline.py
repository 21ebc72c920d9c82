"""An HTTP client whose whole request has a time limit, not only each read of it."""

import time
from collections.abc import Iterator
from typing import cast

import httpx


def client_with_deadline(seconds: float) -> httpx.Client:
    """A client that gives up on an answer that is not whole after so many seconds.

    A server that sends a byte now and then would else never time out. The limit is looked at when
    something arrives; silence is ended by the timeout of a read, which is as long.
    """
    return httpx.Client(timeout=seconds, transport=_Deadline(httpx.HTTPTransport(), seconds))


class _Deadline(httpx.BaseTransport):
    def __init__(self, transport: httpx.BaseTransport, seconds: float) -> None:
        self._transport = transport
        self._seconds = seconds

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        until = time.monotonic() + self._seconds
        answer = self._transport.handle_request(request)
        stream = cast(httpx.SyncByteStream, answer.stream)
        return httpx.Response(
            answer.status_code,
            headers=answer.headers,
            stream=_Until(stream, until),
            extensions=answer.extensions,
        )

    def close(self) -> None:
        self._transport.close()


class _Until(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, until: float) -> None:
        self._stream = stream
        self._until = until

    def __iter__(self) -> Iterator[bytes]:
        for part in self._stream:
            if time.monotonic() > self._until:
                raise httpx.ReadTimeout("the answer was not whole in time")
            yield part

    def close(self) -> None:
        self._stream.close()
