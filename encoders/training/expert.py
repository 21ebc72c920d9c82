"""What eCLIP adds to CLIP in training: the curriculum of expert steps and the heatmap processor.

Neither is part of the saved model.

Source: Kumar & Marttinen, arXiv 2403.10153; written from the published description.
"""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional


class Curriculum(BaseModel):
    """When expert steps occur; by default in 22 % of the steps on average.

    The authors' code uses 0.05 for ``last``.

    Attributes:
        cold: share of the steps without expert pairs; the heatmap processor is primed in them.
        warm: share of the steps in which their probability rises from ``first`` to ``peak``.
        cool: share in which it falls to ``last``, which it keeps until the end.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cold: float = Field(default=0.1, ge=0, le=1)
    warm: float = Field(default=0.3, ge=0, le=1)
    cool: float = Field(default=0.4, ge=0, le=1)
    first: float = Field(default=0.05, ge=0, le=1)
    peak: float = Field(default=0.5, ge=0, le=1)
    last: float = Field(default=0.1, ge=0, le=1)

    @model_validator(mode="after")
    def _check_sum(self) -> Self:
        if self.cold + self.warm + self.cool > 1 + 1e-9:
            raise ValueError(
                f"cold {self.cold}, warm {self.warm} and cool {self.cool} must sum to at most 1"
            )
        return self

    def is_cold(self, step: int, *, steps: int) -> bool:
        """Whether the step is in the cold start."""
        return step / steps < self.cold

    def probability(self, step: int, *, steps: int) -> float:
        """Probability that step ``step`` of ``steps`` is an expert step."""
        position = step / steps - self.cold
        if position < 0:
            return 0.0
        if position < self.warm:
            return self.first + (self.peak - self.first) * position / self.warm
        position -= self.warm
        if position < self.cool:
            return self.peak + (self.last - self.peak) * position / self.cool
        return self.last


class HeatmapProcessor(nn.Module):
    """Attention from the parts of an image that an expert looked at to the whole image.

    One convolution makes patch tokens of both; the query is the image times the heatmap, key and
    value are the image. The result is an image again. 722 435 parameters with the defaults (0.72 M
    in the paper).

    Args:
        width: of a token.
        patch: side of a patch in pixels; divides the image's sides.
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

        Without heatmaps, as in priming, they are taken as 1 everywhere, a third faster.

        Raises:
            ValueError: the image's sides are not multiples of the patch.
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
        # Returning the weights selects plain matrix products: a third faster at this size.
        attended = self.attention(query, keys, keys, average_attn_weights=False)[0]
        return self._image(self.linear(attended), rows, columns)

    # As kernel and stride are equal, both convolutions are matrix products: half the time on a CPU.

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
