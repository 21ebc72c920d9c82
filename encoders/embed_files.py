"""Many images to one array of unit vectors on disk, for use in numpy.

``OUT.npy`` (float32 [N, D]), ``OUT.csv`` (a line a row: row, id) and ``OUT.failed.csv`` (id,
reason) where an image could not be read.
"""

import csv
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
    """Embed (id, file) each; one that cannot be read is a line of the failures.

    The array is ``out``, with or without ``.npy``; all files appear whole at the end. ``on_image``
    is told after each image.

    Returns:
        How many images have a row, and how many failed.
    """
    name = out.name.removesuffix(".npy")  # no `with_suffix`: "emb.train" has a dot of its own
    target, table, failed = (out.with_name(name + end) for end in (".npy", ".csv", ".failed.csv"))
    target.parent.mkdir(parents=True, exist_ok=True)
    rows, ids, failures = [], [], []

    def embed(image: tuple[str, Path]) -> tuple[str, NDArray[np.float32] | ImageReadError]:
        image_id, path = image
        try:
            return image_id, encoder.embed_images([read_image(path)])[0]
        except ImageReadError as error:
            return image_id, error

    for image_id, made in map_ahead(embed, images, threads=threads, ahead=2 * threads):
        if isinstance(made, ImageReadError):
            failures.append((image_id, str(made)))
        else:
            ids.append(image_id)
            rows.append(made)
        if on_image:
            on_image()
    beside = target.with_name(f".{name}.new.npy")  # the old array stays where the disk is full
    np.save(beside, np.stack(rows) if rows else np.empty((0, encoder.dim), np.float32))
    listed = _written(table, ("row", "id"), enumerate(ids))
    beside.replace(target)
    listed.replace(table)
    failed.unlink(missing_ok=True)
    if failures:
        _written(failed, ("id", "reason"), failures).replace(failed)
    return len(ids), len(failures)


def _written(path: Path, header: tuple[str, str], rows: Iterable[tuple[object, object]]) -> Path:
    """A table beside the place that it is for."""
    beside = path.with_name(f".{path.name}.new")
    with beside.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return beside
