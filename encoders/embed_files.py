"""Many images to one array of unit vectors on disk, for use in numpy.

``OUT.npy`` (float32 [N, D]), ``OUT.csv`` (a line a row: row, id) and ``OUT.failed.csv`` (id,
reason) where an image could not be read.
"""

import csv
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoders.base import ImageEncoder
from encoders.images.image_io import read_image
from encoders.images.raw_image import ImageReadError
from encoders.machine import map_ahead


def embed_files(
    images: Iterable[tuple[str, Path]],
    *,
    encoder: ImageEncoder,
    out: Path,
    threads: int = 1,
    on_image: Callable[[], None] | None = None,
) -> tuple[int, int]:
    """Embed images; one that cannot be read is a line of the failures.

    Args:
        images: (id, file) each.
        encoder: of the vectors.
        out: path of the array, with or without ``.npy``. All files appear whole at the end.
        threads: images that are read and embedded at once.
        on_image: told after each image.

    Returns:
        How many images have a row, and how many failed.
    """
    rows, ids, failures = [], [], []

    def embed(image: tuple[str, Path]) -> tuple[str, NDArray[np.float32] | ImageReadError]:
        name, path = image
        try:
            return name, encoder.embed_images([read_image(path)])[0]
        except ImageReadError as error:
            return name, error

    for name, made in map_ahead(embed, images, threads=threads, ahead=2 * threads):
        if isinstance(made, ImageReadError):
            failures.append((name, str(made)))
        else:
            ids.append(name)
            rows.append(made)
        if on_image:
            on_image()
    target = out.with_suffix(".npy") if out.suffix != ".npy" else out
    target.parent.mkdir(parents=True, exist_ok=True)
    vectors = np.stack(rows) if rows else np.empty((0, encoder.dim), dtype=np.float32)
    failed = target.with_suffix(".failed.csv")
    failed.unlink(missing_ok=True)
    if failures:
        _write(failed, [("id", "reason"), *failures])
    _write(target.with_suffix(".csv"), [("row", "id"), *enumerate(ids)])
    beside = target.with_name(f".{target.stem}-{os.getpid()}.npy")
    np.save(beside, vectors)
    beside.replace(target)
    return len(ids), len(failures)


def _write(path: Path, rows: Iterable[tuple[object, object]]) -> None:
    beside = path.with_name(f".{path.name}-{os.getpid()}")
    with beside.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    beside.replace(path)
