"""What the demo's vLLM is started with; the server itself is real in test_e2e_generate.py."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rag.config_file import load_settings
from rag.llm.vllm_server import LlmServer
from rag.processes import start_child


def started(monkeypatch: pytest.MonkeyPatch, folder: Path, **server: Any) -> list[str]:
    """The command line of a server that is not really started."""
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
def test_a_processor_that_imitates_bfloat16_gets_float32(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, native: bool, dtype: str
) -> None:
    monkeypatch.setattr("encoders.machine.supports_bfloat16", lambda **_: native)
    command = started(monkeypatch, tmp_path / "weights")
    assert command[command.index("--dtype") + 1] == dtype
    assert "--enforce-eager" in command


def test_a_dtype_that_was_asked_for_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command = started(monkeypatch, tmp_path / "weights", dtype="float16")
    assert command[command.index("--dtype") + 1] == "float16"
