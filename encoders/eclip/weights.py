"""A model on disk: config.json, model.safetensors, preprocessor_config.json, README.md; image.onnx.

Owns the folder's layout, strict loading and the content hash in the encoder id. Only safetensors
is read: a pickle can run code.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from encoders.eclip.model import EclipConfig, EclipModel
from encoders.parts import EncoderError, file_sha256
from encoders.preprocess import EvalTransform

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
TRANSFORM = "preprocessor_config.json"
GRAPH = "image.onnx"

SHIPPED = Path(__file__).parent / "weights" / "eclip-lite0"


def save_pretrained(folder: Path, *, model: EclipModel, transform: EvalTransform) -> None:
    """Write the three files of a model; the folder is made. A graph of weights before goes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / GRAPH).unlink(missing_ok=True)
    _write_json(folder / CONFIG, model.config.to_json())
    _write_json(folder / TRANSFORM, transform.to_json())
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)  # safetensors makes it private to its writer


def load_pretrained(folder: Path) -> tuple[EclipModel, EvalTransform]:
    """The model in evaluation mode and its transform.

    Raises:
        EncoderError: a file is missing or damaged, or the weights are of another model.
    """
    config = EclipConfig.from_json(_read_json(folder / CONFIG))
    transform = EvalTransform.from_json(_read_json(folder / TRANSFORM))
    model = EclipModel(config)
    path = folder / WEIGHTS
    try:
        model.load_state_dict(load_file(path), strict=True)
    except (OSError, SafetensorError) as error:
        raise EncoderError(f"cannot read {path}: {error}; restore it from the release") from error
    except RuntimeError as error:
        raise EncoderError(f"{path} does not fit {CONFIG}: {error}") from error
    return model.eval().requires_grad_(False), transform


def content_hash(folder: Path) -> str:
    """First 12 digits of the sha256 over the configuration and the weights."""
    parts = [file_sha256(folder / name) for name in (CONFIG, WEIGHTS)]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:12]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(f"cannot read {path}: {error}; restore it from the release") from error
    if not isinstance(settings, dict):
        raise EncoderError(f"{path} holds {type(settings).__name__}, expected an object")
    return settings


def _write_json(path: Path, settings: dict[str, Any]) -> None:
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
