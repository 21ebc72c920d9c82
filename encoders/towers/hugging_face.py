"""Hugging Face models as towers: vision models, and BERT-, CLIP- or SigLIP-like text models.

Published models in local folders (ViT, Swin, BERT; CLIP, SigLIP and VisionTextDualEncoder, which
hold two towers) become tower settings and weights. Nothing is downloaded.
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

_DUAL_ENCODER = "vision-text-dual-encoder"
_MISSING_FROM_AUTO_MODEL = {"siglip_text_model": "SiglipTextModel"}


class HuggingFaceVision(nn.Module):
    """Any vision model of ``AutoModel`` (ViT, Swin, ConvNeXt, CLIP's, SigLIP's, ...)."""

    def __init__(self, *, config: dict[str, Any]) -> None:
        super().__init__()
        self.model = _build_model(config)
        side = getattr(self.model.config, "image_size", None) or IMAGE_SIZE
        self.width = _output_width(self, torch.zeros(1, 3, int(side), int(side)))

    def forward(self, pixels: Tensor) -> Tensor:
        """Images [N, 3, H, W] to pooled features [N, width]."""
        return pooled_output(self.model(pixel_values=pixels))


class HuggingFaceText(nn.Module):
    """Any BERT-like text model, or CLIP's or SigLIP's, with its own tokenizer.

    Args:
        config: of the model, with its ``model_type``.
        tokenizer: folder of the tokenizer.
        max_length: in tokens; longer texts are truncated.
        pooling: ``cls``, the first token, as in eCLIP; ``pooler``, the model's own pooled output
            (CLIP's end-of-text token).
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
        self.model = _build_model(config)
        self.max_length = max_length
        self.pooling = pooling
        self._folder = tokenizer
        tokens = torch.ones(1, max_length, dtype=torch.long)
        self.width = _output_width(self, {"input_ids": tokens, "attention_mask": tokens})

    @cached_property
    def _tokenizer(self) -> Any:
        return _load_tokenizer(self._folder)

    def prepare(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Token ids and attention mask, int64 [N, max_length]."""
        tokens = self._tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=self.max_length,
            return_tensors="pt",
            return_attention_mask=True,
        )
        return {name: tokens[name] for name in ("input_ids", "attention_mask")}

    def forward(self, prepared: dict[str, Tensor]) -> Tensor:
        """Features [N, width]."""
        output = self.model(**prepared)
        if self.pooling == "cls":
            features: Tensor = output.last_hidden_state[:, 0]
            return features
        return pooled_output(output)

    def save_tokenizer(self, folder: Path) -> None:
        """Save the tokenizer to a folder."""
        _load_tokenizer(self._folder).save_pretrained(folder)  # a used one would save its padding


def pretrained_tower_settings(folder: Path, *, role: Role) -> dict[str, Any]:
    """Tower settings (`encoders.towers.base`) for a published model in a local folder.

    Raises:
        EncoderError: the folder has no config.json.
    """
    config = read_json(folder / "config.json")
    part = "vision" if role == "image" else "text"
    model_type, has_two_towers = config.get("model_type"), f"{part}_config" in config
    if has_two_towers:
        config = dict(config[f"{part}_config"])
        if model_type != _DUAL_ENCODER:
            config["model_type"] = f"{model_type}_{part}_model"
    tower = {"kind": "hugging_face", "config": config}
    if role == "image":
        return tower
    pooling = "pooler" if has_two_towers and model_type != _DUAL_ENCODER else "cls"
    return tower | {"tokenizer": str(folder), "max_length": MAX_LENGTH, "pooling": pooling}


def load_pretrained_tower(tower: nn.Module, folder: Path, *, role: Role) -> None:
    """Load a published model's weights into a tower made by `pretrained_tower_settings`.

    Raises:
        EncoderError: the folder cannot be read or lacks weights; an unused pooler may be missing.
    """
    import transformers  # noqa: PLC0415 - seconds to import

    model: Any = tower.model
    is_dual = read_json(folder / "config.json").get("model_type") == _DUAL_ENCODER
    source: Any = transformers.VisionTextDualEncoderModel if is_dual else type(model)
    settings = {} if is_dual else {"config": model.config}
    try:
        published, info = source.from_pretrained(
            folder, **settings, local_files_only=True, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise EncoderError(f"cannot read the weights in {folder}: {error}") from error
    if is_dual:
        published = published.vision_model if role == "image" else published.text_model
    pooler_unused = getattr(tower, "pooling", "pooler") == "cls"
    missing = [key for key in info["missing_keys"] if not (pooler_unused and "pooler." in key)]
    if missing:
        raise EncoderError(
            f"{folder} lacks {len(missing)} weights of the {role} tower, {sorted(missing)[0]} "
            "first; is it a model of this kind, with its weights?"
        )
    model.load_state_dict(published.state_dict())


def pooled_output(output: Any) -> Tensor:
    """One vector per row of a model's output: [N, width].

    ``pooler_output`` if there is one; ResNet and some versions of ConvNeXt give it as
    [N, width, 1, 1]. Otherwise the mean of hidden states [N, tokens, width] or [N, width, H, W].
    """
    vectors = getattr(output, "pooler_output", None)
    if vectors is not None:
        return torch.as_tensor(vectors).flatten(1)
    hidden: Tensor = output.last_hidden_state
    return hidden.mean(1) if hidden.ndim == 3 else hidden.mean((-2, -1))


def _load_tokenizer(folder: str) -> Any:
    from transformers import AutoTokenizer  # noqa: PLC0415 - seconds to import

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise EncoderError(f"no tokenizer in {folder}: {error}") from error


def _build_model(config: dict[str, Any]) -> Any:
    import transformers  # noqa: PLC0415 - seconds to import

    values = dict(config)
    model_type = values.pop("model_type", None)
    try:
        settings = transformers.AutoConfig.for_model(model_type, **values)
        if model_type in _MISSING_FROM_AUTO_MODEL:
            return getattr(transformers, _MISSING_FROM_AUTO_MODEL[model_type])(settings)
        return transformers.AutoModel.from_config(settings)  # type: ignore[no-untyped-call]
    except (ValueError, KeyError, TypeError) as error:
        raise EncoderError(f"no Hugging Face model of type {model_type!r} with {values}") from error


@torch.no_grad()
def _output_width(tower: nn.Module, example: Any) -> int:
    """The width of a tower's output, by trying: its name in the config differs by family."""
    was_training = tower.training
    tower.eval()
    shape = tower(example).shape
    tower.train(was_training)
    if len(shape) != 2:
        raise EncoderError(f"{type(tower).__name__} gives {list(shape)}, expected [1, width]")
    return int(shape[1])
