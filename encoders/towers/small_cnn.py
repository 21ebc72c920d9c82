"""A plain convolutional tower for experiments that must fit into minutes on one core.

Owns the architecture only. The shipped tower is `encoders.towers.efficientnet_lite`.
"""

from itertools import pairwise

from torch import Tensor, nn


class SmallCnn(nn.Module):
    """Four stages of two 3x3 convolutions, each stage half the size and twice the channels.

    Args:
        channels: of the first stage; the features have eight times as many.
    """

    def __init__(self, *, channels: int = 24) -> None:
        super().__init__()
        widths = [3, *(channels * 2**stage for stage in range(4))]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [*_unit(inputs, outputs, stride=2), *_unit(outputs, outputs, stride=1)]
        self.width = widths[-1]
        self.network = nn.Sequential(*layers)

    def forward(self, pixels: Tensor) -> Tensor:
        """Images [N, 3, H, W] to globally averaged features [N, width]."""
        features: Tensor = self.network(pixels)
        return features.mean((-2, -1))


def _unit(inputs: int, outputs: int, *, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]
