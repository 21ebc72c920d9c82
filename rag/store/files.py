"""The store's own files: one finished edition after another, and which of them counts.

    <directory>/
      current              name of the edition that counts; replaced in one step
      edition-000003/      never changed once `current` names it
        manifest.json      what it was made with, counts, SHA-256 of the vectors and records below
        vectors.npy        float32 [R, dim], unit rows, one a report, sorted by report id
        records.jsonl      the same reports in the same order
        sentences.npy, .jsonl, images.npy, .jsonl   if wanted: see `rag.store.side`
        chroma/            Chroma's files (`rag.store.chroma`)
      building/            an edition being made: nobody reads it, the next writer sweeps it away
      embedded.journal     vectors of an interrupted indexing (`rag.store.journal`)
      store.lock, owner.json   who may write (`rag.store.lock`)

Vectors and records are enough to make everything else again. Knows nothing of Chroma or encoders.
"""

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rag.atomic_io import flush, swap_text
from rag.corpus import record_to_json, text_hash
from rag.errors import StoreError, StoreMismatchError, StoreMissingError
from rag.schema import ReportRecord
from rag.store.disk import file_sha256

FORMAT = 1
MANIFEST, VECTORS, RECORDS, CHROMA = "manifest.json", "vectors.npy", "records.jsonl", "chroma"
REINDEX_HINT = "index again with --replace"
"""The hint where our own files are damaged; who was removed on request stays out."""

_CURRENT, _BUILDING = "current", "building"
_EDITION = re.compile(r"edition-(\d{6,})")


