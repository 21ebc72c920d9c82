"""Writes a new edition of a store beside the one that counts, proves it, and puts it in its place.

Whatever happens before the last step, the old edition counts; after it, the new one. Called with
the store's lock held. Knows records and vectors; does not know encoders or where reports come from.
"""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag.corpus import fingerprint
from rag.errors import StoreError
from rag.index.graph import write_graph, write_graph_apart
from rag.schema import ReportRecord
from rag.store.chroma import Progress, chroma_facts
from rag.store.disk import disk_errors, file_sha256
from rag.store.files import (
    RECORDS,
    VECTORS,
    CollectionInfo,
    EncoderIdentity,
    Manifest,
    new_building,
    publish,
    write_manifest,
    write_records,
)
from rag.store.side import Kind, SideVectors, write_side

logger = logging.getLogger(__name__)

VectorOf = Callable[[ReportRecord], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Content:
    """What a new edition shall hold.

    Attributes:
        records: sorted by report id.
        collections: where they come from.
        removed: hashes of studies and patients that stay out.
        store_id: of the directory.
        encoder: what made the vectors.
        sides: vectors of sentences and images, where there are any.
    """

    records: Sequence[ReportRecord]
    collections: tuple[CollectionInfo, ...]
    removed: tuple[str, ...]
    store_id: str
    encoder: EncoderIdentity
    sides: Mapping[Kind, SideVectors] = field(default_factory=dict)


def write_edition(
    directory: Path,
    content: Content,
    vector_of: VectorOf,
    *,
    base: Path | None,
    apart: bool,
    progress: Progress,
) -> Manifest:
    """Write, prove and publish an edition.

    Args:
        directory: of the store; its lock is ours.
        content: what it shall hold.
        vector_of: the vector of a record, float32 [dim], norm 1.
        base: the edition that counts, if nothing of it goes: Chroma's files are then copied and
            added to. They must not be if something goes, as Chroma only marks rows as deleted.
        apart: this process may hold what must not be in the index (see `rag.index.graph`).
        progress: told as work goes on.

    Raises:
        StoreError: the disk or Chroma failed; the old edition still counts.
    """
    with disk_errors(directory):
        _refuse_small_disk(directory, content)
        building = new_building(directory)
    try:
        with disk_errors(directory):
            _write_vectors(building, content, vector_of)
            write_records(building, content.records)
            for kind, side in content.sides.items():
                write_side(building, kind, side)
            manifest = _manifest(building, content)
            write_manifest(building, manifest)
        write = write_graph_apart if apart else write_graph
        write(building, base, progress=progress)
        with disk_errors(directory):
            publish(directory)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return manifest


def _refuse_small_disk(directory: Path, content: Content) -> None:
    beside = sum(side.vectors.nbytes for side in content.sides.values())
    needed = (len(content.records) * (12 * content.encoder.dim + 8192) + 2 * beside) // 10**6
    free = shutil.disk_usage(directory).free // 10**6
    if free < needed:
        raise StoreError(
            f"the index needs about {needed} MB in {directory}, {free} MB are free: free some "
            "space, or choose another folder"
        )


def _write_vectors(building: Path, content: Content, vector_of: VectorOf) -> None:
    shape = (len(content.records), content.encoder.dim)
    with (building / VECTORS).open("wb") as file:  # not a map: a full disk is a bus error there
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for record in content.records:
            file.write(vector_of(record).astype("<f4").tobytes())


def _manifest(building: Path, content: Content) -> Manifest:
    files = [VECTORS, RECORDS, *(name for kind in content.sides for name in kind.files)]
    return Manifest(
        store_id=content.store_id,
        encoder_id=content.encoder.encoder_id,
        preprocess_hash=content.encoder.preprocess_hash,
        dim=content.encoder.dim,
        fingerprint=fingerprint(content.records),
        count=len(content.records),
        texts=len({record.text for record in content.records}),
        collections=content.collections,
        removed=content.removed,
        sha256={name: file_sha256(building / name) for name in files},
        chroma=chroma_facts(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
