"""EfficientNet-Lite, the small image tower that this project ships.

Owns the architecture. `encoders.training.init_model` loads its ImageNet weights, and
`encoders.towers.base` builds it by name.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.grad_cache import recomputed
from encoders.packaged_weights import EncoderError
from encoders.towers.depthwise import depthwise_conv2d

_STAGES = (  # repeats, kernel, stride, expansion, channels in, channels out
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
_Shape = tuple[int, int, int, int, int]  # kernel, stride, expansion, channels in, channels out
_SCALES = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2)}  # width, depth


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite: inverted bottlenecks with ReLU6 and without squeeze-and-excitation.

    Source: Tan & Le, arXiv 1905.11946; the Lite variants of the TensorFlow TPU models repository.
    The order of the parameters is that of the published checkpoints, which is how
    `encoders.training.init_model` reads them.

    Args:
        variant: ``lite0``, ``lite1`` or ``lite2``.
        drop_path: probability that the last residual branch is skipped for an image in training;
            it grows linearly from 0 at the first.
    """

    def __init__(self, variant: str = "lite0", *, drop_path: float = 0.2) -> None:
        super().__init__()
        if variant not in _SCALES:
            raise EncoderError(f"no EfficientNet-Lite {variant!r}; there are {sorted(_SCALES)}")
        self.width = 1280
        self._recomputes = False
        shapes = _block_shapes(*_SCALES[variant])
        self.mid_end = max(at for at, (_, stride, *_) in enumerate(shapes) if stride == 2)
        self.mid_width = shapes[self.mid_end][3]
        rates = [drop_path * index / len(shapes) for index in range(len(shapes))]
        self.stem = nn.Sequential(*_conv_unit(3, 32, kernel=3, stride=2))
        self.blocks = nn.Sequential(
            *(Bottleneck(shape, drop_path=rate) for shape, rate in zip(shapes, rates, strict=True))
        )
        self.head = nn.Sequential(*_conv_unit(shapes[-1][-1], self.width, kernel=1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Images [N, 3, H, W] to globally averaged features [N, 1280]."""
        return self.grids(pixels)[1].mean((-2, -1))

    def grids(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Images to features by place: [N, `mid_width`, H / 16, W / 16], [N, 1280, H / 32, W / 32].

        The mean of the second is what `forward` gives.
        """
        seen = mid = self.stem(pixels)
        for at, block in enumerate(self.blocks):
            if at == self.mid_end:
                mid = seen
            seen = recomputed(block, block, seen) if self._recomputes else block(seen)
        return mid, self.head(seen)

    def recompute_blocks(self) -> None:
        """From now on keep only the blocks' inputs for the backward pass."""
        self._recomputes = True


class Bottleneck(nn.Module):
    """Widen, convolve each channel, narrow; with a way past where shapes allow."""

    def __init__(self, shape: _Shape, *, drop_path: float) -> None:
        super().__init__()
        kernel, stride, expansion, inputs, outputs = shape
        middle = inputs * expansion
        widen = _conv_unit(inputs, middle, kernel=1) if expansion != 1 else []
        deep = _conv_unit(middle, middle, kernel=kernel, stride=stride, groups=middle)
        self.body = nn.Sequential(*widen, *deep, *_conv_unit(middle, outputs, kernel=1)[:2])
        self.residual = stride == 1 and inputs == outputs
        self.drop_path = drop_path

    def forward(self, pixels: Tensor) -> Tensor:
        """Images float32 [N, C, H, W] to [N, C', H / stride, W / stride]."""
        branch: Tensor = self.body(pixels)
        if not self.residual:
            return branch
        if self.training and self.drop_path:
            kept = torch.rand(len(branch), 1, 1, 1, device=branch.device) >= self.drop_path
            branch = branch * kept.to(branch.dtype) / (1 - self.drop_path)
        return pixels + branch


class _SameConv(nn.Conv2d):
    """Convolution padded as TensorFlow's SAME: at stride 2 the odd pixel goes right and below."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the base class's name
        if self.stride == (1, 1):
            return self._convolved(input)
        padding: list[int] = []
        for length, kernel, stride in zip(
            reversed(input.shape[-2:]),
            reversed(self.kernel_size),
            reversed(self.stride),
            strict=True,
        ):
            total = max((math.ceil(length / stride) - 1) * stride + kernel - length, 0)
            padding += [total // 2, total - total // 2]
        return self._convolved(functional.pad(input, padding))

    def _convolved(self, images: Tensor) -> Tensor:
        in_bfloat16 = torch.is_autocast_enabled("cpu") and not images.is_cuda
        if not (self.groups > 1 and self.training and in_bfloat16):
            return super().forward(images)
        low = torch.get_autocast_dtype("cpu")
        padding = self.kernel_size[0] // 2 if self.stride == (1, 1) else 0
        with torch.autocast("cpu", enabled=False):
            return depthwise_conv2d(
                images.to(low), self.weight.to(low), stride=self.stride[0], padding=padding
            )


def _conv_unit(
    inputs: int, outputs: int, *, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    padding = kernel // 2 if stride == 1 else 0
    conv = _SameConv(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01), nn.ReLU6()]


def _block_shapes(width: float, depth: float) -> list[_Shape]:
    shapes = []
    for stage, (repeats, kernel, stride, expansion, inputs, outputs) in enumerate(_STAGES):
        fixed = stage in {0, len(_STAGES) - 1}  # Lite never repeats the first and last stage
        wide_in = inputs if stage == 0 else _scaled(inputs, width)
        wide_out = _scaled(outputs, width)
        for repeat in range(repeats if fixed else math.ceil(repeats * depth)):
            first = repeat == 0
            step = (kernel, stride if first else 1, expansion, wide_in if first else wide_out)
            shapes.append((*step, wide_out))
    return shapes


def _scaled(channels: int, width: float) -> int:
    """Channels times width, to the nearest multiple of 8 that is not below 90 %."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded
