"""The report index as readers use it: vector in, hits out. Knows nothing of images or indexing.

Reports of an excluded study or patient are never returned. To make up for them, as many more
neighbours are fetched as texts are excluded: a filter inside Chroma takes a hundred times as long
and loses recall.
"""

import threading
from collections.abc import Callable, Container, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from encoders.base import EncoderIdentity
from rag.corpus.records import candidate_ids, ids_in_path
from rag.errors import StoreError
from rag.index.chroma import (
    Metadata,
    Neighbour,
    VectorCollection,
    check_chroma_version,
    open_collections,
)
from rag.index.client import chroma_location
from rag.index.content import report_ids_from_metadata, reports_from_metadata
from rag.index.ids import NO_EXCLUSIONS, Exclusions, ReportIds
from rag.index.info import INDEX_FILE, REBUILD_HINT, IndexInfo, check_encoder, read_info
from rag.schema import Hit, ReportRecord

T = TypeVar("T")

_EXTRA_NEIGHBOURS = 4  # fetched beyond k, for ties at the end
_SIMILARITY_DIGITS = 6  # what float32 can distinguish


@dataclass(frozen=True, slots=True, eq=False)
class _Version:
    """One immutable version of an index, opened. `ReportIndex` documents the methods."""

    stamp: tuple[int, int]
    info: IndexInfo
    texts: VectorCollection
    images: VectorCollection
    ids: ReportIds

    def get(self, report_id: str) -> ReportRecord | None:
        for text_id in self.ids.text_ids([report_id]).values():
            reports = reports_from_metadata(self.texts.metadatas([text_id])[text_id])
            return next(record for record in reports if record.report_id == report_id)
        return None

    def studies_named_in(self, path: str | PurePath) -> frozenset[str]:
        names = candidate_ids(path)
        known_studies = self.ids.select("study_id", where="study_id", values=names)
        known_patients = self.ids.select("patient_id", where="patient_id", values=names)
        patients = ids_in_path(path, known_patients)
        return ids_in_path(path, known_studies) | self.ids.select(
            "study_id", where="patient_id", values=patients
        )

    def query(self, vector: NDArray[np.float32], k: int, exclude: Exclusions) -> list[Hit]:
        query = unit_vector(vector, self.info.dim)
        excluded = self.ids.excluded(exclude)
        hits: list[Hit] = []
        n = k + len(set(excluded.values())) + _EXTRA_NEIGHBOURS
        for neighbours in _widening_search(self.texts, query, n, self.info.texts):
            found = (_hit(metadata, value, excluded) for _, value, metadata in neighbours)
            hits = [hit for hit in found if hit]
            if len(hits) >= k:
                break
        return sorted(hits, key=lambda hit: (-hit.similarity, hit.record.report_id))[:k]

    def query_by_images(
        self,
        vector: NDArray[np.float32],
        k: int,
        exclude: Exclusions,
        *,
        similarity: Literal["image", "text"],
    ) -> list[Hit]:
        query = unit_vector(vector, self.info.dim)
        if not self.info.images:
            raise StoreError(
                "the index has no images, which this encoder or retrieval.by needs: run "
                "`cxr-rag index` again with --images"
            )
        excluded = self.ids.excluded(exclude)
        texts: dict[str, float] = {}
        n = 2 * k + _EXTRA_NEIGHBOURS
        for neighbours in _widening_search(self.images, query, n, self.info.images):
            texts = self._texts_of_images(neighbours, excluded)
            if len(texts) >= k:
                break
        nearest = list(texts)[:k]
        if similarity == "text" and nearest:
            values = self.texts.vectors(nearest) @ query
            texts = dict(zip(nearest, map(float, values), strict=True))
        metadatas = self.texts.metadatas(nearest)
        hits = (_hit(metadatas[text_id], texts[text_id], excluded) for text_id in nearest)
        return [hit for hit in hits if hit]

    def _texts_of_images(
        self, neighbours: list[Neighbour], excluded: Container[str]
    ) -> dict[str, float]:
        """Text id -> similarity of its nearest image, nearest first; excluded ones left out."""
        reports: dict[str, float] = {}
        for _, similarity, metadata in neighbours:
            for report_id in report_ids_from_metadata(metadata):
                if report_id not in excluded:
                    reports.setdefault(report_id, similarity)
        text_ids = self.ids.text_ids(reports)
        texts: dict[str, float] = {}
        for report_id, similarity in reports.items():
            texts.setdefault(text_ids[report_id], similarity)
        return texts


