"""The towers: images to features, texts to features, each behind one signature.

Owns the two protocols and the builders that read a tower's kind from its settings. A new family
is one more entry of a table. Projections, losses and training live elsewhere.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from encoders.packaged_weights import EncoderError
from encoders.towers.efficientnet_lite import EfficientNetLite
from encoders.towers.hugging_face import HuggingFaceText, HuggingFaceVision
from encoders.towers.sentence_set import SentenceSet
from encoders.towers.small_cnn import SmallCnn
from encoders.towers.timm_open_clip import OpenClipText, OpenClipVision, TimmVision

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


IMAGE_TOWERS: dict[str, Callable[..., nn.Module]] = {
    "efficientnet_lite": EfficientNetLite,
    "small_cnn": SmallCnn,
    "hugging_face": HuggingFaceVision,
    "timm": TimmVision,
    "open_clip": OpenClipVision,
}
TEXT_TOWERS: dict[str, Callable[..., nn.Module]] = {
    "sentence_set": SentenceSet,
    "hugging_face": HuggingFaceText,
    "open_clip": OpenClipText,
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
