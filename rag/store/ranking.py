"""Candidates -> hits: what is left out, in which order, how many. Pure functions of an edition."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rag.schema import Hit
from rag.store.catalogue import Catalogue, Edition, Rows
from rag.store.exact import cosines

SAME_STUDY = "same study"
SAME_PATIENT = "same patient"
NOT_WANTED = "left out by the reader"

_LISTED = 1000  # reports left out whose nearness is looked at


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


def excluded_rows(
    catalogue: Catalogue,
    *,
    studies: frozenset[str],
    patients: frozenset[str],
    reports: frozenset[str],
) -> dict[int, str]:
    """Rows that must not come back, and why; a study takes its patient's reports with it."""
    left_out: dict[int, str] = {}
    of_studies = [int(row) for study in studies for row in catalogue.studies.rows(study)]
    left_out.update(dict.fromkeys(of_studies, SAME_STUDY))
    codes = {int(catalogue.patients.codes[row]) for row in of_studies}
    of_patients = [catalogue.patients.members(code) for code in codes]
    of_patients += [catalogue.patients.rows(patient) for patient in patients]
    for rows in of_patients:
        for row in rows.tolist():
            left_out.setdefault(row, SAME_PATIENT)
    for report in reports:
        if (found := catalogue.row_of.get(report)) is not None:
            left_out.setdefault(found, NOT_WANTED)
    return left_out


def rank(
    edition: Edition, query: NDArray[np.float32], candidates: Rows, k: int, *, distinct: bool
) -> tuple[Hit, ...]:
    """The ``k`` nearest of the candidates, nearest first, ties by report id.

    Args:
        edition: where the rows are.
        query: float32 [dim], norm 1.
        candidates: rows, each once, none that is left out.
        k: how many at most.
        distinct: of equal texts only the first by id.
    """
    texts = edition.catalogue.texts
    if distinct:  # equal texts have equal vectors
        candidates = np.sort(candidates)
        _, first = np.unique(texts.codes[candidates], return_index=True)
        candidates = candidates[first]
    similarities = cosines(edition.vectors, candidates, query)
    order = np.lexsort((candidates, -similarities))
    return tuple(
        Hit(
            record=edition.catalogue.record(int(candidates[place])),
            similarity=float(similarities[place]),
            rank=number,
            copies=texts.size(int(candidates[place])),
        )
        for number, place in enumerate(order[:k], 1)
    )


def near_but_left_out(
    edition: Edition,
    query: NDArray[np.float32],
    left_out: Mapping[int, str],
    *,
    floor: float,
) -> tuple[tuple[str, str], ...]:
    """(report_id, reason) of what was left out and is at least as near as ``floor``, nearest first.

    If more than 1 000 reports are left out (a filter, not a patient), none is listed.
    """
    if not left_out or len(left_out) > _LISTED:
        return ()
    rows = np.sort(np.fromiter(left_out, np.intp, len(left_out)))
    similarities = cosines(edition.vectors, rows, query)
    order = np.lexsort((rows, -similarities))
    return tuple(
        (edition.catalogue.report_ids[rows[place]], left_out[int(rows[place])])
        for place in order
        if similarities[place] >= floor
    )
