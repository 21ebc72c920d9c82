"""Embeds the texts and images of an index that have no vector yet, and caches the vectors.

Each batch is on disk before the next one starts, so a killed indexing loses at most one batch.
Equal texts are embedded once, so their vectors are equal to the last bit.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from encoders.base import CxrImage, EncoderIdentity, ImageEncoder, embeds_texts
from rag.atomic_io import explain_disk_errors
from rag.corpus.records import Problem, text_hash
from rag.errors import StoreError
from rag.index.info import Progress
from rag.schema import ReportRecord

CACHE_FILE = "embeddings.cache"
_TABLE = "CREATE TABLE IF NOT EXISTS vectors (encoder TEXT, key TEXT, vector BLOB)"
_BY_KEY = "CREATE UNIQUE INDEX IF NOT EXISTS by_key ON vectors (encoder, key)"

Images = Mapping[str, Sequence[Path]]
"""Study id -> files of its images."""

NO_IMAGES: Images = MappingProxyType({})

_TEXT_BATCH_SIZE = 256  # large: a batch shares repeated sentences; small: a kill loses less
_IMAGE_BATCH_SIZE = 16
_KEY_LENGTH = 32  # leading hex digits of a SHA-256


class EmbeddingCache:
    """Vectors of one encoder by content hash: an SQLite file beside the index. One writer.

    A damaged file, or one of an earlier version, is discarded.

    Args:
        directory: of the index.
        encoder: whose vectors.
        read_only: never create or change the file; an unusable one counts as empty.

    Raises:
        StoreError: the disk cannot be read or written.
    """

    def __init__(
        self, directory: Path, encoder: EncoderIdentity, *, read_only: bool = False
    ) -> None:
        self._directory = directory
        self._path = directory / CACHE_FILE
        self._mode = "ro" if read_only else "rwc"
        self._dim = encoder.dim
        self._encoder = json.dumps([encoder.encoder_id, encoder.preprocess_hash, encoder.dim])
        self._keys: set[str] = set()
        try:
            self._read_keys()
        except StoreError as error:
            if read_only:
                return
            if not _is_damage(error.__cause__):
                raise
            with explain_disk_errors(directory, StoreError):
                self._path.unlink(missing_ok=True)
            self._read_keys()

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def vectors(self, keys: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of cached keys, in their order: float32 [len(keys), dim]."""
        with self._connection() as connection:
            rows = connection.execute(
                "SELECT key, vector FROM vectors WHERE encoder = ? AND key IN "
                "(SELECT value FROM json_each(?))",
                (self._encoder, json.dumps(list(keys))),
            )
            found = {key: np.frombuffer(vector, "<f4") for key, vector in rows}
        return np.array([found[key] for key in keys], np.float32).reshape(len(keys), self._dim)

    def append(self, keys: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Add vectors; returns when they are on disk."""
        rows = (
            (self._encoder, key, vector.astype("<f4").tobytes())
            for key, vector in zip(keys, vectors, strict=True)
        )
        with self._connection() as connection, connection:
            connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)
        self._keys.update(keys)

    def keep(self, keys: Iterable[str]) -> None:
        """Delete all other vectors, so that nothing is left of a removed report."""
        self._keys.intersection_update(keys)
        with self._connection() as connection:
            connection.execute("PRAGMA secure_delete = ON")
            with connection:
                deleted = connection.execute(
                    "DELETE FROM vectors WHERE encoder != ? OR key NOT IN "
                    "(SELECT value FROM json_each(?))",
                    (self._encoder, json.dumps(list(self._keys))),
                )
            if deleted.rowcount:
                connection.execute("VACUUM")

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        uri = f"{self._path.absolute().as_uri()}?mode={self._mode}"
        with (
            explain_disk_errors(self._directory, StoreError),
            closing(sqlite3.connect(uri, timeout=60, uri=True)) as connection,
        ):
            yield connection

    def _read_keys(self) -> None:
        with self._connection() as connection:
            ((state,),) = connection.execute("PRAGMA quick_check(1)")
            if state != "ok":
                raise sqlite3.DatabaseError(state)
            if self._mode == "rwc":
                connection.execute(_TABLE)
                connection.execute(_BY_KEY)
            rows = connection.execute("SELECT key FROM vectors WHERE encoder = ?", (self._encoder,))
            self._keys = {key for (key,) in rows}


def _is_damage(error: object) -> bool:
    """Whether a file is broken or has other columns, rather than locked or unreachable."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)  # `quick_check` raises none
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


def embed_texts(
    records: Iterable[ReportRecord],
    encoder: ImageEncoder,
    cache: EmbeddingCache,
    *,
    progress: Progress,
) -> int:
    """Embed the records' texts that are not in the cache; returns how many.

    An image-only encoder has no vectors for texts: each text gets a random vector of its own, which
    keeps Chroma's records apart and which no query uses (`ReportIndex.query_by_images`).

    ``progress`` is called as ("embed", done, total).
    """
    texts = {text_hash(record.text): record.text for record in records}
    missing = [(key, text) for key, text in texts.items() if key not in cache]
    missing.sort(key=lambda item: (len(item[1]), item[0]))  # texts of similar length share a batch
    for start in range(0, len(missing), _TEXT_BATCH_SIZE):
        batch = missing[start : start + _TEXT_BATCH_SIZE]
        keys = [key for key, _ in batch]
        if embeds_texts(encoder):
            vectors = encoder.embed_texts([text for _, text in batch])
        else:
            vectors = _random_vectors(keys, encoder.dim)
        cache.append(keys, _validated(vectors, encoder, len(batch)))
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
    """Read the images of studies that have a report, and embed those that are not in the cache.

    Unreadable and blank images become problems. ``progress`` is called as ("images", done, total).

    Returns:
        Image key (hash of its file) -> ids of its study's reports; the number of images embedded;
        problems.
    """
    if not images:
        return {}, 0, []
    from encoders.image_io import BLANK_WARNING, read_image  # noqa: PLC0415 - pydicom
    from encoders.images.raw_image import ImageReadError  # noqa: PLC0415

    ids_by_study: dict[str, list[str]] = {}
    for record in records:
        ids_by_study.setdefault(record.study_id, []).append(record.report_id)
    todo = [
        (ids_by_study[study], path)
        for study in images
        if study in ids_by_study
        for path in images[study]
    ]
    reports_by_image: dict[str, set[str]] = {}
    problems: list[Problem] = []
    embedded = 0
    for start in range(0, len(todo), _IMAGE_BATCH_SIZE):
        batch = todo[start : start + _IMAGE_BATCH_SIZE]
        new: dict[str, CxrImage] = {}
        for report_ids, path in batch:
            try:
                image = read_image(path)
            except ImageReadError as error:
                reason = f"an image cannot be read: {error.reason.value}"
                problems.append(Problem(path.name, reason, report_ids[0]))
                continue
            if BLANK_WARNING in image.warnings:
                problems.append(Problem(path.name, "an image is blank", report_ids[0]))
                continue
            key = image.source_sha256[:_KEY_LENGTH]
            reports_by_image.setdefault(key, set()).update(report_ids)
            if key not in cache:
                new[key] = image
        if new:
            vectors = encoder.embed_images(list(new.values()))
            cache.append(list(new), _validated(vectors, encoder, len(new)))
            embedded += len(new)
        progress("images", start + len(batch), len(todo))
    return reports_by_image, embedded, problems


def _random_vectors(keys: Iterable[str], dim: int) -> NDArray[np.float32]:
    """Unit vectors seeded by the keys, float32 [len(keys), dim]."""
    rows = np.stack([np.random.default_rng(int(key, 16)).normal(size=dim) for key in keys])
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _validated(
    vectors: NDArray[np.float32], encoder: ImageEncoder, count: int
) -> NDArray[np.float32]:
    """An encoder's output, scaled to norm 1; a `StoreError` if it breaks its protocol."""
    rows = np.asarray(vectors, np.float32)
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    shape = (count, encoder.dim)
    if rows.shape != shape or not np.isfinite(norms).all() or abs(norms - 1).max() > 1e-3:
        raise StoreError(
            f"encoder {encoder.encoder_id} returned {rows.shape} instead of unit rows {shape}, or "
            "values that are not finite: it cannot be used for an index"
        )
    return np.asarray(rows / norms, np.float32)
