"""Embeds what has no vector yet: texts, and images of the indexed studies.

Each batch is on the disk before the next is begun. Equal texts are embedded once, so that they have
equal vectors to the last bit.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from encoders.base import CxrImage, ImageEncoder, embeds_texts
from rag.corpus.records import Problem, text_hash
from rag.errors import StoreError
from rag.index.cache import KEY_LENGTH, EmbeddingCache
from rag.index.info import Progress
from rag.schema import ReportRecord

Images = Mapping[str, Sequence[Path]]
"""Study id -> files of its images."""

NO_IMAGES: Images = MappingProxyType({})

_TEXTS = 256  # large, as a batch repeats sentences; small, as a kill loses what is in the works
_IMAGES = 16


def embed_texts(
    records: Iterable[ReportRecord],
    encoder: ImageEncoder,
    cache: EmbeddingCache,
    *,
    progress: Progress,
) -> int:
    """Embed the records' texts that are not in the cache; returns how many that were.

    An encoder of images alone has no vectors for texts: each gets a random one of its own, which
    keeps Chroma's records apart and which no query asks for (`ReportIndex.retrieve_by_images`).

    ``progress`` is told ("embed", done, total).
    """
    texts = {text_hash(record.text): record.text for record in records}
    missing = [(key, text) for key, text in texts.items() if key not in cache]
    missing.sort(key=lambda item: (len(item[1]), item[0]))  # texts of like length share a batch
    for start in range(0, len(missing), _TEXTS):
        batch = missing[start : start + _TEXTS]
        if embeds_texts(encoder):
            rows = encoder.embed_texts([text for _, text in batch])
        else:
            rows = _random_rows([key for key, _ in batch], encoder.dim)
        cache.append([key for key, _ in batch], _checked(rows, encoder, len(batch)))
        progress("embed", start + len(batch), len(missing))
    return len(missing) if embeds_texts(encoder) else 0


def embed_images(
    images: Images,
    records: Iterable[ReportRecord],
    encoder: ImageEncoder,
    cache: EmbeddingCache,
    *,
    progress: Progress,
) -> tuple[dict[str, set[str]], int, list[Problem]]:
    """Read images of studies that have a report, and embed those that are not in the cache.

    Args:
        images: by study; those that cannot be read or show nothing become problems.
        records: all that the index will hold.
        encoder: embeds the images.
        cache: where vectors are and go.
        progress: told ("images", done, total).

    Returns:
        Key of an image (hash of its file) -> ids of the reports it stands for; how many were
        embedded; and problems.
    """
    names: dict[str, list[str]] = {}
    for record in records:
        names.setdefault(record.study_id, []).append(record.report_id)
    todo = [(names[study], path) for study in images if study in names for path in images[study]]
    found: dict[str, set[str]] = {}
    problems: list[Problem] = []
    embedded = 0
    for start in range(0, len(todo), _IMAGES):
        batch = todo[start : start + _IMAGES]
        new: dict[str, CxrImage] = {}
        for reports, image in _read(batch, problems):
            key = image.source_sha256[:KEY_LENGTH]
            found.setdefault(key, set()).update(reports)
            if key not in cache:
                new[key] = image
        if new:
            rows = encoder.embed_images(list(new.values()))
            cache.append(list(new), _checked(rows, encoder, len(new)))
            embedded += len(new)
        progress("images", start + len(batch), len(todo))
    return found, embedded, problems


def _random_rows(keys: Iterable[str], dim: int) -> NDArray[np.float32]:
    """Unit rows that follow from the keys, [keys, dim]."""
    rows = np.stack([np.random.default_rng(int(key, 16)).normal(size=dim) for key in keys])
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _read(
    batch: Iterable[tuple[list[str], Path]], problems: list[Problem]
) -> Iterator[tuple[list[str], CxrImage]]:
    from encoders.images.image_io import BLANK, read_image  # noqa: PLC0415 - pydicom
    from encoders.images.raw_image import ImageReadError  # noqa: PLC0415

    for reports, path in batch:
        try:
            image = read_image(path)
        except ImageReadError as error:
            reason = f"an image cannot be read: {error.reason.value}"
            problems.append(Problem(path.name, reason, reports[0]))
            continue
        if BLANK in image.warnings:
            problems.append(Problem(path.name, "an image shows nothing", reports[0]))
        else:
            yield reports, image


def _checked(
    vectors: NDArray[np.float32], encoder: ImageEncoder, count: int
) -> NDArray[np.float32]:
    """What an encoder gave, if it is what its protocol promises."""
    rows = np.asarray(vectors, np.float32)
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    shape = (count, encoder.dim)
    if rows.shape != shape or not np.isfinite(norms).all() or abs(norms - 1).max() > 1e-3:
        raise StoreError(
            f"encoder {encoder.encoder_id} gave {rows.shape} instead of unit rows {shape}, or "
            "values that are not finite: it cannot be indexed with"
        )
    return np.asarray(rows / norms, np.float32)
