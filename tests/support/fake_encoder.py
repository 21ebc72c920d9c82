"""A fake `ImageTextEncoder` for unit tests: words hashed into a small space. Deterministic, quick.

Texts that share words are near each other; it says nothing about how the real encoder behaves.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from encoders.base import CxrImage


class FakeEncoder:
    """Sums one random direction per word; counts what it was asked for."""

    preprocess_hash = "none"

    def __init__(self, encoder_id: str = "fake@1", dim: int = 16) -> None:
        self.encoder_id = encoder_id
        self.dim = dim
        self.embedded: list[str] = []

    def embed_images(self, images: Sequence[CxrImage]) -> NDArray[np.float32]:
        # by pixels, not by file: headers hold UIDs drawn anew in every run
        return self._rows([hashlib.sha256(image.pixels.tobytes()).hexdigest() for image in images])

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.embedded += texts
        return self._rows(texts)

    def _rows(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.stack(
            [sum(self._direction(word) for word in text.lower().split()) for text in texts]
        )
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)

    def _direction(self, word: str) -> NDArray[np.float64]:
        seed = hashlib.sha256(f"{self.encoder_id} {word}".encode()).digest()[:8]
        return np.random.default_rng(int.from_bytes(seed, "big")).normal(size=self.dim)
