"""A model's folder: config.json, model.safetensors, preprocessor_config.json, image.onnx.

Owns its layout, strict loading and the content hash in the encoder id. Only safetensors is read: a
pickle can run code.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from encoders.eclip.model import EclipConfig, EclipModel
from encoders.packaged_weights import EncoderError, file_sha256, read_json
from encoders.preprocess import EvalTransform
from encoders.towers.hugging_face import HuggingFaceText

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
GRAPH = "image.onnx"
TOKENIZER = "tokenizer"
"""Folder of a foreign text tower's tokenizer; our own comes from its package."""


def save_pretrained(folder: Path, *, model: EclipModel, transform: EvalTransform) -> None:
    """Write the three files of a model; the folder is made. A graph of weights before goes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / GRAPH).unlink(missing_ok=True)
    config = model.config.to_json()
    if isinstance(model.text_tower, HuggingFaceText):
        model.text_tower.save_tokenizer(folder / TOKENIZER)
        config["text_tower"]["tokenizer"] = TOKENIZER
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    transform.save_pretrained(folder)
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)  # safetensors makes it private to its writer


def load_pretrained(folder: Path) -> tuple[EclipModel, EvalTransform]:
    """The model in evaluation mode and its transform.

    Raises:
        EncoderError: a file is missing or damaged, or the weights are of another model.
    """
    config = EclipConfig.from_json(read_json(folder / CONFIG))
    if config.text_tower.get("tokenizer") == TOKENIZER:
        here = {"tokenizer": str(folder / TOKENIZER)}
        config = replace(config, text_tower=config.text_tower | here)
    transform = EvalTransform.from_pretrained(folder)
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
    """First 12 digits of the sha256 over configuration, weights and tokenizer, if one is there."""
    names = (folder / CONFIG, folder / WEIGHTS, *sorted((folder / TOKENIZER).glob("*")))
    parts = [file_sha256(path) for path in names]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:12]
