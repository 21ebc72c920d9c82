"""Towers: images to features, and texts to features; chosen by ``kind`` in a table."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Protocol

from torch import Tensor, nn

from encoders.packaged_weights import EncoderError
from encoders.towers.efficientnet_lite import EfficientNetLite
from encoders.towers.hugging_face import HuggingFaceText, HuggingFaceVision
from encoders.towers.sentence_set import SentenceSet

PreparedTexts = dict[str, Tensor]
"""Input of a text tower: tensors with one row per text."""


class ImageTower(Protocol):
    """Images to features. An ``nn.Module`` with a ``width``."""

    width: int

    def __call__(self, pixels: Tensor) -> Tensor:
        """Normalised images float32 [N, channels, H, W] to features [N, width]."""


class TextTower(Protocol):
    """Texts to features in two steps. An ``nn.Module`` with a ``width``.

    `prepare` does not depend on trained weights (it tokenizes; ours runs a frozen language model),
    so that its result may be cached.
    """

    width: int

    def prepare(self, texts: Sequence[str]) -> PreparedTexts:
        """Texts to tensors; a row does not depend on other texts."""

    def __call__(self, prepared: PreparedTexts) -> Tensor:
        """Features [N, width]."""


class SmallCnn(nn.Module):
    """A small tower for quick experiments: four stages of two 3 x 3 convolutions.

    Each stage halves the size and doubles the channels.
    """

    def __init__(self, *, channels: int = 24) -> None:
        super().__init__()
        widths = [3, *(channels * 2**stage for stage in range(4))]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += _conv_unit(inputs, outputs, stride=2)
            layers += _conv_unit(outputs, outputs, stride=1)
        self.width = widths[-1]
        self.network = nn.Sequential(*layers)

    def forward(self, pixels: Tensor) -> Tensor:
        """Images [N, 3, H, W] to globally averaged features [N, width]."""
        features: Tensor = self.network(pixels)
        return features.mean((-2, -1))


def _conv_unit(inputs: int, outputs: int, *, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]


IMAGE_TOWERS: dict[str, Callable[..., nn.Module]] = {
    "efficientnet_lite": EfficientNetLite,
    "small_cnn": SmallCnn,
    "hugging_face": HuggingFaceVision,
}
TEXT_TOWERS: dict[str, Callable[..., nn.Module]] = {
    "sentence_set": SentenceSet,
    "hugging_face": HuggingFaceText,
}


def build_image_tower(settings: dict[str, Any]) -> nn.Module:
    """A randomly initialised image tower from ``{"kind": ..., its own settings}``."""
    return _build(IMAGE_TOWERS, settings, role="image tower")


def build_text_tower(settings: dict[str, Any]) -> nn.Module:
    """A text tower from ``{"kind": ..., its own settings}``; a frozen part is loaded lazily."""
    return _build(TEXT_TOWERS, settings, role="text tower")


def _build(
    towers: dict[str, Callable[..., nn.Module]], settings: dict[str, Any], *, role: str
) -> nn.Module:
    arguments = dict(settings)
    kind = arguments.pop("kind", None)
    if kind not in towers:
        raise EncoderError(f"no {role} of kind {kind!r}; there are {sorted(towers)}")
    try:
        return towers[kind](**arguments)
    except TypeError as error:
        raise EncoderError(f"the settings of {role} {kind!r} do not fit: {error}") from error
