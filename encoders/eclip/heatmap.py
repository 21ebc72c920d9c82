"""The expert parts that see image and heatmap: the paper's processor and what it is held against.

Owns the modules (image, heatmap) -> image of the same shape. They are used in training only and are
no part of the inference model. Knows nothing of mixup, schedules or where heatmaps come from.

Source: Kumar & Marttinen, arXiv 2403.10153; written from the published description.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.packaged_weights import EncoderError

ATTENTION, IDENTITY_START, CNN, MASK = "attention", "identity_start", "cnn", "mask"


class HeatmapProcessor(nn.Module):
    """Attention from the looked-at parts of an image to the whole image, as an image again.

    One convolution makes patches of both; the query is what the heatmap leaves of the image, key
    and value are the image. With the defaults 722 435 parameters (the paper's 0.72 M).

    Args:
        width: of a token.
        patch: side and stride of a patch, in pixels; the image's side is a multiple of it.
        heads: of the attention.
        channels: of the image.
        identity_start: add the result to the image through a gate that starts at 0, and give the
            tokens a position. The image then passes unchanged at first, and priming has nothing to
            teach. Not in the paper.
    """

    def __init__(
        self,
        *,
        width: int = 256,
        patch: int = 16,
        heads: int = 8,
        channels: int = 3,
        identity_start: bool = False,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.patchify = nn.Conv2d(channels, width, patch, patch)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.linear = nn.Linear(width, width)
        self.to_image = nn.ConvTranspose2d(width, channels, patch, patch)
        self.gate = nn.Parameter(torch.zeros(())) if identity_start else None

    def forward(self, images: Tensor, heatmaps: Tensor | None) -> Tensor:
        """Images [N, channels, H, W] and heatmaps [N, H, W] in [0, 1] to images of the same shape.

        No heatmaps are heatmaps of ones everywhere, as in priming; that saves a third of the work.

        Raises:
            ValueError: the image's sides are no multiples of the patch.
        """
        height, width = images.shape[-2:]
        if height % self.patch or width % self.patch:
            raise ValueError(
                f"images of {height}x{width} do not divide into {self.patch}px patches"
            )
        rows, columns = height // self.patch, width // self.patch
        keys = self._tokens(images, rows, columns)
        query = keys if heatmaps is None else self._tokens(masked(images, heatmaps), rows, columns)
        if self.gate is not None:
            position = grid_position(rows, columns, query.shape[-1]).to(query)
            query, keys = query + position, keys + position
        # Asked for its weights it takes plain matrix products: a third faster at this size.
        attended = self.attention(query, keys, keys, average_attn_weights=False)[0]
        image = self._image(self.linear(attended), rows, columns)
        return image if self.gate is None else images + self.gate * image

    # Kernel and stride are one, so both convolutions are matrix products; on a CPU, half as long.

    def _tokens(self, images: Tensor, rows: int, columns: int) -> Tensor:
        """Images [N, channels, H, W] to tokens [N, rows * columns, width]."""
        count, channels = images.shape[:2]
        grid = images.reshape(count, channels, rows, self.patch, columns, self.patch)
        patches = grid.permute(0, 2, 4, 1, 3, 5).reshape(count, rows * columns, -1)
        return functional.linear(patches, self.patchify.weight.flatten(1), self.patchify.bias)

    def _image(self, tokens: Tensor, rows: int, columns: int) -> Tensor:
        """Tokens [N, rows * columns, width] to images [N, channels, H, W]."""
        flat = functional.linear(tokens, self.to_image.weight.flatten(1).T)
        grid = flat.reshape(len(tokens), rows, columns, -1, self.patch, self.patch)
        image = grid.permute(0, 3, 1, 4, 2, 5).flatten(2, 3).flatten(3, 4)
        bias: Tensor = self.to_image.bias  # type: ignore[assignment] # it has one
        return image + bias.view(-1, 1, 1)


class HeatmapCnn(nn.Module):
    """Ablation: three convolutions over the image with its heatmap as one more channel."""

    def __init__(self, *, width: int = 32, channels: int = 3) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(channels + 1, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, channels, 3, padding=1),
        )

    def forward(self, images: Tensor, heatmaps: Tensor | None) -> Tensor:
        """As `HeatmapProcessor`; any size."""
        if heatmaps is None:
            heatmaps = images.new_ones(len(images), *images.shape[-2:])
        seen: Tensor = self.network(torch.cat([images, heatmaps.unsqueeze(1)], dim=1))
        return seen


class HeatmapMask(nn.Module):
    """Ablation, nothing to learn: the image times its heatmap."""

    def forward(self, images: Tensor, heatmaps: Tensor | None) -> Tensor:
        """As `HeatmapProcessor`; any size."""
        return images if heatmaps is None else masked(images, heatmaps)


def masked(images: Tensor, heatmaps: Tensor) -> Tensor:
    """Normalised images [N, channels, H, W] times heatmaps [N, H, W]: unseen parts become 0."""
    return images * heatmaps.unsqueeze(1)


def grid_position(rows: int, columns: int, width: int) -> Tensor:
    """Sines and cosines of row and column, float32 [rows * columns, width]; no parameters.

    A quarter of the width each for sine and cosine of row and column; what does not divide by
    four stays 0. Source: Vaswani et al., arXiv 1706.03762, in two dimensions.
    """
    quarter = width // 4
    pace = torch.exp(-math.log(10_000.0) * torch.arange(quarter) / max(1, quarter))
    down = (torch.arange(rows)[:, None] * pace)[:, None].expand(rows, columns, quarter)
    across = (torch.arange(columns)[:, None] * pace)[None].expand(rows, columns, quarter)
    table = torch.zeros(rows, columns, width)
    table[..., : 4 * quarter] = torch.cat(
        [down.sin(), down.cos(), across.sin(), across.cos()], dim=-1
    )
    return table.flatten(0, 1)


PROCESSORS: dict[str, Callable[..., nn.Module]] = {
    ATTENTION: HeatmapProcessor,
    IDENTITY_START: partial(HeatmapProcessor, identity_start=True),
    CNN: HeatmapCnn,
    MASK: HeatmapMask,
}


def build_processor(settings: dict[str, Any]) -> nn.Module:
    """The processor of ``{"kind": ..., its own settings}``.

    Raises:
        EncoderError: no such kind or setting.
    """
    kind = settings.get("kind", ATTENTION)
    if kind not in PROCESSORS:
        raise EncoderError(f"no heatmap processor {kind!r}; there are {sorted(PROCESSORS)}")
    try:
        return PROCESSORS[kind](**{key: value for key, value in settings.items() if key != "kind"})
    except TypeError as error:
        raise EncoderError(f"the settings of processor {kind!r} do not fit: {error}") from error
