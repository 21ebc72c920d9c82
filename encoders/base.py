"""The interfaces of this package: an image, and an encoder.

Imports numpy only, so that `cxr-rag --help` does not wait for torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray


class View(StrEnum):
    """The projection of a chest X-ray, as far as the file tells."""

    PA = "PA"
    AP = "AP"
    LATERAL = "LATERAL"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True, eq=False)
class CxrImage:
    """One image, ready to view or to embed. Holds no patient data.

    Attributes:
        pixels: float32 [H, W] in [0, 1]; 1 is white, and white is dense (bone), whatever the
            file's photometric interpretation.
        source_sha256: hash of the file's bytes.
        view: UNKNOWN if the file does not tell.
        warnings: sentences for the reader of the image ("no usable window in the file: ...").
    """

    pixels: NDArray[np.float32]
    source_sha256: str
    view: View = View.UNKNOWN
    warnings: tuple[str, ...] = ()


class EncoderIdentity(Protocol):
    """Two encoders with the same identity give the same vectors."""

    @property
    def encoder_id(self) -> str:
        """Name and content hash of the weights, as stored in an index, e.g. ``eclip-s@3fa9c1``."""

    @property
    def preprocess_hash(self) -> str:
        """Hash of the evaluation transform's settings."""

    @property
    def dim(self) -> int:
        """Length of a vector."""


class ImageEncoder(EncoderIdentity, Protocol):
    """Embeds images.

    The same list of inputs gives the same bits; an input alone and in a batch gives vectors that
    agree within 1e-5.
    """

    def embed_images(self, images: Sequence[CxrImage]) -> NDArray[np.float32]:
        """Images to vectors: float32 [N, dim], rows of norm 1."""


class ImageTextEncoder(ImageEncoder, Protocol):
    """Embeds images and texts into one space."""

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts to vectors: float32 [N, dim], rows of norm 1. An empty text is a ValueError."""


def unit_vector(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """The direction of a vector: float32 [dim], norm 1."""
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), np.float32)


def embeds_texts(encoder: ImageEncoder) -> TypeGuard[ImageTextEncoder]:
    """Whether an encoder also embeds texts."""
    return hasattr(encoder, "embed_texts")
