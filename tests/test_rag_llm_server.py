"""Looking for a model server and starting vLLM; test_e2e_generate.py starts a real one."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rag.config_file import load_settings
from rag.errors import LlmRejectedError, LlmUnavailableError, ServerError
from rag.llm.vllm_server import LlmServer, served_models
from rag.processes import start_child
from rag.settings import LlmServerSettings, LlmSettings, Settings


@contextmanager
def server(status: int = 200, body: object = None, key: str = "") -> Iterator[str]:
    """Answers every GET with this; 401 without the key."""

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
    """Messages to the user while the server is looked for."""
    messages: list[str] = []
    settings = Settings(home=folder, llm=LlmSettings(url=url, model="m", **llm))
    with LlmServer(settings, say=messages.append):
        return messages


def test_a_server_with_a_key_is_used(tmp_path: Path) -> None:
    with server(body=MODELS, key="k1") as url:
        assert "already answers" in enter(url, tmp_path, api_key="k1")[0]
        with pytest.raises(LlmRejectedError, match="CXR_RAG_LLM__API_KEY"):
            enter(url, tmp_path, api_key="another")


@pytest.mark.parametrize("body", [{"hello": "world"}, [1], None])
def test_another_web_server_is_not_a_model_server(tmp_path: Path, body: object) -> None:
    with server(body=body) as url, pytest.raises(LlmRejectedError, match="no OpenAI-compatible"):
        enter(url, tmp_path)


def test_a_url_without_v1_is_explained(tmp_path: Path) -> None:
    with server(status=404) as url, pytest.raises(LlmRejectedError, match="ends in /v1"):
        enter(url.removesuffix("/v1"), tmp_path)


def test_another_model_is_named(tmp_path: Path) -> None:
    body = {"data": [{"id": "other"}]}
    with server(body=body) as url, pytest.raises(ServerError, match="other"):
        enter(url, tmp_path)


def test_an_unreachable_machine_is_not_a_taken_port(tmp_path: Path) -> None:
    with pytest.raises(LlmUnavailableError, match=r"nothing answers at http://127\.1\.2\.3"):
        enter("http://127.1.2.3:9/v1", tmp_path)


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        url = f"http://127.0.0.1:{port}/v1"
        assert served_models(LlmSettings(url=url), timeout=0.2) is None
        with pytest.raises(ServerError, match=f"port {port} is in use"):
            enter(url, tmp_path)


def test_without_a_model_no_server_is_started(tmp_path: Path) -> None:
    nothing = LlmServerSettings(python=tmp_path / "none")
    assert enter("http://127.0.0.1:9/v1", tmp_path, enabled=False, server=nothing) == []


def vllm_command(monkeypatch: pytest.MonkeyPatch, folder: Path, **server: Any) -> list[str]:
    """The command line of vLLM, which is not really started."""
    seen: list[str] = []

    def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        seen.extend(command)
        return start_child([sys.executable, "-c", ""], **options)

    monkeypatch.setattr("rag.llm.vllm_server.start_child", start)
    settings = load_settings("cpu")
    folder.mkdir()
    chosen = {"weights": str(folder), "python": Path(sys.executable), **server}
    llm = settings.llm.model_copy(
        update={
            "url": "http://127.0.0.1:1/v1",  # where nothing answers, and nothing may listen
            "server": settings.llm.server.model_copy(update=chosen),
        }
    )
    settings = settings.model_copy(update={"home": folder / "home", "llm": llm})
    monkeypatch.setattr("rag.llm.vllm_server.port_is_free", lambda *_: True)
    with LlmServer(settings, say=lambda _: None):
        pass
    return seen


@pytest.mark.parametrize(("native", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_the_cpu_dtype_is_bfloat16_only_where_it_is_native(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, native: bool, dtype: str
) -> None:
    monkeypatch.setattr("encoders.machine.supports_bfloat16", lambda **_: native)
    command = vllm_command(monkeypatch, tmp_path / "weights")
    assert command[command.index("--dtype") + 1] == dtype
    assert "--enforce-eager" in command


def test_a_configured_dtype_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command = vllm_command(monkeypatch, tmp_path / "weights", dtype="float16")
    assert command[command.index("--dtype") + 1] == "float16"
