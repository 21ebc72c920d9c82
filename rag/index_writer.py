"""Writes a new edition of a store beside the one that counts, proves it, and puts it in its place.

Whatever happens before the last step, the old edition counts; after it, the new one. Called with
the store's lock held. Knows records and vectors; does not know encoders or where reports come from.
"""

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag.corpus import fingerprint
from rag.disk import disk_errors, file_sha256
from rag.errors import StoreError
from rag.schema import ReportRecord
from rag.store_catalogue import Edition
from rag.store_chroma import ChromaIndex, Progress, chroma_facts, collection_facts
from rag.store_files import (
    CHROMA,
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

logger = logging.getLogger(__name__)

VectorOf = Callable[[ReportRecord], NDArray[np.float32]]

_PROBES = 16


@dataclass(frozen=True, slots=True)
class Content:
    """What a new edition shall hold.

    Attributes:
        records: sorted by report id.
        collections: where they come from.
        removed: hashes of studies and patients that stay out.
        store_id: of the directory.
        encoder: what made the vectors.
    """

    records: Sequence[ReportRecord]
    collections: tuple[CollectionInfo, ...]
    removed: tuple[str, ...]
    store_id: str
    encoder: EncoderIdentity


def write_edition(
    directory: Path,
    content: Content,
    vector_of: VectorOf,
    *,
    base: Edition | None,
    progress: Progress,
) -> Manifest:
    """Write, prove and publish an edition.

    Args:
        directory: of the store; its lock is ours.
        content: what it shall hold.
        vector_of: the vector of a record, float32 [dim], norm 1.
        base: the edition that counts, if it may be built upon: Chroma's files are then copied and
            added to. Nothing that has left the index may be in it, as Chroma keeps deleted rows.
        progress: told as work goes on.

    Raises:
        StoreError: the disk or Chroma failed; the old edition still counts.
    """
    with disk_errors(directory):
        _refuse_small_disk(directory, content)
        building = new_building(directory)
    try:
        with disk_errors(directory):
            vectors = _write_vectors(building, content, vector_of)
            write_records(building, content.records)
            manifest = _manifest(building, content)
        _write_chroma(building, content, vectors, manifest, base=base, progress=progress)
        with disk_errors(directory):
            write_manifest(building, manifest)
            publish(directory)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return manifest


def _refuse_small_disk(directory: Path, content: Content) -> None:
    needed = len(content.records) * (12 * content.encoder.dim + 8192) // 10**6
    free = shutil.disk_usage(directory).free // 10**6
    if free < needed:
        raise StoreError(
            f"the index needs about {needed} MB in {directory}, {free} MB are free: free some "
            "space, or choose another folder"
        )


def _write_vectors(building: Path, content: Content, vector_of: VectorOf) -> NDArray[np.float32]:
    shape = (len(content.records), content.encoder.dim)
    path = building / VECTORS
    if not shape[0]:
        np.save(path, np.empty(shape, np.float32))
        return np.empty(shape, np.float32)
    with path.open("wb") as file:  # not a map: a full disk would be a bus error there
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for record in content.records:
            file.write(vector_of(record).astype("<f4").tobytes())
    return np.asarray(np.load(path, mmap_mode="r"))


def _manifest(building: Path, content: Content) -> Manifest:
    names = (VECTORS, RECORDS)
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
        sha256={name: file_sha256(building / name) for name in names},
        sizes={name: (building / name).stat().st_size for name in names},
        chroma=chroma_facts(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _write_chroma(
    building: Path,
    content: Content,
    vectors: NDArray[np.float32],
    manifest: Manifest,
    *,
    base: Edition | None,
    progress: Progress,
) -> None:
    facts = collection_facts(
        content.encoder, store_id=content.store_id, fingerprint=manifest.fingerprint
    )
    if base is None:
        index = ChromaIndex.create(building, facts, total=manifest.count)
        rows = list(range(manifest.count))
    else:
        with disk_errors(building.parent):
            shutil.copytree(base.path / CHROMA, building / CHROMA)
        index = ChromaIndex.open(building)
        index.describe(facts)
        have = base.catalogue.row_of
        rows = [n for n, record in enumerate(content.records) if record.report_id not in have]
    with index:
        index.add(
            (content.records[row] for row in rows),
            (vectors[row] for row in rows),
            total=len(rows),
            progress=progress,
        )
    _prove(building, content, vectors)


def _prove(building: Path, content: Content, vectors: NDArray[np.float32]) -> None:
    """Open what was written as a reader would, and look for a few reports where they must be."""
    count = len(content.records)
    rows = np.linspace(0, count - 1, min(count, _PROBES)).astype(np.intp)
    with ChromaIndex.open(building) as index:
        held = index.count()
        answers = index.nearest(vectors[rows], 1) if held == count and count else []
    if held != count:
        raise StoreError(f"Chroma holds {held} of {count} reports: run the same command again")
    row_of = {record.report_id: row for row, record in enumerate(content.records)}
    found = [row_of[nearest] for nearest, *_ in answers]
    near = np.einsum("rd,rd->r", vectors[rows], vectors[found]) > 1 - 1e-3
    if near.sum() < 0.75 * len(rows):  # a graph may miss one; a wrong file misses nearly all
        raise StoreError("Chroma does not find what was written: run the same command again")
