"""The evaluation transform, from an image to the tensor that a tower reads.

Its settings are stored with the weights. Training augments before the last step, `normalise`.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from encoders.base import CxrImage
from encoders.packaged_weights import EncoderError, read_json

if TYPE_CHECKING:
    from torch import Tensor


TRANSFORM_FILE = "preprocessor_config.json"


@dataclass(frozen=True, slots=True)
class EvalTransform:
    """Squash to a square, stretch the grey values, normalise, repeat the channel.

    Squashing loses nothing, and treats images that were stored squashed (as Open-I's are here) and
    images in their true shape alike. Grey values are stretched after resizing, so that a hot pixel
    or a thin lead letter does not set the scale.

    Attributes:
        size: side of the square in pixels.
        low_percentile, high_percentile: percentiles of the grey values that become 0 and 1; this
            undoes any linear window.
        mean, std: of the stretched pixels, scalars as in eCLIP.
        channels: number of copies of the grey channel.
    """

    size: int = 224
    low_percentile: float = 1.0
    high_percentile: float = 99.0
    mean: float = 0.5
    std: float = 0.25
    channels: int = 3

    def __call__(self, image: CxrImage) -> "Tensor":
        """One image to float32 [channels, size, size]; the same image gives the same bits."""
        import torch  # noqa: PLC0415 - takes seconds

        pixels = torch.from_numpy(np.ascontiguousarray(image.pixels, dtype=np.float32))
        return self.normalise(self.stretch(resize_square(pixels, self.size)))

    def stretch(self, pixels: "Tensor") -> "Tensor":
        """Grey values [..., H, W] in [0, 1] stretched between the two percentiles of each image.

        An image with less than one 8-bit grey level between them is flat and becomes nearly 0: its
        contrast is the rounding of the resize.
        """
        flat = pixels.flatten(-2)
        shares = self.low_percentile / 100, self.high_percentile / 100
        ranks = [round(share * (flat.shape[-1] - 1)) + 1 for share in shares]
        # kthvalue, not quantile: torch.quantile refuses more than 16 million values.
        darkest, brightest = (flat.kthvalue(rank).values[..., None, None] for rank in ranks)
        return ((pixels - darkest) / (brightest - darkest).clamp(min=1 / 255)).clamp(0, 1)

    def normalise(self, pixels: "Tensor") -> "Tensor":
        """[..., H, W] in [0, 1] to the tower's input [..., channels, H, W]."""
        scaled = (pixels - self.mean) / self.std
        *batch, height, width = scaled.shape
        return scaled.unsqueeze(-3).expand(*batch, self.channels, height, width)

    def save_pretrained(self, folder: Path) -> None:
        """Write ``preprocessor_config.json``."""
        text = json.dumps(self._settings, indent=2) + "\n"
        (folder / TRANSFORM_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: Path) -> "EvalTransform":
        """The transform of a model folder.

        Raises:
            EncoderError: the file is missing, damaged or of another transform.
        """
        values = read_json(folder / TRANSFORM_FILE)
        values.pop("image_processor_type", None)
        expected = {field.name for field in fields(cls)}
        if values.keys() != expected:
            raise EncoderError(
                f"{TRANSFORM_FILE} has the keys {sorted(values)}, expected {sorted(expected)}"
            )
        return cls(**values)

    @property
    def _settings(self) -> dict[str, Any]:
        return {"image_processor_type": "EvalTransform", **asdict(self)}

    @property
    def hash(self) -> str:
        """First 12 digits of the sha256 of the settings."""
        text = json.dumps(self._settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def resize_square(pixels: "Tensor", side: int) -> "Tensor":
    """[..., H, W] squashed to [..., side, side], antialiased."""
    from torch.nn import functional  # noqa: PLC0415

    *batch, height, width = pixels.shape
    if (height, width) == (side, side):
        return pixels
    square = functional.interpolate(
        pixels.reshape(-1, 1, height, width), (side, side), mode="bilinear", antialias=True
    )
    return square.reshape(*batch, side, side)
