"""The trained model as the product's encoder: images and report texts to unit vectors.

Owns `EclipEncoder` and `load_encoder`. Everything here is deterministic and on the CPU: an index
and its queries must live in one space, whichever machine made them.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.base import CxrImage
from encoders.eclip.backend import Backend, ImageOutput, ImageSide, image_side, in_torch
from encoders.eclip.model import EclipModel
from encoders.eclip.weights import SHIPPED, content_hash, load_pretrained
from encoders.packaged_weights import EncoderError
from encoders.preprocess import EvalTransform

_TEXTS_AT_ONCE = 512
"""Bounds the memory; enough for repeated sentences to be encoded once."""


class EclipEncoder:
    """An `encoders.base.ImageTextEncoder` over an eCLIP model.

    Args:
        model: in evaluation mode.
        transform: the one it was trained with.
        encoder_id: name and content hash.
        image_side: what runs the model's image side; PyTorch unless it is given.
    """

    def __init__(
        self,
        model: EclipModel,
        *,
        transform: EvalTransform,
        encoder_id: str,
        image_side: ImageSide | None = None,
    ) -> None:
        self._model = model
        self._image_side = image_side or in_torch(model)
        self._transform = transform
        self._encoder_id = encoder_id

    @property
    def encoder_id(self) -> str:
        """Name and content hash of the weights, e.g. ``eclip-lite0@3fa9c1d2e4b5``."""
        return self._encoder_id

    @property
    def preprocess_hash(self) -> str:
        """Hash of the evaluation transform's settings."""
        return self._transform.hash

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._model.config.dim

    def embed_images(self, images: Sequence[CxrImage]) -> NDArray[np.float32]:
        """Images to float32 [N, dim], rows of norm 1.

        One image at a time: its vector cannot depend on the others. To embed many images, call from
        several threads, as `encoders.embed_files` does.
        """
        vectors = np.empty((len(images), self.dim), dtype=np.float32)
        for row, image in enumerate(images):
            vectors[row] = self.outputs(image).vectors[0]
        return vectors

    @property
    def findings(self) -> tuple[str, ...]:
        """What the encoder has maps of; empty where it has none."""
        return self._model.config.findings

    def finding_maps(self, image: CxrImage) -> NDArray[np.float32]:
        """Log-odds of each of `findings` by place, float32 [findings, h, w] over the image."""
        maps: NDArray[np.float32] = self.outputs(image).maps[0]
        return maps

    def outputs(self, image: CxrImage) -> ImageOutput:
        """Vector, features and finding maps of an image, from one pass."""
        return self._image_side(self._transform(image).unsqueeze(0))

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts (reports or single sentences) to float32 [N, dim], rows of norm 1.

        Raises:
            ValueError: a text is empty.
        """
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        for at in range(0, len(texts), _TEXTS_AT_ONCE):
            prepared = self._model.prepare_texts(texts[at : at + _TEXTS_AT_ONCE])
            vectors[at : at + _TEXTS_AT_ONCE] = self._model.encode_text(prepared).numpy()
        return vectors


def load_encoder(
    folder: Path | None = None, *, backend: Backend | str = Backend.AUTO
) -> EclipEncoder:
    """The encoder of a model folder; None is the one that ships with this package.

    Args:
        folder: of the model.
        backend: "auto" runs the image side in ONNX Runtime where it can be, "torch" does not.

    Raises:
        EncoderError: a file is missing, damaged or does not fit, or a package with frozen weights
            is not installed (the message says which, and how to install it).
    """
    folder = SHIPPED if folder is None else folder
    if not folder.is_dir():
        raise EncoderError(f"no model folder at {folder}; train one, or restore the shipped one")
    model, transform = load_pretrained(folder)
    name = f"{model.config.name}@{content_hash(folder)}"
    shape = (1, transform.channels, transform.size, transform.size)
    fast = image_side(model, folder, shape=shape) if Backend(backend) is Backend.AUTO else None
    return EclipEncoder(model, transform=transform, encoder_id=name, image_side=fast)
