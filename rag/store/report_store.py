"""The report store: answers queries with evidence; `rag.store.opening` opens one.

Two ways to search, one setting: ``hnsw`` (Chroma's graph) and ``exact`` (numpy over our own
vectors). Both give the same hits with the same similarities, apart from what the graph misses, and
in both a report of an excluded study or patient never comes back. Does not know what an image is,
nor how an index is built (`rag.index`).
"""

from collections.abc import KeysView, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from rag.corpus import ids_in_path
from rag.schema import Hit, ReportRecord, Retrieval
from rag.store.catalogue import Edition, check_encoder, open_edition
from rag.store.chroma import ChromaIndex
from rag.store.exact import ExactSearch, Search
from rag.store.files import (
    CollectionInfo,
    EncoderIdentity,
    Manifest,
    current_mark,
)
from rag.store.graph_search import GraphSearch
from rag.store.lock import StoreLock
from rag.store.ranking import excluded_rows, near_but_left_out, rank, unit_rows
from rag.store.self_test import SAMPLE, SelfTest, measure_recall
from rag.store.side import Kind, SideSearch, open_side, sample_of


class SearchMode(StrEnum):
    """How neighbours are found."""

    HNSW = "hnsw"
    EXACT = "exact"


class ReportStore:
    """An opened store; `open_store` makes it. Close it, or use it as a context manager.

    Queries may come from several threads. In exact mode the files are only read, so any number of
    processes may do so, and a newer edition is taken up at the next query.

    Attributes:
        directory: where it lives.
        mode: "exact", "hnsw (embedded)" or "hnsw (server on port N)".
        self_test: recall of the graph as measured when it was opened; None in exact mode.
    """

    def __init__(
        self,
        directory: Path,
        edition: Edition,
        *,
        encoder: EncoderIdentity | None = None,
        index: ChromaIndex | None = None,
        lock: StoreLock | None = None,
        mode: str = SearchMode.EXACT,
    ) -> None:
        self.directory = directory
        self.mode = mode
        self.self_test: SelfTest | None = None
        self._edition = edition
        self._sides: dict[Kind, SideSearch] = {}
        self._encoder = encoder
        self._index = index
        self._lock = lock

    @property
    def manifest(self) -> Manifest:
        """What the index was made with."""
        return self._edition.manifest

    @property
    def index_id(self) -> str:
        """Short hash of the index; stands in every prediction."""
        return self.manifest.index_id

    @property
    def collections(self) -> tuple[CollectionInfo, ...]:
        """What was indexed, with licence and attribution."""
        return self.manifest.collections

    @property
    def attribution(self) -> str:
        """Where the reports come from, to be shown wherever they are."""
        return " ".join(
            info.attribution or f"{info.name} (licence: {info.licence})."
            for info in self.collections
        )

    @property
    def study_ids(self) -> KeysView[str]:
        """Studies that have a report here; ``in`` is quick."""
        return self._edition.catalogue.studies.keys

    def __len__(self) -> int:
        return len(self._edition.catalogue)

    def get(self, report_id: str) -> ReportRecord | None:
        """A report by its id; None if it is not here."""
        catalogue = self._edition.catalogue
        row = catalogue.row_of.get(report_id)
        return None if row is None else catalogue.record(row)

    def studies_named_in(self, path: str | PurePath) -> frozenset[str]:
        """Studies that an image's path names, by their own id or by their patient's."""
        catalogue = self._edition.catalogue
        patients = ids_in_path(path, catalogue.patients.keys)
        of_patients = (
            catalogue.record(int(row)).study_id
            for patient in patients
            for row in catalogue.patients.rows(patient)
        )
        return ids_in_path(path, catalogue.studies.keys) | frozenset(of_patients)

    def query(
        self,
        vectors: NDArray[np.float32],
        k: int,
        *,
        exclude_studies: frozenset[str] = frozenset(),
        exclude_patients: frozenset[str] = frozenset(),
        exclude_reports: frozenset[str] = frozenset(),
        distinct: bool = False,
    ) -> list[list[Hit]]:
        """The hits of `retrieve`, without what was left out."""
        found = self.retrieve(
            vectors,
            k,
            exclude_studies=exclude_studies,
            exclude_patients=exclude_patients,
            exclude_reports=exclude_reports,
            distinct=distinct,
        )
        return [list(retrieval.hits) for retrieval in found]

    def retrieve(
        self,
        vectors: NDArray[np.float32],
        k: int,
        *,
        exclude_studies: frozenset[str] = frozenset(),
        exclude_patients: frozenset[str] = frozenset(),
        exclude_reports: frozenset[str] = frozenset(),
        distinct: bool = False,
    ) -> list[Retrieval]:
        """The ``k`` nearest reports to each vector, nearest first, ties by report id.

        Args:
            vectors: float32 [N, dim]; scaled to norm 1 here.
            k: how many; fewer come back only if fewer are there.
            exclude_studies: studies whose reports, and those of their patients, stay out.
            exclude_patients: patients whose reports stay out.
            exclude_reports: single reports that stay out.
            distinct: one report a text, the first by id; its ``copies`` says how many have it.

        Raises:
            ValueError: the vectors have another shape, or are not finite, or zero.
            StoreError: the store has become unusable, or its server has stopped.
        """
        if k < 1:
            raise ValueError(f"k is {k}; ask for one report or more")
        edition = self._refresh()
        queries = unit_rows(vectors, edition.manifest.dim)
        if not len(queries):
            return []
        left_out = excluded_rows(
            edition.catalogue,
            studies=exclude_studies,
            patients=exclude_patients,
            reports=exclude_reports,
        )
        rows = np.fromiter(left_out, np.intp, len(left_out))
        search = self._search(edition)
        answers = []
        found = search.nearest(queries, k, excluded=rows, distinct=distinct)
        for query, near in zip(queries, found, strict=True):
            hits = rank(edition, query, np.setdiff1d(near, rows), k, distinct=distinct)
            wanted = k
            while len(hits) < k and wanted < len(edition.catalogue):
                wanted *= 4  # equal texts fill the answer, or the graph found too few
                (more,) = search.nearest(
                    query[np.newaxis], wanted, excluded=rows, distinct=distinct
                )
                hits = rank(edition, query, np.setdiff1d(more, rows), k, distinct=distinct)
            floor = hits[-1].similarity if len(hits) == k else -1.0
            answers.append(
                Retrieval(hits, near_but_left_out(edition, query, left_out, floor=floor))
            )
        return answers

    def near_beside(
        self,
        kind: Kind,
        vector: NDArray[np.float32],
        k: int,
        *,
        exclude_studies: frozenset[str] = frozenset(),
        exclude_patients: frozenset[str] = frozenset(),
        exclude_reports: frozenset[str] = frozenset(),
    ) -> list[str]:
        """Ids of the ``k`` reports whose sentences or images are nearest, one a text, best first.

        The vector is float32 [dim]; what is left out is as in `retrieve`. A `StoreError` where the
        index has no such vectors.
        """
        edition = self._refresh()
        (query,) = unit_rows(vector[np.newaxis], edition.manifest.dim)
        left_out = excluded_rows(
            edition.catalogue,
            studies=exclude_studies,
            patients=exclude_patients,
            reports=exclude_reports,
        )
        if kind not in self._sides:
            self._sides[kind] = open_side(edition, kind)
        excluded = np.fromiter(left_out, np.intp, len(left_out))
        rows = self._sides[kind].nearest(query, k, excluded=excluded)
        return [edition.catalogue.report_ids[row] for row in rows]

    def hits(self, report_ids: Sequence[str], vector: NDArray[np.float32]) -> list[Hit]:
        """These reports as hits, in this order, each with its own similarity to a vector.

        Args:
            report_ids: each once; unknown ones are left out.
            vector: float32 [dim].
        """
        edition = self._refresh()
        (query,) = unit_rows(vector[np.newaxis], edition.manifest.dim)
        row_of = edition.catalogue.row_of
        rows = np.array([row_of[name] for name in report_ids if name in row_of], np.intp)
        found = {
            hit.record.report_id: hit
            for hit in rank(edition, query, rows, len(rows), distinct=False)
        }
        known = [found[name] for name in report_ids if name in found]
        return [replace(hit, rank=number) for number, hit in enumerate(known, 1)]

    def check_recall(self, queries: NDArray[np.float32] | None = None, *, k: int = 10) -> SelfTest:
        """Recall@k of this store's search against exact search.

        Args:
            queries: image vectors, float32 [N, dim]; by default some of the indexed images, or,
                where there are none, texts moved far away.
            k: how many neighbours are compared.
        """
        edition = self._refresh()
        if queries is None:
            queries = sample_of(edition, Kind.IMAGES, SAMPLE)
        return measure_recall(self._search(edition), edition.vectors, queries, k=k)

    def close(self) -> None:
        """Let go of the files and of the directory. Safe to call twice."""
        if self._index is not None:
            self._index.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> "ReportStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _search(self, edition: Edition) -> Search:
        exact = ExactSearch(edition.vectors, edition.catalogue.texts)
        if self._index is None:
            return exact
        return GraphSearch(self._index, edition.catalogue, exact)

    def _refresh(self) -> Edition:
        """The edition that counts; while Chroma is open, nobody can change it."""
        if self._index is None and current_mark(self.directory) != self._edition.mark:
            edition = open_edition(self.directory)
            check_encoder(self.directory, edition.manifest, self._encoder)
            self._edition, self._sides = edition, {}
        return self._edition
