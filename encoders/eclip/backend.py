"""How the image side is run: by ONNX Runtime where it can be, else by PyTorch.

Both give the same vectors within float32's rounding (docs/batch.md has the measures), so an index
and everything trained on an encoder's vectors and features belong to the weights, whichever way
they run. Which way it is, is decided once, when an encoder is loaded.
"""

import logging
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.eclip.model import EclipModel
from encoders.eclip.weights import GRAPH

logger = logging.getLogger(__name__)

Vectors = NDArray[np.float32]


class ImageOutput(NamedTuple):
    """What the image side gives.

    Attributes:
        vectors: float32 [1, dim], of norm 1.
        features: float32 [1, F].
        maps: of findings, log-odds float32 [1, findings, h, w]; no findings where the model has
            none.
    """

    vectors: Vectors
    features: Vectors
    maps: Vectors


ImageSide = Callable[[torch.Tensor], ImageOutput]
"""One normalised image float32 [1, channels, H, W]. Safe to call from many threads; the same image
gives the same bits."""

PIXELS, VECTORS, FEATURES, MAPS = "pixels", "vectors", "features", "maps"
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
    def run(pixels: torch.Tensor) -> ImageOutput:
        if model.finding_maps is None:
            features, maps = model.image_features(pixels), pixels.new_zeros(len(pixels), 0, 1, 1)
        else:
            features, maps = model.features_and_maps(pixels)
        return ImageOutput(model.project_image(features).numpy(), features.numpy(), maps.numpy())

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
    outputs = [output.name for output in session.get_outputs()]
    without_maps = np.zeros((1, 0, 1, 1), np.float32)

    def run(pixels: torch.Tensor) -> ImageOutput:
        image = np.ascontiguousarray(pixels.numpy())
        given = dict(zip(outputs, session.run(outputs, {PIXELS: image}), strict=True))
        return ImageOutput(given[VECTORS], given[FEATURES], given.get(MAPS, without_maps))

    return run


def _distance(one: ImageSide, other: ImageSide, shape: tuple[int, ...]) -> float:
    """Cosine distance of what two ways make of an image of noise, by vector, features or maps."""
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 4 - 2
    pairs = zip(one(image), other(image), strict=True)
    return max(1 - _cosine(a, b) for a, b in pairs if a.size or b.size)


def _cosine(a: Vectors, b: Vectors) -> float:
    if a.shape != b.shape:
        return -1.0
    return float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b)))
