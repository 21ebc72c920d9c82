"""Embeds what has no vector yet, texts and images of the indexed studies, and keeps the vectors.

Each batch is on the disk before the next is begun, so that a killed indexing loses a batch at most.
Equal texts are embedded once, so that they have equal vectors to the last bit.
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

CACHE = "embeddings.cache"
_TABLE = "CREATE TABLE IF NOT EXISTS vectors (encoder TEXT, key TEXT, vector BLOB)"
_BY_KEY = "CREATE UNIQUE INDEX IF NOT EXISTS by_key ON vectors (encoder, key)"

Images = Mapping[str, Sequence[Path]]
"""Study id -> files of its images."""

NO_IMAGES: Images = MappingProxyType({})

_TEXTS = 256  # large, as a batch repeats sentences; small, as a kill loses what is in the works
_IMAGES = 16
_KEY_LENGTH = 32  # hex digits: the beginning of a SHA-256


class EmbeddingCache:
    """Vectors by content hash: an SQLite file beside the index, for one encoder. For writers.

    A file that is damaged, or of an earlier version, is thrown away.

    Args:
        directory: of the index.
        encoder: whose vectors.
        changes: whether the file may be made and changed; if not, a bad one is an empty one.

    Raises:
        StoreError: the disk refuses.
    """

    def __init__(self, directory: Path, encoder: EncoderIdentity, *, changes: bool = True) -> None:
        self._directory = directory
        self._path = directory / CACHE
        self._mode = "rwc" if changes else "ro"
        self._dim = encoder.dim
        self._encoder = json.dumps([encoder.encoder_id, encoder.preprocess_hash, encoder.dim])
        self._known: set[str] = set()
        try:
            self._read_keys()
        except StoreError as error:
            if changes:
                if not _is_damage(error.__cause__):
                    raise
                with explain_disk_errors(directory, StoreError):
                    self._path.unlink(missing_ok=True)
                self._read_keys()

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def __len__(self) -> int:
        return len(self._known)

    def vectors(self, keys: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of keys that are here: float32 [len(keys), dim]."""
        with self._opened() as file:
            rows = file.execute(
                "SELECT key, vector FROM vectors WHERE encoder = ? AND key IN "
                "(SELECT value FROM json_each(?))",
                (self._encoder, json.dumps(list(keys))),
            )
            found = {key: np.frombuffer(vector, "<f4") for key, vector in rows}
        return np.array([found[key] for key in keys], np.float32).reshape(len(keys), self._dim)

    def append(self, keys: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Add vectors and wait until they are on the disk."""
        rows = (
            (self._encoder, key, vector.astype("<f4").tobytes())
            for key, vector in zip(keys, vectors, strict=True)
        )
        with self._opened() as file, file:
            file.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)
        self._known.update(keys)

    def keep(self, keys: Iterable[str]) -> None:
        """Forget all but these, so that nothing is left of a report that was removed."""
        self._known.intersection_update(keys)
        with self._opened() as file:
            file.execute("PRAGMA secure_delete = ON")
            with file:
                forgotten = file.execute(
                    "DELETE FROM vectors WHERE encoder != ? OR key NOT IN "
                    "(SELECT value FROM json_each(?))",
                    (self._encoder, json.dumps(list(self._known))),
                )
            if forgotten.rowcount:
                file.execute("VACUUM")

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        where = f"{self._path.absolute().as_uri()}?mode={self._mode}"
        with (
            explain_disk_errors(self._directory, StoreError),
            closing(sqlite3.connect(where, timeout=60, uri=True)) as file,
        ):
            yield file

    def _read_keys(self) -> None:
        with self._opened() as file:
            ((state,),) = file.execute("PRAGMA quick_check(1)")
            if state != "ok":
                raise sqlite3.DatabaseError(state)
            if self._mode == "rwc":
                file.execute(_TABLE)
                file.execute(_BY_KEY)
            rows = file.execute("SELECT key FROM vectors WHERE encoder = ?", (self._encoder,))
            self._known = {key for (key,) in rows}


def _is_damage(error: object) -> bool:
    """Whether a file is broken or has other columns, rather than locked or out of reach."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)  # `quick_check` raises none
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


def embed_texts(
    records: Iterable[ReportRecord],
    encoder: ImageEncoder,
    cache: EmbeddingCache,
    *,
    progress: Progress,
) -> int:
    """Embed the records' texts that are not in the cache; returns how many that were.

    An encoder of images alone has no vectors for texts: each gets a random one of its own, which
    keeps Chroma's records apart and which no query asks for (`ReportIndex.query_by_images`).

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
    if not images:
        return {}, 0, []
    from encoders.images.image_io import BLANK_WARNING, read_image  # noqa: PLC0415 - pydicom
    from encoders.images.raw_image import ImageReadError  # noqa: PLC0415

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
        for reports, path in batch:
            try:
                image = read_image(path)
            except ImageReadError as error:
                reason = f"an image cannot be read: {error.reason.value}"
                problems.append(Problem(path.name, reason, reports[0]))
                continue
            if BLANK_WARNING in image.warnings:
                problems.append(Problem(path.name, "an image shows nothing", reports[0]))
                continue
            key = image.source_sha256[:_KEY_LENGTH]
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
