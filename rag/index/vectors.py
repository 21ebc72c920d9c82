"""Vectors for texts: from the index, from a killed indexing's journal, or from the encoder.

Equal texts are embedded once, so that they have equal vectors to the last bit.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoders.base import ImageTextEncoder
from rag.errors import StoreError
from rag.index.writer import VectorOf
from rag.schema import ReportRecord
from rag.store.catalogue import Edition
from rag.store.chroma import Progress
from rag.store.disk import disk_errors
from rag.store.journal import EmbeddingJournal
from rag.store.side import Kind, SideVectors, read_sides

_BATCH = 256  # large, as a batch repeats sentences; small, as a kill loses what is in the works


def embed_missing(
    texts: Mapping[str, str],
    encoder: ImageTextEncoder,
    directory: Path,
    old: Edition | None,
    *,
    side: SideVectors | None = None,
    progress: Progress,
) -> tuple[dict[str, NDArray[np.float32]], int]:
    """Embed the texts that have no vector yet, and keep each batch on the disk at once.

    Args:
        texts: all that need a vector, by hash.
        encoder: embeds texts.
        directory: of the store.
        old: an edition by the same encoder, whose vectors serve again.
        side: sentences of that edition, which serve too.
        progress: told ("embed", done, total).

    Returns:
        Vectors by hash, and how many texts were embedded for it.
    """
    journal = EmbeddingJournal(directory, encoder)
    with disk_errors(directory):
        vectors = journal.read()
    if side is not None:
        vectors |= dict(zip(side.reports, side.vectors, strict=True))
    if old is not None:
        first = {
            key: old.catalogue.texts.rows(key)[0] for key in texts.keys() & old.catalogue.texts.keys
        }
        vectors |= {key: np.asarray(old.vectors[row]) for key, row in first.items()}
    missing = [(key, text) for key, text in texts.items() if key not in vectors]
    missing.sort(key=lambda item: (len(item[1]), item[0]))  # texts of like length share a batch
    for start in range(0, len(missing), _BATCH):
        batch = missing[start : start + _BATCH]
        rows = checked(encoder.embed_texts([text for _, text in batch]), encoder, len(batch))
        with disk_errors(directory):
            journal.append([key for key, _ in batch], rows)
        vectors.update(zip((key for key, _ in batch), rows, strict=True))
        progress("embed", start + len(batch), len(missing))
    return vectors, len(missing)


def vectors_of(edition: Edition) -> VectorOf:
    """The vectors an edition has for its own records."""

    def vector_of(record: ReportRecord) -> NDArray[np.float32]:
        return np.asarray(edition.vectors[edition.catalogue.row_of[record.report_id]])

    return vector_of


def sides_of(edition: Edition, records: Iterable[ReportRecord]) -> dict[Kind, SideVectors]:
    """What an edition has beside the vectors of some of its records."""
    names = frozenset(record.report_id for record in records)
    left = {kind: side.of(names) for kind, side in read_sides(edition).items()}
    return {kind: side for kind, side in left.items() if side.reports}


def checked(
    vectors: NDArray[np.float32], encoder: ImageTextEncoder, count: int
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
