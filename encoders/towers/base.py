"""The towers: images to features, texts to features, each behind one signature.

A new family is one more entry of a table.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Protocol

from torch import Tensor, nn

from encoders.packaged_weights import EncoderError
from encoders.towers.efficientnet_lite import EfficientNetLite
from encoders.towers.hugging_face import HuggingFaceText, HuggingFaceVision
from encoders.towers.sentence_set import SentenceSet

Prepared = dict[str, Tensor]
"""What a text tower reads: tensors whose first dimension is the text."""


class ImageTower(Protocol):
    """Images to features. An ``nn.Module`` with a ``width``."""

    width: int

    def __call__(self, pixels: Tensor) -> Tensor:
        """Normalised images float32 [N, channels, H, W] to features [N, width]."""


class TextTower(Protocol):
    """Texts to features in two steps. An ``nn.Module`` with a ``width``.

    What does not change in training is in `prepare` (tokens; in ours even the vectors of a frozen
    language model) and may be cached; what is trained is in the call.
    """

    width: int

    def prepare(self, texts: Sequence[str]) -> Prepared:
        """Texts to tensors; what a text becomes does not depend on its neighbours."""

    def __call__(self, prepared: Prepared) -> Tensor:
        """Features [N, width]."""


class SmallCnn(nn.Module):
    """For experiments within minutes: four stages of two 3 x 3 convolutions.

    Each stage has half the size and twice the channels.
    """

    def __init__(self, *, channels: int = 24) -> None:
        super().__init__()
        widths = [3, *(channels * 2**stage for stage in range(4))]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [*_unit(inputs, outputs, stride=2), *_unit(outputs, outputs, stride=1)]
        self.width = widths[-1]
        self.network = nn.Sequential(*layers)

    def forward(self, pixels: Tensor) -> Tensor:
        """Images [N, 3, H, W] to globally averaged features [N, width]."""
        features: Tensor = self.network(pixels)
        return features.mean((-2, -1))


def _unit(inputs: int, outputs: int, *, stride: int) -> list[nn.Module]:
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
    """The randomly initialised image tower of ``{"kind": ..., its own settings}``."""
    return _build(IMAGE_TOWERS, settings, role="image tower")


def build_text_tower(settings: dict[str, Any]) -> nn.Module:
    """The text tower of ``{"kind": ..., its own settings}``; its frozen part is loaded lazily."""
    return _build(TEXT_TOWERS, settings, role="text tower")


def _build(
    table: dict[str, Callable[..., nn.Module]], settings: dict[str, Any], *, role: str
) -> nn.Module:
    kind = settings.get("kind")
    if kind not in table:
        raise EncoderError(f"no {role} of kind {kind!r}; there are {sorted(table)}")
    try:
        return table[kind](**{key: value for key, value in settings.items() if key != "kind"})
    except TypeError as error:
        raise EncoderError(f"the settings of {role} {kind!r} do not fit: {error}") from error
