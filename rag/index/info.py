"""``index.json``: which version of an index counts, and what it was made with. And who may write.

Knows the folder; does not know Chroma or encoders.
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
"""Told (stage, done, total) as work goes on."""


def silent(stage: str, done: int, total: int) -> None:
    """No progress wanted."""


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """One collection of an index, as it is shown to users."""

    name: str
    licence: str
    attribution: str
    fingerprint: str
    count: int


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What an index is and was made with.

    Attributes:
        index_id: short hash of everything that decides what a query brings; stands in predictions.
        version: names the folder and Chroma's collections of this version.
        store_id: random, given to the folder once; salts `removed`, marks collections on a server.
        encoder_id, preprocess_hash, dim: of the encoder.
        fingerprint: SHA-256 over all records, by report id.
        count, texts, images: reports, distinct texts among them, images.
        collections: what was indexed.
        removed: hashes of studies and patients that were removed on request and stay out.
        chroma: Chroma's version and the settings of its graph.
        created: when, ISO 8601 in UTC.
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
    """What is in an index; may be asked while another process writes it.

    Raises:
        StoreMissingError: nothing has been indexed here.
        StoreMismatchError: an earlier or later version of the program wrote it.
        StoreError: ``index.json`` is damaged.
    """
    path = directory / INDEX_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise StoreMismatchError(
                f"{path} has format {values['format']}, this program reads {FORMAT}: {REINDEX_HINT}"
            )
        values["collections"] = tuple(CollectionInfo(**each) for each in values["collections"])
        return IndexInfo(**{**values, "removed": tuple(values["removed"])})
    except FileNotFoundError as error:
        raise StoreMissingError(
            f"no index in {directory}: make one with `cxr-rag index`"
        ) from error
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is damaged ({type(error).__name__}): {REINDEX_HINT}") from error


def publish_info(directory: Path, info: IndexInfo) -> None:
    """Make this version the one that counts, in one step."""
    write_text_atomic(
        directory / INDEX_FILE, json.dumps(asdict(info), indent=1, ensure_ascii=False)
    )


def check_encoder(directory: Path, info: IndexInfo, encoder: EncoderIdentity) -> None:
    """Refuse an encoder that did not make the index.

    Raises:
        StoreMismatchError: names both and the command that embeds again.
    """
    made_by, asking = (
        f"{each.encoder_id} ({each.dim} dimensions, preprocessing {each.preprocess_hash})"
        for each in (info, encoder)
    )
    if made_by != asking:
        raise StoreMismatchError(
            f"the index in {directory} was made by {made_by}, and {asking} is asking: use the "
            "encoder it was made with, or embed its reports again with `cxr-rag index --replace`"
        )


def write_lock(directory: Path) -> AbstractContextManager[None]:
    """Be the only writer of an index; readers need no lock, as what they read never changes.

    Raises:
        StoreInUseError: another process is writing.
        StoreError: the folder cannot be written, or its file system has no locks.
    """
    return exclusive_lock(directory / LOCK_FILE, in_use=StoreInUseError, error_type=StoreError)
