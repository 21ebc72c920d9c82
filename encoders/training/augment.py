"""Random augmentation of training images. Never mirrored: a heart on the right is a finding."""

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

    Every rank draws for the whole batch, so that results do not depend on the number of ranks.
    ``generator`` is on the CPU; None is torch's global one.
    """

    generator: torch.Generator | None = None
    rank: int = 0
    ranks: int = 1

    def uniform(self, count: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform float32 [count] in [low, high) for this rank's rows."""
        whole = torch.empty(count * self.ranks).uniform_(low, high, generator=self.generator)
        return whole[self.rank :: self.ranks]


def augment(images: Tensor, settings: AugmentSettings, *, size: int, rng: RankRng) -> Tensor:
    """Stretched images float32 [N, H, W] in [0, 1] to [N, size, size] in [0, 1]."""
    varied = vary_exposure(images, settings, rng=rng)
    return warp(varied, draw_affine(len(images), settings, rng=rng), size=size)


def augment_with_affine(
    images: NDArray[np.uint8], settings: AugmentSettings, *, transform: EvalTransform, rng: RankRng
) -> tuple[Tensor, Tensor]:
    """Images uint8 [N, H, W] to [N, size, size] in [0, 1], and the affine maps for their masks.

    Draws in another order than `augment`; changing it would change trained weights.
    """
    stretched = transform.stretch(torch.from_numpy(images).float() / 255)
    affine = draw_affine(len(images), settings, rng=rng)
    varied = vary_exposure(stretched, settings, rng=rng)
    return warp(varied, affine, size=transform.size), affine


def vary_exposure(images: Tensor, settings: AugmentSettings, *, rng: RankRng) -> Tensor:
    """Random gamma, contrast and brightness for each image, as of other machines and windows."""
    count = len(images)
    gamma, contrast = (
        torch.exp(rng.uniform(count, -spread, spread)).view(-1, 1, 1)
        for spread in (settings.gamma, settings.contrast)
    )
    brightness = rng.uniform(count, -settings.brightness, settings.brightness).view(-1, 1, 1)
    curved = images.clamp(min=1e-4) ** gamma
    return ((curved - 0.5) * contrast + 0.5 + brightness).clamp(0, 1)


def draw_affine(count: int, settings: AugmentSettings, *, rng: RankRng) -> Tensor:
    """Random crops, rotations and aspect ratios.

    Returns:
        Affine maps [count, 2, 3] from the output square to the image, both in [-1, 1].
    """
    scale = torch.exp(rng.uniform(count, math.log(settings.smallest_crop), math.log(1.08)))
    aspect = torch.exp(rng.uniform(count, -settings.aspect, settings.aspect))
    angle = rng.uniform(count, -settings.degrees, settings.degrees) * math.pi / 180
    x_scale, y_scale = scale * aspect, scale / aspect
    max_shift = (1 - scale).clamp(min=0.04)  # a crop of the whole image may still move a little
    x_shift, y_shift = (max_shift * (rng.uniform(count) * 2 - 1) for _ in range(2))
    rows = (
        torch.stack([x_scale * angle.cos(), -y_scale * angle.sin(), x_shift], dim=1),
        torch.stack([x_scale * angle.sin(), y_scale * angle.cos(), y_shift], dim=1),
    )
    return torch.stack(rows, dim=1)


def warp(images: Tensor, affine: Tensor, *, size: int) -> Tensor:
    """Apply affine maps [N, 2, 3] to images [N, H, W]: [N, size, size], black outside."""
    grid = functional.affine_grid(affine, [len(images), 1, size, size], align_corners=False)
    return functional.grid_sample(images.unsqueeze(1), grid, align_corners=False).squeeze(1)
