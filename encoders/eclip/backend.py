"""How the image side is run: by ONNX Runtime where it can be, else by PyTorch.

Both give the same vectors within float32's rounding (docs/batch.md has the measures), so an index
and everything trained on an encoder's vectors and features belong to the weights, whichever way
they run. Which way it is, is decided once, when an encoder is loaded.
"""

import logging
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.eclip.model import EclipModel
from encoders.eclip.weights import GRAPH

logger = logging.getLogger(__name__)

Vectors = NDArray[np.float32]
ImageSide = Callable[[torch.Tensor], tuple[Vectors, Vectors]]
"""One normalised image float32 [1, channels, H, W] to its vector float32 [1, dim], of norm 1, and
its features float32 [1, F]. Safe to call from many threads; the same image gives the same bits."""

PIXELS, VECTORS, FEATURES = "pixels", "vectors", "features"
"""What a graph's input and outputs are called."""

AGREEMENT = 1e-4
"""Largest cosine distance at which a graph is taken to be of a model: a hundred times what rounding
makes, far less than what other weights make."""


class Backend(StrEnum):
    """Who runs the image side."""

    AUTO = "auto"
    TORCH = "torch"


def image_side(model: EclipModel, folder: Path, *, shape: tuple[int, ...]) -> ImageSide:
    """The fastest way to run a model's image side that gives what PyTorch gives.

    Never fails: where ONNX Runtime does not do, the reason is logged and PyTorch runs.

    Args:
        model: in evaluation mode.
        folder: that it was loaded from.
        shape: of an image, [1, channels, H, W].
    """
    eager = in_torch(model)
    path = folder / GRAPH
    if not path.is_file():
        logger.info("no %s beside the weights (docs/training.md): PyTorch runs, slower", GRAPH)
        return eager
    try:
        fast = in_onnx_runtime(path)
        distance = _distance(fast, eager, shape)
    except Exception as error:  # noqa: BLE001 - a native library: it has no class of errors
        logger.warning("ONNX Runtime cannot run %s (%s): PyTorch runs, slower", path, error)
        return eager
    if not distance <= AGREEMENT:  # also what is not a number
        logger.warning(
            "%s is not of the weights beside it (cosine distance %.2g): PyTorch runs, slower; "
            "make it again with `python -m encoders.eclip.onnx_export %s`",
            path,
            distance,
            folder,
        )
        return eager
    return fast


def in_torch(model: EclipModel) -> ImageSide:
    """Eager PyTorch."""

    @torch.inference_mode()
    def run(pixels: torch.Tensor) -> tuple[Vectors, Vectors]:
        features = model.image_features(pixels)
        return model.project_image(features).numpy(), features.numpy()

    return run


def in_onnx_runtime(path: Path) -> ImageSide:
    """ONNX Runtime, on the caller's thread: many images are many threads' work, and none waits.

    Raises:
        Exception: the package is missing or broken, or the graph cannot be read.
    """
    import onnxruntime  # noqa: PLC0415 - only where there is a graph

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; they are raised as well
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(pixels: torch.Tensor) -> tuple[Vectors, Vectors]:
        image = np.ascontiguousarray(pixels.numpy())
        vectors, features = session.run([VECTORS, FEATURES], {PIXELS: image})
        return vectors, features

    return run


def _distance(one: ImageSide, other: ImageSide, shape: tuple[int, ...]) -> float:
    """Cosine distance of what two ways make of an image of noise, by vector or features."""
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 4 - 2
    pairs = zip(one(image), other(image), strict=True)
    return max(1 - float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b))) for a, b in pairs)
