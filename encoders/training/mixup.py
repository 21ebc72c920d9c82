"""Mixup in image space: an image and what the expert's eye made of it.

Owns the draw of the share and the mixture. Texts are not mixed.

Source: Kumar & Marttinen, arXiv 2403.10153 (λ ~ Beta(alpha, alpha), one a step); Zhang et al.,
arXiv 1710.09412; Verma et al., arXiv 2011.04419 (DACL: another image of the batch is the noise).
"""

import numpy as np
from torch import Tensor


def draw_share(alpha: float, seed: int) -> float:
    """λ ~ Beta(alpha, alpha) in [0, 1]: a function of the seed alone, so that all ranks mix alike.

    A small alpha keeps λ near 0 or 1 (mean 1/2, variance 1 / (4 (2alpha + 1))).
    """
    return float(np.random.default_rng(seed).beta(alpha, alpha))


def draw_dacl_share(alpha: float, seed: int) -> float:
    """λ ~ U(alpha, 1): the own image keeps at least alpha of itself."""
    return float(np.random.default_rng(seed).uniform(alpha, 1.0))


def mix(images: Tensor, others: Tensor, share: float) -> Tensor:
    """λ of the images and 1 - λ of the others, both [N, channels, H, W]."""
    return share * images + (1 - share) * others


def other_images(images: Tensor) -> Tensor:
    """For each image another one of the batch, none its own (as far as there are two)."""
    return images.roll(1, dims=0)
