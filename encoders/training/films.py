"""Films at training size, decoded once and kept as bytes on disk.

Owns the cache file: one uint8 array [films, side, side], mapped into memory. A film costs 64 KiB
at 256 pixels, so that decoding never slows a step.
"""

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.image_io import read_image
from encoders.preprocess import resize_square

_log = logging.getLogger(__name__)

LAYOUT = 1
"""Goes up when the content of the cache would change for the same films."""


def load_films(paths: Sequence[Path], *, side: int, cache: Path) -> NDArray[np.uint8]:
    """uint8 [len(paths), side, side], squashed to a square, 255 is white.

    Args:
        paths: films, read by `encoders.image_io`.
        side: pixels.
        cache: folder for the decoded copy; another list of films makes another file.

    Raises:
        encoders.image_io.ImageReadError: a film cannot be read.
    """
    names = "\n".join(str(path) for path in paths)
    key = hashlib.sha256(f"{LAYOUT} {side}\n{names}".encode()).hexdigest()[:16]
    target = cache / f"films-{key}.npy"
    if not target.exists():
        _write(paths, side=side, target=target)
    films: NDArray[np.uint8] = np.load(target, mmap_mode="r")
    return films


def _write(paths: Sequence[Path], *, side: int, target: Path) -> None:
    """Decode beside the target and rename: a cut leaves no half file under the right name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    films = np.empty((len(paths), side, side), dtype=np.uint8)
    for row, path in enumerate(paths):
        pixels = resize_square(torch.from_numpy(read_image(path).pixels), side)
        films[row] = pixels.mul(255).round().clamp(0, 255).byte().numpy()
        if (row + 1) % 1000 == 0 or row + 1 == len(paths):
            _log.info("decoded %d of %d films", row + 1, len(paths))
    beside = target.with_name(f".{target.stem}-{os.getpid()}.npy")
    np.save(beside, films)
    beside.replace(target)
