"""The heatmap processor in front of a frozen encoder: an image's vector, drawn to where one looked.

Owns what a region does to the query and the processor's file. The towers are not touched, so an
index, a label head and a refusal of the encoder stay valid. Knows nothing of how it was trained
(`encoders.training.region_steering`) nor of where heatmaps come from.

Source: Kumar & Marttinen, arXiv 2403.10153, for the processor; putting it to use at inference is
ours.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from encoders.base import CxrImage
from encoders.eclip.heatmap import build_processor
from encoders.eclip.model import EclipModel
from encoders.eclip.weights import SHIPPED, load_pretrained
from encoders.packaged_weights import EncoderError
from encoders.preprocess import EvalTransform
from encoders.region_query import normalized_mean

PROCESSOR = "steering.safetensors"
"""Beside the weights of a model that steers by its processor. The shipped one has none: there a
crop does as well (docs/experiments.md)."""

_KEY = "steering"


def save_processor(path: Path, processor: nn.Module, facts: dict[str, Any]) -> None:
    """Write a processor in half precision (1.4 MB), beside and renamed.

    Args:
        path: the file.
        processor: as `build_processor` made it.
        facts: ``processor`` (its settings), ``encoder_id``, and what else should be known.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".partial")
    tensors = {name: value.half().contiguous() for name, value in processor.state_dict().items()}
    save_file(tensors, beside, metadata={_KEY: json.dumps(facts)})
    beside.chmod(0o644)  # safetensors makes it private to its writer
    beside.replace(path)


def load_processor(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """A frozen processor and the facts it was saved with.

    Raises:
        EncoderError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts: dict[str, Any] = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        processor = build_processor(facts["processor"])
        processor.load_state_dict(tensors, strict=True)
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise EncoderError(f"cannot read {path}: {error!r}; restore it") from error
    return processor.eval().requires_grad_(False), facts


def load_steering(encoder_id: str, folder: Path | None = None) -> "ProcessorSteering | None":
    """The trained steering of a model folder; None where it has none.

    Args:
        encoder_id: of the encoder in use.
        folder: of the model; None is the shipped one.

    Raises:
        EncoderError: the processor is damaged, or was trained in front of another encoder.
    """
    folder = SHIPPED if folder is None else folder
    path = folder / PROCESSOR
    if not path.is_file():
        return None
    processor, facts = load_processor(path)
    if facts.get("encoder_id") != encoder_id:
        raise EncoderError(
            f"{PROCESSOR} was trained in front of {facts.get('encoder_id')}, the encoder is "
            f"{encoder_id}; train it again (encoders.training.region_steering), or remove it"
        )
    model, transform = load_pretrained(folder)
    return ProcessorSteering(model, transform, processor)


def see_through(
    processor: nn.Module, model: EclipModel, pixels: Tensor, heatmaps: Tensor
) -> Tensor:
    """Vectors of images as the processor shows them: float32 [N, dim], rows of norm 1.

    Args:
        processor: (image, heatmap) to image.
        model: frozen.
        pixels: normalised images float32 [N, channels, H, W].
        heatmaps: float32 [N, H, W] in [0, 1].
    """
    return model.encode_image(processor(pixels, heatmaps))


class ProcessorSteering:
    """Steers by the trained processor: the mean of the image's vector and the processed image's.

    Args:
        model: frozen, in evaluation mode.
        transform: the model's.
        processor: trained in front of exactly this model.
    """

    def __init__(self, model: EclipModel, transform: EvalTransform, processor: nn.Module) -> None:
        self._model = model
        self._transform = transform
        self._processor = processor

    @torch.inference_mode()
    def steer(
        self, image: CxrImage, vector: NDArray[np.float32], heat: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The vector to ask with.

        Args:
            image: the whole image.
            vector: its own float32 [dim], norm 1.
            heat: float32 [H, W] in [0, 1], over the whole image, of any size.
        """
        side = self._transform.size
        pixels = self._transform(image).unsqueeze(0)
        small = self._transform.resize(torch.from_numpy(np.ascontiguousarray(heat)))
        seen = see_through(self._processor, self._model, pixels, small.reshape(1, side, side))
        return normalized_mean(vector, seen[0].numpy())
