"""Towers of other libraries behind our signature: Hugging Face, timm, open_clip.

Owns how each is built from plain settings, without weights, and which of its outputs is the film's
or text's one vector. The models' own code is untouched; eCLIP wraps them from outside. Weights come
with a model folder of ours, or from `encoders.training.start`.

A CLIP, SigLIP or VisionTextDualEncoder is two of these: `hugging_face_pair` takes its config apart.
"""

from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from encoders.parts import EncoderError

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
        self.width = _checked_width(self, torch.zeros(1, 3, int(side), int(side)))

    def forward(self, pixels: Tensor) -> Tensor:
        """Films [N, 3, H, W] to pooled features [N, width]."""
        return pooled(self.model(pixel_values=pixels))


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
        self.width = _checked_width(self, {"input_ids": some, "attention_mask": some})

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer  # noqa: PLC0415 - seconds to import

        return AutoTokenizer.from_pretrained(self._folder, local_files_only=True)

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


class TimmVision(nn.Module):
    """Any timm backbone, pooled and without its classifier.

    Args:
        name: in timm, e.g. ``swin_tiny_patch4_window7_224``.
        image_size: side of the films.
        options: further arguments of ``timm.create_model``.
    """

    def __init__(
        self, *, name: str, image_size: int = IMAGE_SIZE, options: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        timm = _optional("timm", "timm")
        self.model = timm.create_model(name, pretrained=False, num_classes=0, **(options or {}))
        self.width = _checked_width(self, torch.zeros(1, 3, image_size, image_size))

    def forward(self, pixels: Tensor) -> Tensor:
        """Films [N, 3, H, W] to pooled features [N, width]."""
        features: Tensor = self.model(pixels)
        return features


class OpenClipVision(nn.Module):
    """The image tower of an open_clip model, with its own projection if it has one.

    Args:
        embed_dim: of the open_clip model.
        vision: its ``vision_cfg``.
    """

    def __init__(self, *, embed_dim: int, vision: dict[str, Any]) -> None:
        super().__init__()
        text = {"width": 8, "heads": 1, "layers": 1, "vocab_size": 8, "context_length": 8}
        library = _optional("open_clip", "open_clip_torch")
        self.model = library.CustomTextCLIP(embed_dim, vision_cfg=vision, text_cfg=text).visual
        side = int(vision.get("image_size", IMAGE_SIZE))
        self.width = _checked_width(self, torch.zeros(1, 3, side, side))

    def forward(self, pixels: Tensor) -> Tensor:
        """Films [N, 3, H, W] to features [N, width]."""
        features: Tensor = self.model(pixels)
        return features


class OpenClipText(nn.Module):
    """The text tower of an open_clip model, with its byte-pair vocabulary.

    Args:
        embed_dim: of the open_clip model.
        text: its ``text_cfg``.
    """

    def __init__(self, *, embed_dim: int, text: dict[str, Any]) -> None:
        super().__init__()
        self._library = _optional("open_clip", "open_clip_torch")
        vision = {"layers": 1, "width": 64, "patch_size": 8, "image_size": 8}
        whole = self._library.CustomTextCLIP(embed_dim, vision_cfg=vision, text_cfg=text)
        self.model = whole.text
        self.length = int(text.get("context_length", 77))
        self.width = embed_dim

    def prepare(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Piece numbers int64 [N, context length]."""
        tokenizer = self._library.SimpleTokenizer(context_length=self.length)
        return {"input_ids": tokenizer(list(texts))}

    def forward(self, prepared: dict[str, Tensor]) -> Tensor:
        """Features [N, embed_dim]."""
        features: Tensor = self.model(prepared["input_ids"])
        return features


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


def _optional(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise EncoderError(f"towers of {package} need it: pip install {package}") from error
