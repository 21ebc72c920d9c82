"""Many films to one array of unit vectors on disk, for whoever works on with them in numpy.

Owns the three files: ``OUT.npy`` (float32 [N, D]), ``OUT.csv`` (a line a row: row, id) and
``OUT.failed.csv`` (id, reason) where a film could not be read. Knows any encoder by its protocol.
"""

import csv
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from encoders.base import ImageTextEncoder
from encoders.image_io import ImageReadError, read_image


@dataclass(frozen=True, slots=True)
class Embedded:
    """How many films have a row, and how many failed."""

    count: int
    failed: int


def embed_files(
    films: Iterable[tuple[str, Path]],
    *,
    encoder: ImageTextEncoder,
    out: Path,
    on_film: Callable[[], None] | None = None,
) -> Embedded:
    """Embed films one after the other; one that cannot be read is a line of the failures.

    Args:
        films: (id, file) each.
        encoder: of the vectors.
        out: path of the array, with or without ``.npy``. All files appear whole at the end.
        on_film: told after each film.
    """
    rows, ids, failures = [], [], []
    for name, path in films:
        try:
            rows.append(encoder.embed_images([read_image(path)])[0])
            ids.append(name)
        except ImageReadError as error:
            failures.append((name, str(error)))
        if on_film:
            on_film()
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
    return Embedded(len(ids), len(failures))


def _write(path: Path, rows: Iterable[tuple[object, object]]) -> None:
    beside = path.with_name(f".{path.name}-{os.getpid()}")
    with beside.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    beside.replace(path)