def unit_vector(vector: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    """A query vector, checked and scaled to norm 1: float32 [dim].

    Raises:
        ValueError: another shape, a value that is not finite, or a zero vector.
    """
    array = np.asarray(vector, np.float32)
    if array.shape != (dim,):
        raise ValueError(f"a query vector is {array.shape}, this index needs ({dim},)")
    norm = np.linalg.norm(array.astype(np.float64))
    if not np.isfinite(norm) or not norm:
        raise ValueError("a query vector is zero or not finite")
    return np.asarray(array / norm, np.float32)


def _widening_search(
    collection: VectorCollection, query: NDArray[np.float32], n: int, total: int
) -> Iterator[list[Neighbour]]:
    """The ``n`` nearest, then four times as many each time, up to all ``total`` records."""
    while n < total:
        yield collection.nearest(query, n)
        n *= 4
    yield collection.nearest(query, total)


def _hit(metadata: Metadata, similarity: float, excluded: Container[str]) -> Hit | None:
    """The hit for a text: its first report by id that is not excluded; None if all are."""
    for record in reports_from_metadata(metadata):
        if record.report_id not in excluded:
            rounded = round(similarity, _SIMILARITY_DIGITS)
            return Hit(record, rounded, copies=int(metadata["copies"]))
    return None


class ReportIndex:
    """An index opened for reading; close it, or use it as a context manager.

    Thread-safe. Any number of processes may read, even while one writes; a new version is used as
    soon as it is current.

    Args:
        directory: where `rag.index.build_index` wrote it.
        encoder: of the queries; an index built by another is refused. None: not checked.
        url: of the Chroma server that holds the collections, if any.

    Raises:
        StoreMissingError: the index does not exist.
        StoreMismatchError: built by another encoder, preprocessing, Chroma or version of ours.
        StoreError: the files are damaged; the message says what to do.
    """

    def __init__(
        self, directory: Path, *, encoder: EncoderIdentity | None = None, url: str = ""
    ) -> None:
        self.directory = directory
        self._encoder = encoder
        self._url = url
        self._lock = threading.Lock()
        self._resources = ExitStack()
        self._open()

    @property
    def info(self) -> IndexInfo:
        """What the index contains; if it cannot be opened now, the last version that could."""
        with suppress(StoreError):
            return self._current().info
        return self._version.info

    @property
    def index_id(self) -> str:
        """Short hash of the index; recorded in every prediction."""
        return self.info.index_id

    @property
    def attribution(self) -> str:
        """Sources of the reports, to be shown wherever the reports are."""
        return " ".join(
            info.attribution or f"{info.name} (licence: {info.licence})."
            for info in self.info.collections
        )

    def __len__(self) -> int:
        return self.info.count

    def get(self, report_id: str) -> ReportRecord | None:
        """A report by its id, if it exists."""
        return self._ask(lambda version: version.get(report_id))

    def studies_named_in(self, path: str | PurePath) -> frozenset[str]:
        """Studies that an image's path names, by their own id or by their patient's."""
        return self._ask(lambda version: version.studies_named_in(path))

    def query(
        self, vector: NDArray[np.float32], k: int, *, exclude: Exclusions = NO_EXCLUSIONS
    ) -> list[Hit]:
        """The ``k`` nearest texts to a vector, nearest first, ties by report id.

        A text is returned once, as its first report by id that is not excluded; `Hit.copies` counts
        all its reports. Fewer than ``k`` are returned only if no more exist.

        Raises:
            ValueError: the vector has another shape, is not finite, or is zero.
            StoreError: the index has become unusable, or its server has stopped.
        """
        return self._ask(lambda version: version.query(vector, k, exclude))

    def query_by_images(
        self,
        vector: NDArray[np.float32],
        k: int,
        *,
        exclude: Exclusions = NO_EXCLUSIONS,
        similarity: Literal["image", "text"] = "image",
    ) -> list[Hit]:
        """The ``k`` texts whose images are nearest to a vector, nearest first.

        A hit's similarity is that of its nearest image, or that of its text. Otherwise as `query`;
        also a `StoreError` if the index has no images.
        """
        return self._ask(
            lambda version: version.query_by_images(vector, k, exclude, similarity=similarity)
        )

    def close(self) -> None:
        """Close the files; idempotent."""
        self._resources.close()

    def __enter__(self) -> "ReportIndex":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, question: Callable[[_Version], T]) -> T:
        """Ask the current version; once more if it was replaced meanwhile."""
        version = self._current()
        try:
            return question(version)
        except StoreError:
            current = self._current()
            if current is version:
                raise
            return question(current)

    def _current(self) -> _Version:
        if self._stamp() != self._version.stamp:
            with self._lock:
                if self._stamp() != self._version.stamp:
                    self._open()
        return self._version

    def _stamp(self) -> tuple[int, int]:
        """Changes whenever another version becomes current; costs one system call."""
        with suppress(OSError):
            status = (self.directory / INDEX_FILE).stat()
            return status.st_ino, status.st_mtime_ns
        return 0, 0

    def _open(self) -> None:
        """Open the current version in place of the one before."""
        stamp, info = self._stamp(), read_info(self.directory)
        if self._encoder is not None:
            check_encoder(self.directory, info, self._encoder)
        check_chroma_version(self.directory, info)
        location = chroma_location(self.directory, info, self._url)
        with ExitStack() as resources:
            texts, images = resources.enter_context(open_collections(location))
            if (count := texts.count()) != info.texts:
                raise StoreError(
                    f"Chroma in {location} holds {count} texts, {info.texts} expected: "
                    f"{REBUILD_HINT}"
                )
            ids = ReportIds(location.folder.parent)
            resources.callback(ids.close)
            self.close()
            self._version = _Version(stamp, info, texts, images, ids)
            self._resources = resources.pop_all()
