"""Embeds many images into one array on disk, for use in numpy.

Writes ``OUT.npy`` (float32 [N, D], rows of norm 1), ``OUT.csv`` (row, id) and, if images could not
be read, ``OUT.failed.csv`` (id, reason).
"""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoders.base import ImageEncoder
from encoders.image_io import read_image
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
    """Embed images, given as (id, file).

    Files are written at the end and replaced atomically. ``out`` may end in ``.npy`` or not;
    ``on_image`` is called after each image.

    Returns:
        The numbers of embedded and of failed images.
    """
    name = out.name.removesuffix(".npy")  # not `with_suffix`: "emb.train" has a dot of its own
    array, table, failed = (out.with_name(name + end) for end in (".npy", ".csv", ".failed.csv"))
    array.parent.mkdir(parents=True, exist_ok=True)
    rows, ids, failures = [], [], []

    def embed(image: tuple[str, Path]) -> tuple[str, NDArray[np.float32] | ImageReadError]:
        image_id, path = image
        try:
            return image_id, encoder.embed_images([read_image(path)])[0]
        except ImageReadError as error:
            return image_id, error

    for image_id, result in map_ahead(embed, images, threads=threads, ahead=2 * threads):
        if isinstance(result, ImageReadError):
            failures.append((image_id, str(result)))
        else:
            ids.append(image_id)
            rows.append(result)
        if on_image:
            on_image()
    temporary = array.with_name(f".{name}.new.npy")  # a full disk leaves the old array
    np.save(temporary, np.stack(rows) if rows else np.empty((0, encoder.dim), np.float32))
    new_table = _write_csv(table, ("row", "id"), enumerate(ids))
    temporary.replace(array)
    new_table.replace(table)
    failed.unlink(missing_ok=True)
    if failures:
        _write_csv(failed, ("id", "reason"), failures).replace(failed)
    return len(ids), len(failures)


def _write_csv(path: Path, header: tuple[str, str], rows: Iterable[tuple[object, object]]) -> Path:
    """Write a temporary file beside ``path``, to replace it."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return temporary
