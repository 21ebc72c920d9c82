"""Priming: the processor learns to leave an image alone before it is trusted with expert ones.

Owns the priming loss and how it is weighed. Used in the curriculum's cold start only: the heatmap
is all ones, so that the best answer is the image itself.

Source: Kumar & Marttinen, arXiv 2403.10153 (weight 0.1; 0.3 in the authors' code).
"""

from torch import Tensor, nn
from torch.nn import functional


def priming_loss(processor: nn.Module, images: Tensor) -> Tensor:
    """Mean squared error between normalised images [N, channels, H, W] and what becomes of them."""
    return functional.mse_loss(processor(images, None).float(), images.float())


def primed(loss: Tensor, prime: Tensor, *, weight: float) -> Tensor:
    """(1 - w) of the loss and w of the priming loss."""
    return (1 - weight) * loss + weight * prime
