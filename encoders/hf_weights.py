"""Towers and weights of a Hugging Face model that lies in a local folder.

Owns how the folder of a ViT, Swin, BERT, CLIP, SigLIP or VisionTextDualEncoder becomes the settings
of one of our towers, and how its weights get there. Nothing is downloaded.
"""

import logging
from pathlib import Path
from typing import Any, Literal

from torch import nn

from encoders.packaged_weights import EncoderError, read_json
from encoders.towers.hugging_face import hugging_face_pair

_log = logging.getLogger(__name__)

Role = Literal["image", "text"]

_PAIR = "vision-text-dual-encoder"


def published_tower(folder: Path, *, role: Role, max_length: int = 128) -> dict[str, Any]:
    """Settings of `encoders.towers.base` for a model folder; a text tower's has its tokenizer too.

    Raises:
        EncoderError: the folder has no config.json.
    """
    config = read_json(folder / "config.json")
    if "vision_config" in config:
        image, text = hugging_face_pair(config, tokenizer=str(folder), max_length=max_length)
        return image if role == "image" else text
    if role == "image":
        return {"kind": "hugging_face", "config": config}
    return {
        "kind": "hugging_face",
        "config": config,
        "tokenizer": str(folder),
        "max_length": max_length,
    }


def load_published(tower: nn.Module, folder: Path, *, role: Role) -> None:
    """Fill a tower that `published_tower` described with the folder's weights, in place.

    Raises:
        EncoderError: the folder cannot be read, or does not hold all weights of the tower. A
            pooler is not asked for where the tower does not use it.
    """
    import transformers  # noqa: PLC0415 - seconds to import

    model: Any = tower.model
    kind = read_json(folder / "config.json").get("model_type")
    source: Any = transformers.VisionTextDualEncoderModel if kind == _PAIR else type(model)
    settings = {} if kind == _PAIR else {"config": model.config}
    try:
        found, report = source.from_pretrained(
            folder, **settings, local_files_only=True, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise EncoderError(f"cannot read the weights in {folder}: {error}") from error
    part = found
    if kind == _PAIR:
        part = found.vision_model if role == "image" else found.text_model
    unused = "pooler." if getattr(tower, "pooling", "pooler") == "cls" else None
    missing = [key for key in report["missing_keys"] if unused is None or unused not in key]
    if missing:
        raise EncoderError(
            f"{folder} lacks {len(missing)} weights of the {role} tower, {sorted(missing)[0]} "
            "first; is it a model of this kind, with its weights?"
        )
    model.load_state_dict(part.state_dict())
    _log.info("%s tower from %s", role, folder.name)
