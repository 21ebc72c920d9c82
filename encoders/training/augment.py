"""What a training image may look like. Never mirrored: a heart on the right is a finding."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from encoders.preprocess import EvalTransform
from encoders.training.config import AugmentSettings


@dataclass(frozen=True, slots=True)
class RankRng:
    """Random numbers for a rank's rows of a batch, ``rank :: ranks``.

    Every rank draws for the whole batch, so that an image is augmented alike however many train.
    ``generator`` is on the CPU; None is torch's global one.
    """

    generator: torch.Generator | None = None
    rank: int = 0
    ranks: int = 1

    def uniform(self, count: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """float32 [count], evenly drawn in [low, high), for the rows of this rank."""
        whole = torch.empty(count * self.ranks).uniform_(low, high, generator=self.generator)
        return whole[self.rank :: self.ranks]


GLOBAL_RNG = RankRng()
"""From torch's global generator, in one process."""


def augment(
    images: Tensor, settings: AugmentSettings, *, size: int, rng: RankRng = GLOBAL_RNG
) -> Tensor:
    """Images float32 [N, H, W] in [0, 1], stretched, to [N, size, size] in [0, 1]."""
    varied = vary_exposure(images, settings, rng=rng)
    return warp(varied, draw_warp(len(images), settings, rng=rng), size=size)


def augment_marked(
    images: NDArray[np.uint8], settings: AugmentSettings, *, transform: EvalTransform, rng: RankRng
) -> tuple[Tensor, Tensor]:
    """Images uint8 [N, H, W] to [N, size, size] in [0, 1], and the maps for what is marked on them.

    It draws in another order than `augment`, which weights that were trained depend on.
    """
    stretched = transform.stretch(torch.from_numpy(images).float() / 255)
    maps = draw_warp(len(images), settings, rng=rng)
    varied = vary_exposure(stretched, settings, rng=rng)
    return warp(varied, maps, size=transform.size), maps


def vary_exposure(
    images: Tensor, settings: AugmentSettings, *, rng: RankRng = GLOBAL_RNG
) -> Tensor:
    """Another window and another gamma for each image: other machines, other readers."""
    count = len(images)
    gamma, contrast = (
        torch.exp(rng.uniform(count, -spread, spread)).view(-1, 1, 1)
        for spread in (settings.gamma, settings.contrast)
    )
    brightness = rng.uniform(count, -settings.brightness, settings.brightness).view(-1, 1, 1)
    curved = images.clamp(min=1e-4) ** gamma
    return ((curved - 0.5) * contrast + 0.5 + brightness).clamp(0, 1)


def draw_warp(count: int, settings: AugmentSettings, *, rng: RankRng = GLOBAL_RNG) -> Tensor:
    """Affine maps [count, 2, 3] from the output square to the image, both in [-1, 1].

    Crops (scale below 1), turns, stretches one side against the other. A heatmap of the same image
    takes the same map.
    """
    scale = torch.exp(rng.uniform(count, math.log(settings.smallest_crop), math.log(1.08)))
    aspect = torch.exp(rng.uniform(count, -settings.aspect, settings.aspect))
    angle = rng.uniform(count, -settings.degrees, settings.degrees) * math.pi / 180
    across, down = scale * aspect, scale / aspect
    slack = (1 - scale).clamp(min=0.04)  # a crop of the whole image may still move a little
    right, below = (slack * (rng.uniform(count) * 2 - 1) for _ in range(2))
    rows = (
        torch.stack([across * angle.cos(), -down * angle.sin(), right], dim=1),
        torch.stack([across * angle.sin(), down * angle.cos(), below], dim=1),
    )
    return torch.stack(rows, dim=1)


def warp(images: Tensor, maps: Tensor, *, size: int) -> Tensor:
    """Images [N, H, W] seen through affine maps [N, 2, 3]: [N, size, size]; outside is black."""
    grid = functional.affine_grid(maps, [len(images), 1, size, size], align_corners=False)
    return functional.grid_sample(images.unsqueeze(1), grid, align_corners=False).squeeze(1)
