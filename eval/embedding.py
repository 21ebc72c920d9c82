"""Embeds the images, reports and prompts of a data set, or imports another model's vectors."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoders.base import ImageEncoder, embeds_texts
from encoders.images.path_matching import best_path_matches
from encoders.tabular import printable
from eval.datasets import ImageDataset, prompts
from eval.errors import EvalDataError, Problems, bullet_list
from eval.vectors import Vectors, load_arrays, make_vectors

_THUMBNAIL_SIZE = 16
_BATCH_SIZE = 32


def embed(
    data: ImageDataset,
    *,
    paths: Mapping[str, Path],
    encoder: ImageEncoder,
    say: Callable[[str], None] = lambda _: None,
) -> Vectors:
    """Embed a data set.

    Args:
        data: its images.
        paths: file of each image, by id.
        encoder: any encoder.
        say: called with the progress.

    Raises:
        EvalDataError: names the images that cannot be read.
    """
    from encoders.image_io import read_image  # noqa: PLC0415 - brings pydicom
    from encoders.images.raw_image import ImageReadError  # noqa: PLC0415

    vectors = np.empty((len(data.images), encoder.dim), dtype=np.float32)
    thumbnail = np.empty((len(data.images), _THUMBNAIL_SIZE**2), dtype=np.float32)
    unreadable: list[str] = []
    for start in range(0, len(data.images), _BATCH_SIZE):
        batch = data.images[start : start + _BATCH_SIZE]
        rows = slice(start, start + len(batch))
        images = []
        for image in batch:
            path = paths[image.image_id]
            try:
                images.append(read_image(path, name=path.name))
            except ImageReadError as error:
                unreadable.append(printable(f"{image.image_id}: {error}"))
        if not unreadable:  # otherwise only read on, to name every unreadable image
            vectors[rows] = encoder.embed_images(images)
            thumbnail[rows] = [_thumbnail(image.pixels) for image in images]
        say(f"{rows.stop} of {len(data.images)} images")
    if unreadable:
        raise EvalDataError(
            f"{len(unreadable)} of {len(data.images)} images cannot be read; replace them or "
            f"remove them from the table:\n{bullet_list(unreadable)}"
        )
    texts = [image.text for image in data.images]
    return make_vectors(
        data,
        encoder_id=encoder.encoder_id,
        image=vectors,
        text=_embed_texts(texts, encoder),
        prompt=_embed_texts([prompt.text for prompt in prompts(data.classes)], encoder),
        thumbnail=thumbnail,
    )


def import_vectors(data: ImageDataset, path: Path, *, name: str) -> Vectors:
    """Another model's vectors, with the labels of a data set.

    Args:
        data: the images.
        path: an .npz with ``id`` [M] and ``image`` [M, D], perhaps ``text`` [M, D], and perhaps
            ``prompt`` [P, D] in the order of ``cxr-rag eval prompts``. Ids that the data set lacks
            are ignored.
        name: of the model.

    Raises:
        EvalDataError: an image has no vector, or an array does not fit.
    """
    saved = load_arrays(path)
    if "id" not in saved or "image" not in saved:
        raise EvalDataError(f"{path} has no arrays id and image")
    row_of = {str(image_id): row for row, image_id in enumerate(saved["id"])}
    missing = [image.image_id for image in data.images if image.image_id not in row_of]
    if missing:
        raise EvalDataError(f"{path} has no vector for {len(missing)} images, {missing[0]} first")
    order = [row_of[image.image_id] for image in data.images]
    arrays = {kind: saved[kind] for kind in ("image", "text") if kind in saved}
    for array in arrays.values():
        if array.ndim != 2 or len(array) != len(row_of):
            raise EvalDataError(f"{path}: an array has shape {array.shape}, not ({len(row_of)}, D)")
    rows = {kind: array[order].astype(np.float32) for kind, array in arrays.items()}
    prompt = saved["prompt"].astype(np.float32) if "prompt" in saved else None
    return make_vectors(data, encoder_id=name, prompt=prompt, **rows)


def _embed_texts(texts: Sequence[str], encoder: ImageEncoder) -> NDArray[np.float32] | None:
    """Rows of NaN for missing texts; None if the encoder embeds images only."""
    if not embeds_texts(encoder):
        return None
    vectors = np.full((len(texts), encoder.dim), np.nan, dtype=np.float32)
    unique = sorted(set(filter(None, texts)))
    if unique:
        vector_of = dict(zip(unique, encoder.embed_texts(unique), strict=True))
        for row, text in zip(vectors, texts, strict=True):
            if text:
                row[:] = vector_of[text]
    return vectors


def find_images(data: ImageDataset, folder: Path) -> dict[str, Path]:
    """File of each image by id: at the table's path, or anywhere below the folder by its name.

    Of several files with the name, the one that shares most parent folders with the table's path.

    Raises:
        EvalDataError: names the images with no file, or with several.
    """
    paths = {image.image_id: folder / image.image for image in data.images}
    owner = {path: image.image for path, image in zip(paths.values(), data.images, strict=True)}
    missing = [image for image in data.images if not paths[image.image_id].is_file()]
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in folder.rglob("*") if missing else ():
        if path.is_file():
            by_name[path.name].append(path)
    problems = Problems(folder)
    for image in missing:
        name = Path(image.image).name
        found = best_path_matches(Path(image.image), by_name[name])
        if len(found) > 1:
            reason = f"{len(found)} files are called {name}: correct the image's path"
            problems.add(image.image_id, reason)
        elif not found or owner.setdefault(found[0], image.image) != image.image:
            other = f"; the only {name} is another image's" if found else ""
            problems.add(image.image_id, f"there is no image {image.image}{other}")
        else:
            paths[image.image_id] = found[0]
    problems.raise_if_any()
    return paths


def _thumbnail(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean grey value of each cell of a 16 x 16 grid."""
    rows, columns = (np.linspace(0, n, _THUMBNAIL_SIZE + 1).astype(int) for n in pixels.shape)
    sums = np.add.reduceat(np.add.reduceat(pixels, rows[:-1], axis=0), columns[:-1], axis=1)
    cell_sizes = np.outer(np.diff(rows), np.diff(columns))
    return np.asarray(sums / np.maximum(cell_sizes, 1), dtype=np.float32).ravel()