class EncoderIdentity(Protocol):
    """What an index must agree with: an encoder, or what a manifest says of one."""

    @property
    def encoder_id(self) -> str:
        """Name and content hash of the weights."""

    @property
    def preprocess_hash(self) -> str:
        """Hash of the evaluation transform's settings."""

    @property
    def dim(self) -> int:
        """Length of a vector."""


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """One collection of an index, as it is shown to users."""

    name: str
    licence: str
    attribution: str
    fingerprint: str
    count: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an edition is and was made with.

    Attributes:
        store_id: random, given to the directory once; tells a server of this store from another.
        encoder_id, preprocess_hash, dim: of the encoder that embedded the texts.
        fingerprint: SHA-256 over all records.
        count, texts: reports, and distinct texts among them.
        collections: what was indexed.
        removed: hashes of studies and patients that were removed on request and stay out.
        sha256: of the files of vectors and records, by name.
        chroma: Chroma's version and the settings of its graph.
        created: when, ISO 8601 in UTC.
    """

    store_id: str
    encoder_id: str
    preprocess_hash: str
    dim: int
    fingerprint: str
    count: int
    texts: int
    collections: tuple[CollectionInfo, ...]
    removed: tuple[str, ...]
    sha256: dict[str, str]
    chroma: dict[str, Any]
    created: str
    format: int = FORMAT

    @property
    def index_id(self) -> str:
        """Short hash of everything that decides what a query brings; stands in predictions."""
        content = [self.format, self.encoder_id, self.preprocess_hash, self.fingerprint]
        content += [self.sha256[VECTORS], self.chroma]
        sides = sorted(item for item in self.sha256.items() if item[0] not in (VECTORS, RECORDS))
        content += [sides] if sides else []
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def read_manifest(edition: Path) -> Manifest:
    """The manifest of an edition.

    Raises:
        StoreError: it is damaged.
        StoreMismatchError: another version of the program wrote it.
    """
    path = edition / MANIFEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise StoreMismatchError(
                f"{path} has format {values['format']}, this program reads {FORMAT}: "
                f"{REINDEX_HINT}, or use the version that wrote it"
            )
        values["collections"] = tuple(CollectionInfo(**info) for info in values["collections"])
        return Manifest(**{**values, "removed": tuple(values["removed"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is damaged ({type(error).__name__}): {REINDEX_HINT}") from error


def write_manifest(edition: Path, manifest: Manifest) -> None:
    """Write it; the last file of an edition."""
    text = json.dumps(asdict(manifest), indent=1, ensure_ascii=False)
    (edition / MANIFEST).write_text(text, encoding="utf-8")


def write_records(edition: Path, records: Iterable[ReportRecord]) -> None:
    """One record a line, with the hash of its text."""
    with (edition / RECORDS).open("w", encoding="utf-8", newline="\n") as lines:
        for record in records:
            line = {"text_hash": text_hash(record.text), **record_to_json(record)}
            lines.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_vectors(edition: Path, manifest: Manifest) -> NDArray[np.float32]:
    """Vectors, mapped into memory and read-only: float32 [R, dim].

    Raises:
        StoreError: the file is missing, damaged or of another shape.
    """
    path = edition / VECTORS
    try:
        vectors = np.load(path, mmap_mode="r" if manifest.count else None, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}): {REINDEX_HINT}") from error
    if vectors.shape != (manifest.count, manifest.dim) or vectors.dtype != np.float32:
        raise StoreError(
            f"{path} is {vectors.dtype} {vectors.shape}, the manifest says float32 "
            f"{(manifest.count, manifest.dim)}: {REINDEX_HINT}"
        )
    return np.asarray(vectors)


def check_files(edition: Path, manifest: Manifest) -> None:
    """Compare the files of an edition with what the manifest says of them, byte for byte.

    Raises:
        StoreError: a file is missing or has changed since it was written.
    """
    for name, expected in manifest.sha256.items():
        path = edition / name
        if not path.is_file() or file_sha256(path) != expected:
            raise StoreError(
                f"{path} is missing or has changed since it was written: {REINDEX_HINT}"
            )


def current_edition(directory: Path) -> Path:
    """The edition that counts.

    Raises:
        StoreMissingError: nothing has been indexed here.
    """
    try:
        name = (directory / _CURRENT).read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError as error:
        raise StoreMissingError(
            f"no index in {directory}: make one with `cxr-rag index`"
        ) from error
    except OSError as error:
        raise StoreError(f"{directory} cannot be read: {error.strerror}") from error
    edition = directory / name
    if not _EDITION.fullmatch(name) or not edition.is_dir():
        raise StoreError(
            f"{directory / _CURRENT} names {name[:40]!r}, which is not there: {REINDEX_HINT}"
        )
    return edition


def current_mark(directory: Path) -> tuple[int, int]:
    """Changes whenever another edition has come to count; costs one system call."""
    with contextlib.suppress(OSError):
        status = (directory / _CURRENT).stat()
        return status.st_ino, status.st_mtime_ns
    return 0, 0


def new_building(directory: Path) -> Path:
    """An empty folder for the next edition; what an interrupted writer left is swept away."""
    sweep(directory)
    building = directory / _BUILDING
    building.mkdir()
    return building


def publish(directory: Path) -> Path:
    """Make the finished ``building`` folder the edition that counts, and delete the one before.

    Everything is on the disk before `current` changes, and that change is one step: after a crash
    at any moment either the old or the new edition counts, whole.
    """
    for file in (directory / _BUILDING).rglob("*"):
        flush(file)
    numbers = [int(m[1]) for path in directory.iterdir() if (m := _EDITION.fullmatch(path.name))]
    edition = directory / f"edition-{max(numbers, default=0) + 1:06d}"
    (directory / _BUILDING).rename(edition)
    swap_text(directory / _CURRENT, edition.name)
    sweep(directory)
    return edition


def sweep(directory: Path) -> None:
    """Delete what does not count: half-built editions and old ones. Call it as the lock's owner."""
    counts = current_edition(directory) if (directory / _CURRENT).exists() else None
    for path in directory.iterdir():
        if path != counts and (path.name == _BUILDING or _EDITION.fullmatch(path.name)):
            shutil.rmtree(path)
