"""Neighbours -> hits: what is left out, in which order, how many. Pure functions."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rag.index.exact import Neighbours
from rag.index.ids import Excluded
from rag.index.records import Metadata, reports_of
from rag.schema import Hit, Retrieval

_DIGITS = 6  # of a similarity: what float32 can tell apart, so that every mode gives the same
_LISTED = 1000  # reports left out that are worth a look


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


def candidates(found: Neighbours, k: int, excluded: Excluded) -> dict[str, float]:
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


def rank(
    similarities: Mapping[str, float],
    metadatas: Mapping[str, Metadata],
    k: int,
    excluded: Excluded,
) -> tuple[Hit, ...]:
    """The ``k`` nearest texts as hits, nearest first, ties by report id."""
    hits = [
        hit_of(metadatas[text_id], similarity, excluded.texts.get(text_id, ()))
        for text_id, similarity in similarities.items()
    ]
    hits.sort(key=lambda hit: (-hit.similarity, hit.record.report_id))
    return numbered(hits[:k])


def hit_of(metadata: Metadata, similarity: float, left_out: Sequence[str]) -> Hit:
    """A text as a hit: its first report by id that is not left out."""
    reports = reports_of(metadata, first_only=not left_out)
    record = next(report for report in reports if report.report_id not in left_out)
    return Hit(record=record, similarity=similarity, rank=1, copies=int(metadata["copies"]))


def numbered(hits: Iterable[Hit]) -> tuple[Hit, ...]:
    """Hits with their rank, in this order."""
    return tuple(
        Hit(hit.record, hit.similarity, rank, hit.copies, hit.why)
        for rank, hit in enumerate(hits, 1)
    )


def retrieval(hits: tuple[Hit, ...], k: int, found: Neighbours, excluded: Excluded) -> Retrieval:
    """Hits, and what was left out though it is at least as near as the last of them.

    If more than 1 000 reports are left out (a filter, not a patient), none is listed.
    """
    if not excluded.reports or len(excluded.reports) > _LISTED:
        return Retrieval(hits)
    floor = hits[-1].similarity if len(hits) == k else -1.0
    near = [
        (-round(similarity, _DIGITS), report_id)
        for text_id, similarity in zip(*found, strict=True)
        if round(similarity, _DIGITS) >= floor
        for report_id in excluded.texts.get(text_id, ())
    ]
    return Retrieval(
        hits, tuple((report_id, excluded.reports[report_id]) for _, report_id in sorted(near))
    )
