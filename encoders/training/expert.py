"""What eCLIP adds to CLIP: when a step has expert pairs, how they are mixed, the heatmap processor.

The curriculum: 10 % of the steps without (and priming), 30 % with a probability rising from 0.05 to
0.5, 40 % falling to 0.1 (0.05 in the authors' code), then constant: 22 % on average. All draws are
functions of a seed, so that all ranks draw alike and a resumed run draws as it would have.

Used in training only, no part of the inference model.

Source: Kumar & Marttinen, arXiv 2403.10153; written from the published description.
"""

from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional


class Curriculum(BaseModel):
    """Shares of all steps, and probabilities of an expert step.

    Attributes:
        cold: share without expert steps; the heatmap processor is primed in it.
        warm: share in which the probability rises.
        cool: share in which it falls; it is constant in the rest.
        first, peak, last: probability at the start of the warm-up, at its end, after the cool-down.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cold: float = Field(default=0.1, ge=0, le=1)
    warm: float = Field(default=0.3, ge=0, le=1)
    cool: float = Field(default=0.4, ge=0, le=1)
    first: float = Field(default=0.05, ge=0, le=1)
    peak: float = Field(default=0.5, ge=0, le=1)
    last: float = Field(default=0.1, ge=0, le=1)

    @model_validator(mode="after")
    def _fits_into_a_run(self) -> Self:
        if self.cold + self.warm + self.cool > 1 + 1e-9:
            raise ValueError(
                f"cold {self.cold}, warm {self.warm} and cool {self.cool} must sum to at most 1"
            )
        return self

    def is_cold(self, step: int, *, steps: int) -> bool:
        """Whether the step is in the cold start."""
        return step / steps < self.cold

    def probability(self, step: int, *, steps: int) -> float:
        """Of an expert step at a step of a run of so many."""
        at = step / steps - self.cold
        if at < 0:
            return 0.0
        if at < self.warm:
            return self.first + (self.peak - self.first) * at / self.warm
        at -= self.warm
        if at < self.cool:
            return self.peak + (self.last - self.peak) * at / self.cool
        return self.last


def is_expert_step(probability: float, seed: int) -> bool:
    """The draw; the seed is the step's, the same on every rank."""
    return bool(np.random.default_rng(seed).random() < probability)


def draw_share(alpha: float, seed: int) -> float:
    """λ ~ Beta(alpha, alpha) in [0, 1], what a step's mixture keeps of the image itself."""
    return float(np.random.default_rng(seed).beta(alpha, alpha))


class HeatmapProcessor(nn.Module):
    """Attention from the looked-at parts of an image to the whole image, as an image again.

    One convolution makes patches of both; the query is what the heatmap leaves of the image, key
    and value are the image. With the defaults 722 435 parameters (the paper's 0.72 M).

    Args:
        width: of a token.
        patch: side and stride of a patch, in pixels; the image's side is a multiple of it.
        heads: of the attention.
    """

    def __init__(self, *, width: int = 256, patch: int = 16, heads: int = 8) -> None:
        super().__init__()
        self.patch = patch
        self.patchify = nn.Conv2d(3, width, patch, patch)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.linear = nn.Linear(width, width)
        self.to_image = nn.ConvTranspose2d(width, 3, patch, patch)

    def forward(self, images: Tensor, heatmaps: Tensor | None) -> Tensor:
        """Images [N, 3, H, W] and heatmaps [N, H, W] in [0, 1] to images of the same shape.

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
        query = keys = self._tokens(images, rows, columns)
        if heatmaps is not None:
            query = self._tokens(images * heatmaps.unsqueeze(1), rows, columns)
        # Asked for its weights it takes plain matrix products: a third faster at this size.
        attended = self.attention(query, keys, keys, average_attn_weights=False)[0]
        return self._image(self.linear(attended), rows, columns)

    # Kernel and stride are one, so both convolutions are matrix products; on a CPU, half as long.

    def _tokens(self, images: Tensor, rows: int, columns: int) -> Tensor:
        """Images [N, 3, H, W] to tokens [N, rows * columns, width]."""
        count, channels = images.shape[:2]
        grid = images.reshape(count, channels, rows, self.patch, columns, self.patch)
        patches = grid.permute(0, 2, 4, 1, 3, 5).reshape(count, rows * columns, -1)
        return functional.linear(patches, self.patchify.weight.flatten(1), self.patchify.bias)

    def _image(self, tokens: Tensor, rows: int, columns: int) -> Tensor:
        """Tokens [N, rows * columns, width] to images [N, 3, H, W]."""
        flat = functional.linear(tokens, self.to_image.weight.flatten(1).T)
        grid = flat.reshape(len(tokens), rows, columns, -1, self.patch, self.patch)
        image = grid.permute(0, 3, 1, 4, 2, 5).flatten(2, 3).flatten(3, 4)
        bias: Tensor = self.to_image.bias  # type: ignore[assignment] # it has one
        return image + bias.view(-1, 1, 1)
