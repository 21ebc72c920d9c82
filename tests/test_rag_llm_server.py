"""Is a model server there, whose is it, and does it take our key? Over real HTTP."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rag.errors import LlmRejectedError, LlmUnavailableError, ServerError
from rag.llm.vllm_server import LlmServer, served_models
from rag.settings import LlmServerSettings, LlmSettings, Settings


@contextmanager
def server(status: int = 200, body: object = None, key: str = "") -> Iterator[str]:
    """Answers every GET so; with a key, 401 to who does not send it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("authorization", "")
            self.send_response(401 if key and asked != f"Bearer {key}" else status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: Any) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}/v1"
    finally:
        listening.shutdown()
        listening.server_close()


MODELS = {"data": [{"id": "m"}]}


def enter(url: str, folder: Path, **llm: Any) -> list[str]:
    """Ask for a server; what the user is told."""
    told: list[str] = []
    settings = Settings(home=folder, llm=LlmSettings(url=url, model="m", **llm))
    with LlmServer(settings, say=told.append):
        return told


def test_a_server_with_a_key_is_used(tmp_path: Path) -> None:
    with server(body=MODELS, key="k1") as url:
        assert "already answers" in enter(url, tmp_path, api_key="k1")[0]
        with pytest.raises(LlmRejectedError, match="CXR_RAG_LLM__API_KEY"):
            enter(url, tmp_path, api_key="another")


@pytest.mark.parametrize("body", [{"hello": "world"}, [1], None])
def test_another_web_server_is_told_from_a_model_server(tmp_path: Path, body: object) -> None:
    with server(body=body) as url, pytest.raises(LlmRejectedError, match="no OpenAI-compatible"):
        enter(url, tmp_path)


def test_a_url_without_v1_is_explained(tmp_path: Path) -> None:
    with server(status=404) as url, pytest.raises(LlmRejectedError, match="ends in /v1"):
        enter(url.removesuffix("/v1"), tmp_path)


def test_another_model_is_named(tmp_path: Path) -> None:
    body = {"data": [{"id": "other"}]}
    with server(body=body) as url, pytest.raises(ServerError, match="other"):
        enter(url, tmp_path)


def test_an_unreachable_machine_is_no_port_that_is_taken(tmp_path: Path) -> None:
    with pytest.raises(LlmUnavailableError, match=r"nothing answers at http://127\.1\.2\.3"):
        enter("http://127.1.2.3:9/v1", tmp_path)


def test_a_port_that_something_silent_holds_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        url = f"http://127.0.0.1:{port}/v1"
        assert served_models(LlmSettings(url=url), timeout=0.2) is None
        with pytest.raises(ServerError, match=f"port {port} is in use"):
            enter(url, tmp_path)


def test_without_a_model_nothing_is_asked_or_started(tmp_path: Path) -> None:
    nothing = LlmServerSettings(python=tmp_path / "none")
    assert enter("http://127.0.0.1:9/v1", tmp_path, enabled=False, server=nothing) == []
