"""Towers of Hugging Face behind our signature: any vision model, BERT-like and CLIP-like texts.

Owns how each is built from its config, without weights, and which of its outputs is the image's or
text's one vector. The models' own code is untouched; eCLIP wraps them from outside. Weights come
with a model folder of ours, or from `encoders.hf_weights`.

A CLIP, SigLIP or VisionTextDualEncoder is two of these: `hugging_face_pair` takes its config apart.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from encoders.packaged_weights import EncoderError

IMAGE_SIZE = 224

_NOT_IN_AUTO_MODEL = {"siglip_text_model": "SiglipTextModel"}


class HuggingFaceVision(nn.Module):
    """Any vision model that ``AutoModel`` knows (ViT, Swin, ConvNeXt, CLIP's, SigLIP's, ...).

    Args:
        config: of the model, with its ``model_type``.
    """

    def __init__(self, *, config: dict[str, Any]) -> None:
        super().__init__()
        self.model = _hugging_face(config)
        side = getattr(self.model.config, "image_size", None) or IMAGE_SIZE
        self.width = checked_width(self, torch.zeros(1, 3, int(side), int(side)))

    def forward(self, pixels: Tensor) -> Tensor:
        """Images [N, 3, H, W] to pooled features [N, width]."""
        return pooled(self.model(pixel_values=pixels))

    def recompute_blocks(self) -> None:
        """From now on keep only the blocks' inputs for the backward pass."""
        _recompute_blocks(self.model)


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
        max_length: int = 128,
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
        self.width = checked_width(self, {"input_ids": some, "attention_mask": some})

    @cached_property
    def _tokenizer(self) -> Any:
        return self._fresh_tokenizer()

    def _fresh_tokenizer(self) -> Any:
        from transformers import AutoTokenizer  # noqa: PLC0415 - seconds to import

        try:
            return AutoTokenizer.from_pretrained(self._folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise EncoderError(f"no tokenizer in {self._folder}: {error}") from error

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
        return pooled(output)

    def recompute_blocks(self) -> None:
        """From now on keep only the blocks' inputs for the backward pass."""
        _recompute_blocks(self.model)

    def save_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer's files into a folder of their own."""
        self._fresh_tokenizer().save_pretrained(folder)  # one in use remembers its padding


def hugging_face_pair(
    config: dict[str, Any], *, tokenizer: str, max_length: int = 128
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Image and text tower settings of a model that has ``vision_config`` and ``text_config``.

    Raises:
        EncoderError: the config is of no such model.
    """
    try:
        vision, text = dict(config["vision_config"]), dict(config["text_config"])
    except KeyError as error:
        raise EncoderError(
            f"a config of type {config.get('model_type')!r} has no {error}; CLIP, SigLIP and "
            "VisionTextDualEncoder have both"
        ) from error
    own = str(config.get("model_type", ""))
    if own in {"clip", "siglip", "siglip2"}:
        vision["model_type"], text["model_type"] = f"{own}_vision_model", f"{own}_text_model"
    pooling = "cls" if own == "vision-text-dual-encoder" else "pooler"
    return {"kind": "hugging_face", "config": vision}, {
        "kind": "hugging_face",
        "config": text,
        "tokenizer": tokenizer,
        "max_length": max_length,
        "pooling": pooling,
    }


def pooled(output: Any) -> Tensor:
    """The one vector a row of a model's output [N, width].

    ``pooler_output`` where there is one. It may come as [N, width, 1, 1] (ResNet, ConvNeXt of some
    versions); a model without pooling gives [N, places, width], or [N, width, H, W].
    """
    found = getattr(output, "pooler_output", None)
    if found is not None:
        return torch.as_tensor(found).flatten(1)
    hidden: Tensor = output.last_hidden_state
    return hidden.mean(1) if hidden.ndim == 3 else hidden.mean((-2, -1))


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


def _recompute_blocks(model: Any) -> None:
    try:
        model.activation_checkpointing_enable()
    except ValueError as error:
        raise EncoderError(
            f"{type(model).__name__} cannot recompute its blocks; leave optim.recompute_blocks "
            "out, and lower optim.micro_batch instead"
        ) from error


@torch.no_grad()
def checked_width(tower: nn.Module, one: Any) -> int:
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
