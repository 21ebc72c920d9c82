"""Mixup in image space: a film and what the expert's eye made of it.

Owns the draw of the share and the mixture. Texts are not mixed.

Source: Kumar & Marttinen, arXiv 2403.10153 (λ ~ Beta(alpha, alpha), one a step); Zhang et al.,
arXiv 1710.09412; Verma et al., arXiv 2011.04419 (DACL: another film of the batch is the noise).
"""

import numpy as np
from torch import Tensor


def draw_share(alpha: float, seed: int) -> float:
    """λ ~ Beta(alpha, alpha) in [0, 1]: a function of the seed alone, so that all ranks mix alike.

    A small alpha keeps λ near 0 or 1 (mean 1/2, variance 1 / (4 (2alpha + 1))).
    """
    return float(np.random.default_rng(seed).beta(alpha, alpha))


def draw_dacl_share(alpha: float, seed: int) -> float:
    """λ ~ U(alpha, 1): the own film keeps at least alpha of itself."""
    return float(np.random.default_rng(seed).uniform(alpha, 1.0))


def mix(films: Tensor, others: Tensor, share: float) -> Tensor:
    """λ of the films and 1 - λ of the others, both [N, channels, H, W]."""
    return share * films + (1 - share) * others


def other_films(films: Tensor) -> Tensor:
    """For each film another one of the batch, none its own (as far as there are two)."""
    return films.roll(1, dims=0)
