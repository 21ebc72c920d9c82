"""``index.json``: the current version of an index and what it was built with; the write lock.

Knows the folder; knows neither Chroma nor encoders.
"""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from encoders.base import EncoderIdentity
from rag.atomic_io import exclusive_lock, write_text_atomic
from rag.errors import StoreError, StoreInUseError, StoreMismatchError, StoreMissingError

FORMAT = 2
REINDEX_HINT = "index again with `cxr-rag index --replace` (known texts are not embedded again)"
REBUILD_HINT = "`cxr-rag index rebuild` writes it again without embedding"

INDEX_FILE, LOCK_FILE = "index.json", "write.lock"

Progress = Callable[[str, int, int], None]
"""Called as (stage, done, total)."""


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """One collection of an index, as shown to users."""

    name: str
    licence: str
    attribution: str
    fingerprint: str
    count: int


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What an index contains and was built with.

    Attributes:
        index_id: short hash of everything that affects query results; recorded in predictions.
        version: names this version's folder and Chroma collections.
        store_id: random, assigned to the folder once; salts `removed` and marks the index's
            collections on a server.
        encoder_id, preprocess_hash, dim: of the encoder.
        fingerprint: SHA-256 over all records, by report id.
        count, texts, images: numbers of reports, of distinct texts among them, and of images.
        collections: the indexed collections.
        removed: hashes of studies and patients that were removed on request and stay out.
        chroma: Chroma's version and graph settings.
        created: ISO 8601 in UTC.
    """

    index_id: str
    version: str
    store_id: str
    encoder_id: str
    preprocess_hash: str
    dim: int
    fingerprint: str
    count: int
    texts: int
    images: int
    collections: tuple[CollectionInfo, ...]
    removed: tuple[str, ...]
    chroma: dict[str, Any]
    created: str
    format: int = FORMAT


def read_info(directory: Path) -> IndexInfo:
    """Read ``index.json``; safe while another process writes.

    Raises:
        StoreMissingError: the index does not exist.
        StoreMismatchError: another version of the program wrote it.
        StoreError: ``index.json`` is damaged.
    """
    path = directory / INDEX_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise StoreMismatchError(
                f"{path} has format {values['format']}, this program reads {FORMAT}: {REINDEX_HINT}"
            )
        collections = tuple(CollectionInfo(**fields) for fields in values["collections"])
        removed = tuple(values["removed"])
        return IndexInfo(**{**values, "collections": collections, "removed": removed})
    except FileNotFoundError as error:
        raise StoreMissingError(
            f"no index in {directory}: make one with `cxr-rag index`"
        ) from error
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is damaged ({type(error).__name__}): {REINDEX_HINT}") from error


def publish_info(directory: Path, info: IndexInfo) -> None:
    """Make this version the current one, atomically."""
    write_text_atomic(
        directory / INDEX_FILE, json.dumps(asdict(info), indent=1, ensure_ascii=False)
    )


def check_encoder(directory: Path, info: IndexInfo, encoder: EncoderIdentity) -> None:
    """Refuse an encoder other than the one that built the index.

    Raises:
        StoreMismatchError: names both and the command that embeds again.
    """
    built_by, given = (
        f"{one.encoder_id} ({one.dim} dimensions, preprocessing {one.preprocess_hash})"
        for one in (info, encoder)
    )
    if built_by != given:
        raise StoreMismatchError(
            f"the index in {directory} was built by {built_by}, not by {given}: use the encoder "
            "it was built with, or embed its reports again with `cxr-rag index --replace`"
        )


def write_lock(directory: Path) -> AbstractContextManager[None]:
    """Hold the index's write lock. Readers need none: versions never change.

    Raises:
        StoreInUseError: another process is writing.
        StoreError: the folder is not writable, or its file system has no locks.
    """
    return exclusive_lock(directory / LOCK_FILE, in_use=StoreInUseError, error_type=StoreError)
