"""One version of an index: neighbours -> hits; what is left out, in which order, how many.

As many more neighbours are fetched as texts are excluded, because a filter inside Chroma takes a
hundred times as long and loses recall.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rag.corpus.records import ids_in_path, possible_ids
from rag.errors import StoreError
from rag.index.chroma import Metadata, Neighbour, VectorCollection
from rag.index.content import reports_of, reports_of_image
from rag.index.ids import Exclusions, ReportIds
from rag.index.info import IndexInfo
from rag.schema import Hit, ReportRecord

_MORE = 4  # fetched beyond what is needed, for equal similarities at the end
_DIGITS = 6  # of a similarity: what float32 can tell apart


@dataclass(frozen=True, slots=True, eq=False)
class OpenedVersion:
    """One version of an index, opened. It never changes; `ReportIndex` says what it answers."""

    mark: tuple[int, int]
    info: IndexInfo
    texts: VectorCollection
    images: VectorCollection
    ids: ReportIds

    def get(self, report_id: str) -> ReportRecord | None:
        """See `ReportIndex.get`."""
        for text_id in self.ids.texts_of([report_id]).values():
            found = reports_of(self.texts.metadatas([text_id])[text_id])
            return next(record for record in found if record.report_id == report_id)
        return None

    def studies_named_in(self, path: str | PurePath) -> frozenset[str]:
        """See `ReportIndex.studies_named_in`."""
        names = possible_ids(path)
        patients = ids_in_path(path, self.ids.patients_among(names))
        studies = ids_in_path(path, self.ids.studies_among(names))
        return studies | self.ids.studies_of_patients(patients)

    def query(self, vector: NDArray[np.float32], k: int, exclude: Exclusions) -> list[Hit]:
        """See `ReportIndex.query`."""
        query = unit_vector(vector, self.info.dim)
        excluded = self.ids.excluded(exclude)
        hits: list[Hit] = []
        n = k + len(set(excluded.values())) + _MORE
        for found in _widening(self.texts, query, n, self.info.texts):
            hits = [
                hit
                for _, similarity, metadata in found
                if (hit := _hit(metadata, similarity, excluded))
            ]
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
        """See `ReportIndex.query_by_images`."""
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
