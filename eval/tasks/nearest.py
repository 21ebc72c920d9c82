"""Retrieval as the report: each image drafts the report of the nearest training image's text.

What every system with retrieval must beat, as a predictions file: no language model is asked.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from eval.errors import EvalDataError, EvalUsageError
from eval.io.references import References, read_references
from eval.io.studies import Scope
from eval.vectors import Vectors, load_vectors

EVIDENCE = 5
"""Reports that are named as evidence."""


def nearest_reports(
    vectors: Path, references: Path, *, split: str, train_split: str
) -> Iterator[dict[str, Any]]:
    """Predictions of one split from the reports of another, one object per study.

    Args:
        vectors: a vectors file whose image ids are study ids.
        references: the reports of both splits.
        split: images that get a draft.
        train_split: reports that are copied.

    Raises:
        EvalUsageError: no such split, or no report in it.
        EvalDataError: a report of the training split is not among the references.
    """
    everything = load_vectors(vectors)
    images, train = everything.in_split(split), everything.in_split(train_split)
    train = train.where(np.array([bool(name) for name in train.text_ids]))
    if not len(train):
        raise EvalUsageError(f"{vectors} has no report in split {train_split!r}")
    reports = read_references(references, split=train_split)
    _refuse_unknown(train, reports)
    for at, study_id in enumerate(images.image_ids):
        similarity = train.text @ images.image[at]
        similarity[np.array(train.patient_ids) == images.patient_ids[at]] = -np.inf
        order = np.argsort(-similarity, kind="stable")[:EVIDENCE]
        chosen = [reports.studies[train.image_ids[place]] for place in order]
        first = chosen[0].texts
        yield {
            "study_id": study_id,
            "status": "ok",
            "findings": first.findings,
            "impression": first.impression,
            "report": first.report,
            "evidence": [
                {
                    "report_id": study.study_id,
                    "similarity": round(float(similarity[place]), 6),
                    "text": study.texts.of(Scope.REPORT),
                }
                for study, place in zip(chosen, order, strict=True)
            ],
            "encoder_id": images.encoder_id,
            "confidence": round(float(similarity[order[0]]), 6),
        }


def _refuse_unknown(train: Vectors, reports: References) -> None:
    unknown = [name for name in train.image_ids if name not in reports.studies]
    if unknown:
        raise EvalDataError(
            f"{reports.path} has no report of {len(unknown)} training images, {unknown[0]} first"
        )
