"""Images at training size, decoded once and kept as bytes on disk.

Owns the cache file: one uint8 array [images, side, side], mapped into memory. An image costs 64 KiB
at 256 pixels, so that decoding never slows a step. Threads decode: Pillow, torch and the DICOM
decoders' own processes do their work outside the interpreter's lock. The array is written as it
grows and never held in memory; a decoding that is cut resumes where it was.
"""

import hashlib
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from encoders.images.image_io import read_image
from encoders.images.raw_image import ImageReadError
from encoders.preprocess import resize_square
from encoders.training.dataset import TrainingDataError

_log = logging.getLogger(__name__)

LAYOUT = 1
"""Goes up when the content of the cache would change for the same images."""

_AT_ONCE = 512
"""Images between two notes of how far a decoding came."""

_SHOWN = 5

Images = NDArray[np.uint8]


def load_images(paths: Sequence[Path], *, side: int, cache: Path) -> Images:
    """uint8 [len(paths), side, side], squashed to a square, 255 is white.

    Args:
        paths: images, read by `encoders.images.image_io`.
        side: pixels.
        cache: folder for the decoded copy; another list of images makes another file.

    Raises:
        TrainingDataError: images cannot be read; the message names the first ones and why. What was
            decoded is kept: the same images, repaired, go on from there.
    """
    if not paths:
        return np.empty((0, side, side), dtype=np.uint8)
    names = "\n".join(str(path) for path in paths)
    key = hashlib.sha256(f"{LAYOUT} {side}\n{names}".encode()).hexdigest()[:16]
    target = cache / f"images-{key}.npy"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):  # of several ranks one decodes, the rest wait
            if not target.exists():
                _write(paths, side=side, target=target)
    images: Images = np.load(target, mmap_mode="r")
    return images


def _write(paths: Sequence[Path], *, side: int, target: Path) -> None:
    """Decode beside the target and rename: a cut leaves no half file under the right name."""
    beside, note = target.with_name(f".{target.name}"), target.with_suffix(".done")
    images, done = _open_half(beside, note, shape=(len(paths), side, side))
    failed: list[str] = []

    def decode(row: int) -> None:
        try:
            pixels = resize_square(torch.from_numpy(read_image(paths[row]).pixels), side)
        except ImageReadError as error:
            failed.append(f"{paths[row]}: {error}")
        else:
            images[row] = pixels.mul(255).round().clamp(0, 255).byte().numpy()

    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        for start in range(done, len(paths), _AT_ONCE):
            stop = min(start + _AT_ONCE, len(paths))
            list(pool.map(decode, range(start, stop)))
            _log.info("decoded %d of %d images", stop, len(paths))
            if not failed:
                images.flush()
                note.write_text(str(stop), encoding="ascii")
    if failed:
        shown = "\n".join(sorted(failed)[:_SHOWN])
        raise TrainingDataError(
            f"{len(failed)} of {len(paths)} images cannot be read; repair them or take them out of "
            f"the data. The first:\n{shown}"
        )
    beside.replace(target)
    note.unlink(missing_ok=True)


def _open_half(
    beside: Path, note: Path, *, shape: tuple[int, int, int]
) -> tuple["np.memmap[tuple[int, int, int], np.dtype[np.uint8]]", int]:
    """The array that is being written, and how many images are in it already."""
    try:
        done = int(note.read_text(encoding="ascii"))
        images = np.lib.format.open_memmap(beside, mode="r+")
        if images.shape == shape and images.dtype == np.uint8:
            return images, done
    except (OSError, ValueError):
        pass  # nothing there, or cut before the first note
    return np.lib.format.open_memmap(beside, mode="w+", dtype=np.uint8, shape=shape), 0
