"""Neighbours -> hits: what is left out, in which order, how many.

As many more neighbours are fetched as texts are excluded, because a filter inside Chroma takes a
hundred times as long and loses recall.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rag.errors import StoreError
from rag.index.chroma import Neighbours, VectorCollection
from rag.index.content import Metadata, reports_of
from rag.index.ids import Excluded, Exclusions, ReportIds
from rag.index.info import IndexInfo
from rag.schema import Hit

_MORE = 4  # fetched beyond what is needed, for equal similarities at the end
_AT_ONCE = 32  # so many more records may be read in vain before a second question is quicker
_DIGITS = 6  # of a similarity: what float32 can tell apart


@dataclass(slots=True, eq=False, weakref_slot=True)
class OpenedVersion:
    """One version of an index, opened. It never changes."""

    mark: tuple[int, int]
    info: IndexInfo
    texts: VectorCollection
    images: VectorCollection
    ids: ReportIds

    def query(self, vectors: NDArray[np.float32], k: int, exclude: Exclusions) -> list[list[Hit]]:
        """See `ReportIndex.query`."""
        queries = unit_rows(vectors, self.info.dim)
        if not len(queries):
            return []
        excluded = self.ids.excluded(exclude)
        left = self.info.texts - len(excluded.whole_texts)
        n = min(k + len(excluded.whole_texts) + _MORE, self.info.texts)
        known: dict[str, Metadata] = {}
        at_once = known if n <= k + _AT_ONCE else None
        answers = []
        first = self.texts.nearest(queries, n, metadatas=at_once)
        for query, found in zip(queries, first, strict=True):
            near, wanted = _candidates(found, k, excluded), n
            while len(near) < min(k, left) and wanted < self.info.texts:  # the graph missed some
                wanted = min(4 * wanted, self.info.texts)
                (found,) = self.texts.nearest(query[np.newaxis], wanted)  # noqa: PLW2901
                near = _candidates(found, k, excluded)
            if missing := [text_id for text_id in near if text_id not in known]:
                known |= self.texts.metadatas(missing)
            hits = sorted(
                (
                    _hit(known[name], value, excluded.texts.get(name, ()))
                    for name, value in near.items()
                ),
                key=lambda hit: (-hit.similarity, hit.record.report_id),
            )
            answers.append(hits[:k])
        return answers

    def query_by_images(
        self,
        vector: NDArray[np.float32],
        k: int,
        exclude: Exclusions,
        *,
        similarity: Literal["image", "text"],
    ) -> list[Hit]:
        """See `ReportIndex.query_by_images`."""
        (query,) = unit_rows(vector[np.newaxis], self.info.dim)
        if not self.info.images:
            raise StoreError(
                "the index has no images, which this encoder or retrieval.by asks for: run "
                "`cxr-rag index` again with --images"
            )
        excluded, n = self.ids.excluded(exclude), 2 * k + _MORE
        while True:
            n = min(n, self.info.images)
            (found,) = self.images.nearest(query[np.newaxis], n)
            near = self._reports_of_images(found)
            text_of = self.ids.texts_of(name for name in near if name not in excluded.reports)
            texts: dict[str, float] = {}
            for report_id, value in near.items():
                if report_id in text_of:
                    texts.setdefault(text_of[report_id], value)
            if len(texts) >= k or n == self.info.images:
                break
            n *= 4
        nearest = list(texts)[:k]
        if similarity == "text" and nearest:
            values = self.texts.vectors(nearest) @ query
            texts = dict(zip(nearest, map(float, values), strict=True))
        metadatas = self.texts.metadatas(nearest)
        return [
            _hit(metadatas[name], round(texts[name], _DIGITS), excluded.texts.get(name, ()))
            for name in nearest
        ]

    def _reports_of_images(self, found: Neighbours) -> dict[str, float]:
        """Reports in the order of their nearest image, with its similarity."""
        metadatas = self.images.metadatas(found[0])
        near: dict[str, float] = {}
        for image_id, value in zip(*found, strict=True):
            for report_id in json.loads(metadatas[image_id]["reports"]):
                near.setdefault(report_id, value)
        return near


def unit_rows(vectors: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    """Query vectors, checked and scaled: float32 [N, dim], rows of norm 1.

    Raises:
        ValueError: another shape, a value that is not finite, or a zero vector.
    """
    array = np.asarray(vectors, np.float32)
    if array.ndim != 2 or array.shape[1] != dim:
        raise ValueError(f"query vectors are {array.shape}, this index wants (N, {dim})")
    norms = np.linalg.norm(array.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(norms).all() or not norms.all():
        raise ValueError("a query vector is zero or not finite")
    return np.ascontiguousarray(array / norms, np.float32)


def _candidates(found: Neighbours, k: int, excluded: Excluded) -> dict[str, float]:
    """Similarities of the ``k`` nearest texts that may come back, and of any as near as the last.

    Args:
        found: more than ``k`` neighbours by as many as are excluded.
        k: how many are wanted.
        excluded: what must not come back.
    """
    left = [
        (text_id, round(similarity, _DIGITS))
        for text_id, similarity in zip(*found, strict=True)
        if text_id not in excluded.whole_texts
    ]
    floor = left[k - 1][1] if len(left) >= k else -1.0
    return {text_id: similarity for text_id, similarity in left if similarity >= floor}


def _hit(metadata: Metadata, similarity: float, left_out: Sequence[str]) -> Hit:
    """A text as a hit: its first report by id that is not left out."""
    reports = reports_of(metadata)
    record = next(report for report in reports if report.report_id not in left_out)
    return Hit(record=record, similarity=similarity, copies=int(metadata["copies"]))
