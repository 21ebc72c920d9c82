"""The report index: answers queries with evidence. Knows neither images nor how an index is built.

A report of an excluded study or patient never comes back. As many more neighbours are fetched as
texts are excluded, because a filter inside Chroma takes a hundred times as long and loses recall.
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
from rag.errors import StoreError, StoreMismatchError
from rag.index.chroma import Metadata, Neighbour, VectorCollection, chroma_facts, open_collections
from rag.index.client import place_of
from rag.index.content import reports_of, reports_of_image
from rag.index.ids import NO_EXCLUSIONS, Exclusions, ReportIds
from rag.index.info import INDEX_FILE, REBUILD_HINT, IndexInfo, check_encoder, read_info
from rag.schema import Hit, ReportRecord

T = TypeVar("T")

_MORE = 4  # fetched beyond what is needed, for equal similarities at the end
_DIGITS = 6  # of a similarity: what float32 can tell apart


@dataclass(frozen=True, slots=True, eq=False)
class _Version:
    """One version of an index, opened. It never changes; `ReportIndex` says what it answers."""

    mark: tuple[int, int]
    info: IndexInfo
    texts: VectorCollection
    images: VectorCollection
    ids: ReportIds

    def get(self, report_id: str) -> ReportRecord | None:
        for text_id in self.ids.texts_of([report_id]).values():
            found = reports_of(self.texts.metadatas([text_id])[text_id])
            return next(record for record in found if record.report_id == report_id)
        return None

    def studies_named_in(self, path: str | PurePath) -> frozenset[str]:
        names = candidate_ids(path)
        patients = ids_in_path(path, self.ids.patients_among(names))
        studies = ids_in_path(path, self.ids.studies_among(names))
        return studies | self.ids.studies_of_patients(patients)

    def query(self, vector: NDArray[np.float32], k: int, exclude: Exclusions) -> list[Hit]:
        query = unit_vector(vector, self.info.dim)
        excluded = self.ids.excluded(exclude)
        hits: list[Hit] = []
        n = k + len(set(excluded.values())) + _MORE
        for found in _widening(self.texts, query, n, self.info.texts):
            answers = (_hit(metadata, similarity, excluded) for _, similarity, metadata in found)
            hits = [hit for hit in answers if hit]
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
                "the index has no images, which this encoder or retrieval.by asks for: run "
                "`cxr-rag index` again with --images"
            )
        excluded = self.ids.excluded(exclude)
        texts: dict[str, float] = {}
        for found in _widening(self.images, query, 2 * k + _MORE, self.info.images):
            texts = self._texts_of_images(found, excluded)
            if len(texts) >= k:
                break
        nearest = list(texts)[:k]
        if similarity == "text" and nearest:
            values = self.texts.vectors(nearest) @ query
            texts = dict(zip(nearest, map(float, values), strict=True))
        metadatas = self.texts.metadatas(nearest)
        hits = (_hit(metadatas[name], texts[name], excluded) for name in nearest)
        return [hit for hit in hits if hit]

    def _texts_of_images(
        self, found: list[Neighbour], excluded: Container[str]
    ) -> dict[str, float]:
        """Texts that are not excluded, in the order of their nearest image, and its similarity."""
        near: dict[str, float] = {}
        for _, similarity, metadata in found:
            for report_id in reports_of_image(metadata):
                if report_id not in excluded:
                    near.setdefault(report_id, similarity)
        text_of = self.ids.texts_of(near)
        texts: dict[str, float] = {}
        for report_id, similarity in near.items():
            texts.setdefault(text_of[report_id], similarity)
        return texts


def unit_vector(vector: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    """A query's vector, checked and scaled: float32 [dim], of norm 1.

    Raises:
        ValueError: another shape, a value that is not finite, or a zero vector.
    """
    array = np.asarray(vector, np.float32)
    if array.shape != (dim,):
        raise ValueError(f"a query vector is {array.shape}, this index wants ({dim},)")
    norm = np.linalg.norm(array.astype(np.float64))
    if not np.isfinite(norm) or not norm:
        raise ValueError("a query vector is zero or not finite")
    return np.asarray(array / norm, np.float32)


def _widening(
    collection: VectorCollection, query: NDArray[np.float32], n: int, total: int
) -> Iterator[list[Neighbour]]:
    """The nearest of ``total`` records, in each turn four times as many, until it is all."""
    while n < total:
        yield collection.nearest(query, n)
        n *= 4
    yield collection.nearest(query, total)


def _hit(metadata: Metadata, similarity: float, excluded: Container[str]) -> Hit | None:
    """A text as a hit: its first report by id that is not excluded; None if all are."""
    for record in reports_of(metadata):
        if record.report_id not in excluded:
            return Hit(record, round(similarity, _DIGITS), copies=int(metadata["copies"]))
    return None


class ReportIndex:
    """An index opened for reading; close it, or use it as a context manager.

    Any number of processes may read, also while one writes, and queries may come from several
    threads. A newer version is taken up as soon as it counts.

    Args:
        directory: where `rag.index.build_index` made it.
        encoder: who will ask; an index made by another encoder is refused. None: do not check.
        url: of the Chroma server that holds the collections, if they are not in the folder.

    Raises:
        StoreMissingError: nothing has been indexed here.
        StoreMismatchError: made by another encoder, preprocessing, Chroma or version of ours.
        StoreError: the files are damaged; the message says what to do.
    """

    def __init__(
        self, directory: Path, *, encoder: EncoderIdentity | None = None, url: str = ""
    ) -> None:
        self.directory = directory
        self._encoder = encoder
        self._url = url
        self._turn = threading.Lock()
        self._opened = ExitStack()
        self._open()

    @property
    def info(self) -> IndexInfo:
        """What the index was made with; where that cannot be opened now, the last that could."""
        with suppress(StoreError):
            return self._current().info
        return self._version.info

    @property
    def index_id(self) -> str:
        """Short hash of the index; stands in every prediction."""
        return self.info.index_id

    @property
    def attribution(self) -> str:
        """Where the reports come from, to be shown wherever they are."""
        return " ".join(
            each.attribution or f"{each.name} (licence: {each.licence})."
            for each in self.info.collections
        )

    def __len__(self) -> int:
        return self.info.count

    def get(self, report_id: str) -> ReportRecord | None:
        """A report by its id; None if it is not here."""
        return self._ask(lambda version: version.get(report_id))

    def studies_named_in(self, path: str | PurePath) -> frozenset[str]:
        """Studies that an image's path names, by their own id or by their patient's."""
        return self._ask(lambda version: version.studies_named_in(path))

    def query(
        self, vector: NDArray[np.float32], k: int, *, exclude: Exclusions = NO_EXCLUSIONS
    ) -> list[Hit]:
        """The ``k`` nearest texts to a vector, nearest first, ties by report id.

        A text comes once, as its first report by id that is not left out; `Hit.copies` says how
        many have it.

        Args:
            vector: float32 [dim]; scaled to norm 1 here.
            k: how many; fewer come back only if fewer are there.
            exclude: what must not come back.

        Raises:
            ValueError: the vector has another shape, or is not finite, or zero.
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
        """The ``k`` reports whose images are nearest to a vector, one a text, nearest first.

        A hit's similarity is that of its nearest image to the vector, or that of its text. What is
        left out is as in `query`. A `StoreError` where the index has no images.
        """
        return self._ask(
            lambda version: version.query_by_images(vector, k, exclude, similarity=similarity)
        )

    def close(self) -> None:
        """Let go of the files. Safe to call twice."""
        self._opened.close()

    def __enter__(self) -> "ReportIndex":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, question: Callable[[_Version], T]) -> T:
        """Ask the version that counts; once more if it was replaced under our hands."""
        version = self._current()
        try:
            return question(version)
        except StoreError:
            current = self._current()
            if current is version:
                raise
            return question(current)

    def _current(self) -> _Version:
        if self._mark() != self._version.mark:
            with self._turn:
                if self._mark() != self._version.mark:
                    self._open()
        return self._version

    def _mark(self) -> tuple[int, int]:
        """Changes whenever another version has come to count; costs one system call."""
        with suppress(OSError):
            status = (self.directory / INDEX_FILE).stat()
            return status.st_ino, status.st_mtime_ns
        return 0, 0

    def _open(self) -> None:
        """Take up the version that counts, in place of the one before."""
        mark, info = self._mark(), read_info(self.directory)
        if self._encoder is not None:
            check_encoder(self.directory, info, self._encoder)
        here, made = (str(facts["version"]) for facts in (chroma_facts(), info.chroma))
        if here.split(".")[:2] != made.split(".")[:2]:
            raise StoreMismatchError(
                f"the index in {self.directory} was written by Chroma {made}, this is {here}: "
                f"{REBUILD_HINT}"
            )
        place = place_of(self.directory, info, self._url)
        with ExitStack() as opened:
            texts, images = opened.enter_context(open_collections(place))
            if (count := texts.count()) != info.texts:
                raise StoreError(
                    f"Chroma in {place} holds {count} texts, {info.texts} expected: {REBUILD_HINT}"
                )
            ids = ReportIds(place.folder.parent)
            opened.callback(ids.close)
            self.close()
            self._version = _Version(mark, info, texts, images, ids)
            self._opened = opened.pop_all()
