"""Towers of Hugging Face behind our signature: any vision model, BERT-like and CLIP-like texts.

A published model in a local folder (ViT, Swin, BERT; CLIP, SigLIP, VisionTextDualEncoder, which are
two towers) becomes settings and weights of ours. Nothing is downloaded.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from encoders.packaged_weights import EncoderError, read_json

IMAGE_SIZE, MAX_LENGTH = 224, 128

Role = Literal["image", "text"]

_DUAL = "vision-text-dual-encoder"
_NOT_IN_AUTO_MODEL = {"siglip_text_model": "SiglipTextModel"}


class HuggingFaceVision(nn.Module):
    """Any vision model that ``AutoModel`` knows (ViT, Swin, ConvNeXt, CLIP's, SigLIP's, ...)."""

    def __init__(self, *, config: dict[str, Any]) -> None:
        super().__init__()
        self.model = _hugging_face(config)
        side = getattr(self.model.config, "image_size", None) or IMAGE_SIZE
        self.width = _checked_width(self, torch.zeros(1, 3, int(side), int(side)))

    def forward(self, pixels: Tensor) -> Tensor:
        """Images [N, 3, H, W] to pooled features [N, width]."""
        return pooled_output(self.model(pixel_values=pixels))


class HuggingFaceText(nn.Module):
    """Any BERT-like text model, or CLIP's or SigLIP's, with its own tokenizer.

    Args:
        config: of the model, with its ``model_type``.
        tokenizer: a folder with the tokenizer's files.
        max_length: pieces; what is longer is cut.
        pooling: ``cls``, the first piece, as in eCLIP; ``pooler``, what the model itself calls its
            pooled output (CLIP's end-of-text piece).
    """

    def __init__(
        self,
        *,
        config: dict[str, Any],
        tokenizer: str,
        max_length: int = MAX_LENGTH,
        pooling: str = "cls",
    ) -> None:
        super().__init__()
        if pooling not in {"cls", "pooler"}:
            raise EncoderError(f"no pooling {pooling!r}; there are cls and pooler")
        self.model = _hugging_face(config)
        self.max_length = max_length
        self.pooling = pooling
        self._folder = tokenizer
        some = torch.ones(1, max_length, dtype=torch.long)
        self.width = _checked_width(self, {"input_ids": some, "attention_mask": some})

    @cached_property
    def _tokenizer(self) -> Any:
        return _load_tokenizer(self._folder)

    def prepare(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Piece numbers and mask, int64 [N, max_length]: the same for a text in any company."""
        pieces = self._tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=self.max_length,
            return_tensors="pt",
            return_attention_mask=True,
        )
        return {name: pieces[name] for name in ("input_ids", "attention_mask")}

    def forward(self, prepared: dict[str, Tensor]) -> Tensor:
        """Features [N, width]."""
        output = self.model(**prepared)
        if self.pooling == "cls":
            features: Tensor = output.last_hidden_state[:, 0]
            return features
        return pooled_output(output)

    def save_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer's files into a folder of their own."""
        _load_tokenizer(self._folder).save_pretrained(folder)  # one in use remembers its padding


def pretrained_tower_settings(folder: Path, *, role: Role) -> dict[str, Any]:
    """Settings of `encoders.towers.base` for the tower of a published model in a local folder.

    Raises:
        EncoderError: the folder has no config.json.
    """
    config = read_json(folder / "config.json")
    part = "vision" if role == "image" else "text"
    kind, is_pair = config.get("model_type"), f"{part}_config" in config
    if is_pair:
        config = dict(config[f"{part}_config"])
        if kind != _DUAL:
            config["model_type"] = f"{kind}_{part}_model"
    tower = {"kind": "hugging_face", "config": config}
    if role == "image":
        return tower
    pooling = "pooler" if is_pair and kind != _DUAL else "cls"
    return tower | {"tokenizer": str(folder), "max_length": MAX_LENGTH, "pooling": pooling}


def load_pretrained_tower(tower: nn.Module, folder: Path, *, role: Role) -> None:
    """Fill a tower that `pretrained_tower_settings` described with the folder's weights, in place.

    Raises:
        EncoderError: the folder cannot be read, or does not hold all weights of the tower. A
            pooler is not asked for where the tower does not use it.
    """
    import transformers  # noqa: PLC0415 - seconds to import

    model: Any = tower.model
    dual = read_json(folder / "config.json").get("model_type") == _DUAL
    source: Any = transformers.VisionTextDualEncoderModel if dual else type(model)
    settings = {} if dual else {"config": model.config}
    try:
        found, report = source.from_pretrained(
            folder, **settings, local_files_only=True, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise EncoderError(f"cannot read the weights in {folder}: {error}") from error
    if dual:
        found = found.vision_model if role == "image" else found.text_model
    pooler_unused = getattr(tower, "pooling", "pooler") == "cls"
    missing = [key for key in report["missing_keys"] if not (pooler_unused and "pooler." in key)]
    if missing:
        raise EncoderError(
            f"{folder} lacks {len(missing)} weights of the {role} tower, {sorted(missing)[0]} "
            "first; is it a model of this kind, with its weights?"
        )
    model.load_state_dict(found.state_dict())


def pooled_output(output: Any) -> Tensor:
    """The one vector a row of a model's output [N, width].

    ``pooler_output`` where there is one. It may come as [N, width, 1, 1] (ResNet, ConvNeXt of some
    versions); a model without pooling gives [N, places, width], or [N, width, H, W].
    """
    found = getattr(output, "pooler_output", None)
    if found is not None:
        return torch.as_tensor(found).flatten(1)
    hidden: Tensor = output.last_hidden_state
    return hidden.mean(1) if hidden.ndim == 3 else hidden.mean((-2, -1))


def _load_tokenizer(folder: str) -> Any:
    from transformers import AutoTokenizer  # noqa: PLC0415 - seconds to import

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise EncoderError(f"no tokenizer in {folder}: {error}") from error


def _hugging_face(config: dict[str, Any]) -> Any:
    import transformers  # noqa: PLC0415 - seconds to import

    values = dict(config)
    kind = values.pop("model_type", None)
    try:
        settings = transformers.AutoConfig.for_model(kind, **values)
        if kind in _NOT_IN_AUTO_MODEL:
            return getattr(transformers, _NOT_IN_AUTO_MODEL[kind])(settings)
        return transformers.AutoModel.from_config(settings)  # type: ignore[no-untyped-call]
    except (ValueError, KeyError, TypeError) as error:
        raise EncoderError(f"no Hugging Face model of type {kind!r} with {values}") from error


@torch.no_grad()
def _checked_width(tower: nn.Module, one: Any) -> int:
    """What really comes out: attributes called num_features or hidden_size differ by family."""
    was_training = tower.training
    tower.eval()
    shape = tower(one).shape
    tower.train(was_training)
    if len(shape) != 2:
        raise EncoderError(
            f"{type(tower).__name__} gives {list(shape)} for one, expected [1, width]"
        )
    return int(shape[1])
