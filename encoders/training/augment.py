"""What a training film may look like: the augmentation, as data.

Owns geometry and grey values of a batch. Never mirrors: a heart on the right is a finding. Drawn
from torch's global generator, which the loop seeds at every step.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from encoders.training.config import AugmentSettings


def augment(films: Tensor, settings: AugmentSettings, *, size: int) -> Tensor:
    """Films float32 [N, H, W] in [0, 1], stretched, to [N, size, size] in [0, 1]."""
    return warp(vary_exposure(films, settings), draw_warp(len(films), settings), size=size)


def vary_exposure(films: Tensor, settings: AugmentSettings) -> Tensor:
    """Another window and another gamma for each film: other machines, other readers."""
    count = len(films)
    gamma = _factor(count, settings.gamma)
    contrast = _factor(count, settings.contrast)
    brightness = _between(count, -settings.brightness, settings.brightness)
    curved = films.clamp(min=1e-4) ** gamma
    return ((curved - 0.5) * contrast + 0.5 + brightness).clamp(0, 1)


def draw_warp(count: int, settings: AugmentSettings) -> Tensor:
    """Affine maps [count, 2, 3] from the output square to the film, both in [-1, 1].

    Crops (scale below 1), turns, stretches one side against the other. A heatmap of the same film
    takes the same map.
    """
    scale = torch.exp(_between(count, math.log(settings.smallest_crop), math.log(1.08)))
    aspect = _factor(count, settings.aspect)
    angle = _between(count, -settings.degrees, settings.degrees) * math.pi / 180
    across, down = (scale * aspect).flatten(), (scale / aspect).flatten()
    angle, scale = angle.flatten(), scale.flatten()
    slack = (1 - scale).clamp(min=0.04)  # a crop of the whole film may still move a little
    right, below = (slack * (torch.rand(count) * 2 - 1) for _ in range(2))
    rows = (
        torch.stack([across * angle.cos(), -down * angle.sin(), right], dim=1),
        torch.stack([across * angle.sin(), down * angle.cos(), below], dim=1),
    )
    return torch.stack(rows, dim=1)


def warp(films: Tensor, maps: Tensor, *, size: int) -> Tensor:
    """Films [N, H, W] seen through affine maps [N, 2, 3]: [N, size, size]; outside is black."""
    grid = functional.affine_grid(maps, [len(films), 1, size, size], align_corners=False)
    return functional.grid_sample(films.unsqueeze(1), grid, align_corners=False).squeeze(1)


def _between(count: int, low: float, high: float) -> Tensor:
    return torch.empty(count, 1, 1).uniform_(low, high)


def _factor(count: int, spread: float) -> Tensor:
    """Factors around 1: exp of a uniform draw in [-spread, spread]."""
    return torch.exp(_between(count, -spread, spread))
