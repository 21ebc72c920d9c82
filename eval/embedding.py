"""Images, reports and prompts of a data set to a vectors file, by our encoder or another model."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoders.base import ImageEncoder, embeds_texts
from encoders.images.path_matching import best_path_matches
from encoders.tabular import printable
from eval.datasets import ImageDataset, prompts
from eval.errors import EvalDataError, Problems, listed
from eval.vectors import Vectors, load_arrays, make_vectors

_SIDE = 16  # of a thumbnail
_AT_ONCE = 32  # images in memory


def embed(
    data: ImageDataset,
    *,
    paths: Mapping[str, Path],
    encoder: ImageEncoder,
    say: Callable[[str], None] = lambda _: None,
) -> Vectors:
    """Embed a data set with an encoder of ours.

    Args:
        data: its images.
        paths: where each lies, by its id.
        encoder: what embeds.
        say: called with the progress.

    Raises:
        EvalDataError: names the images that cannot be read.
    """
    from encoders.images.image_io import read_image  # noqa: PLC0415 - brings pydicom
    from encoders.images.raw_image import ImageReadError  # noqa: PLC0415

    vectors = np.empty((len(data.images), encoder.dim), dtype=np.float32)
    thumbnail = np.empty((len(data.images), _SIDE * _SIDE), dtype=np.float32)
    unreadable: list[str] = []
    for start in range(0, len(data.images), _AT_ONCE):
        block = data.images[start : start + _AT_ONCE]
        part = slice(start, start + len(block))
        images = []
        for image in block:
            path = paths[image.image_id]
            try:
                images.append(read_image(path, name=path.name))
            except ImageReadError as error:
                unreadable.append(printable(f"{image.image_id}: {error}"))
        if not unreadable:  # else the rest is only read, to name every image that cannot be
            vectors[part] = encoder.embed_images(images)
            thumbnail[part] = [_thumbnail(image.pixels) for image in images]
        say(f"{part.stop} of {len(data.images)} images")
    if unreadable:
        raise EvalDataError(
            f"{len(unreadable)} of {len(data.images)} images cannot be read; replace them or take "
            f"them out of the table:\n{listed(unreadable)}"
        )
    texts = [image.text for image in data.images]
    return make_vectors(
        data,
        encoder_id=encoder.encoder_id,
        image=vectors,
        text=_embed_texts(texts, encoder),
        prompt=_embed_texts([each.text for each in prompts(data.classes)], encoder),
        thumbnail=thumbnail,
    )


def import_vectors(data: ImageDataset, path: Path, *, name: str) -> Vectors:
    """Vectors that another model made, with the labels of a data set.

    Args:
        data: the images.
        path: an .npz with ``id`` [M] and ``image`` [M, D], perhaps ``text`` [M, D], and perhaps
            ``prompt`` [P, D]: the sentences of ``cxr-rag eval prompts`` in their order. Ids that
            the data set lacks are passed over.
        name: of the model.

    Raises:
        EvalDataError: an image has no vector, or an array does not fit.
    """
    saved = load_arrays(path)
    if "id" not in saved or "image" not in saved:
        raise EvalDataError(f"{path} has no arrays id and image")
    places = {str(image_id): at for at, image_id in enumerate(saved["id"])}
    missing = [image.image_id for image in data.images if image.image_id not in places]
    if missing:
        raise EvalDataError(f"{path} has no vector for {len(missing)} images, {missing[0]} first")
    order = [places[image.image_id] for image in data.images]
    rows = {
        kind: _rows(saved[kind], len(places), path)[order]
        for kind in ("image", "text")
        if kind in saved
    }
    prompt = saved["prompt"].astype(np.float32) if "prompt" in saved else None
    return make_vectors(data, encoder_id=name, prompt=prompt, **rows)


def _embed_texts(texts: Sequence[str], encoder: ImageEncoder) -> NDArray[np.float32] | None:
    """Rows of NaN for texts that are missing; None by an encoder of images alone."""
    if not embeds_texts(encoder):
        return None
    vectors = np.full((len(texts), encoder.dim), np.nan, dtype=np.float32)
    unique = sorted(set(filter(None, texts)))
    if unique:
        known = dict(zip(unique, encoder.embed_texts(unique), strict=True))
        for row, text in zip(vectors, texts, strict=True):
            if text:
                row[:] = known[text]
    return vectors


def locate(data: ImageDataset, folder: Path) -> dict[str, Path]:
    """File of each image by id: where the table says, or anywhere below the folder by its name.

    Where several files have the name, the one whose folders agree with the table's for longest.

    Raises:
        EvalDataError: names the images that are not there, or that several files or images claim.
    """
    paths = {image.image_id: folder / image.image for image in data.images}
    image_of = {path: image.image for path, image in zip(paths.values(), data.images, strict=True)}
    lost = [image for image in data.images if not paths[image.image_id].is_file()]
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in folder.rglob("*") if lost else ():
        if path.is_file():
            by_name[path.name].append(path)
    problems = Problems(folder)
    for image in lost:
        name = Path(image.image).name
        found = best_path_matches(Path(image.image), by_name[name])
        if len(found) > 1:
            reason = f"{len(found)} files are called {name}: correct the image's path"
            problems.add(image.image_id, reason)
        elif not found or image_of.setdefault(found[0], image.image) != image.image:
            other = f"; the only {name} is another image's" if found else ""
            problems.add(image.image_id, f"there is no image {image.image}{other}")
        else:
            paths[image.image_id] = found[0]
    problems.raise_if_any()
    return paths


def _thumbnail(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean grey of each cell of a 16 x 16 grid."""
    rows, columns = (np.linspace(0, size, _SIDE + 1).astype(int) for size in pixels.shape)
    sums = np.add.reduceat(np.add.reduceat(pixels, rows[:-1], axis=0), columns[:-1], axis=1)
    cells = np.outer(np.diff(rows), np.diff(columns))
    return np.asarray(sums / np.maximum(cells, 1), dtype=np.float32).ravel()


def _rows(rows: NDArray[np.float32], count: int, path: Path) -> NDArray[np.float32]:
    if rows.ndim != 2 or len(rows) != count:
        raise EvalDataError(f"{path}: an array has shape {rows.shape}, not ({count}, D)")
    return rows.astype(np.float32)
