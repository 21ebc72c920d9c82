"""Towers of timm and open_clip behind our signature.

Owns how each is built from plain settings, without weights. Both libraries are optional and only
imported when a tower of theirs is built; their own code is untouched.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from encoders.packaged_weights import EncoderError
from encoders.towers.hugging_face import IMAGE_SIZE, checked_width


class TimmVision(nn.Module):
    """Any timm backbone, pooled and without its classifier.

    Args:
        name: in timm, e.g. ``swin_tiny_patch4_window7_224``.
        image_size: side of the images.
        options: further arguments of ``timm.create_model``.
    """

    def __init__(
        self, *, name: str, image_size: int = IMAGE_SIZE, options: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        timm = _optional("timm", "timm")
        self.model = timm.create_model(name, pretrained=False, num_classes=0, **(options or {}))
        self.width = checked_width(self, torch.zeros(1, 3, image_size, image_size))

    def forward(self, pixels: Tensor) -> Tensor:
        """Images [N, 3, H, W] to pooled features [N, width]."""
        features: Tensor = self.model(pixels)
        return features

    def recompute_blocks(self) -> None:
        """From now on keep only the blocks' inputs for the backward pass."""
        self.model.set_grad_checkpointing()


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
        self.width = checked_width(self, torch.zeros(1, 3, side, side))

    def forward(self, pixels: Tensor) -> Tensor:
        """Images [N, 3, H, W] to features [N, width]."""
        features: Tensor = self.model(pixels)
        return features

    def recompute_blocks(self) -> None:
        """From now on keep only the blocks' inputs for the backward pass."""
        self.model.set_grad_checkpointing()


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


def _optional(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise EncoderError(f"towers of {package} need it: pip install {package}") from error
