"""Calibration on one's own images and reports: `cxr-rag calibrate`.

Findings are as frequent in each place as they are there, and images look as its machines make them:
what was measured elsewhere promises nothing here. Needs the encoder and its finding head; trains
neither.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from encoders.base import ImageEncoder
from encoders.images.raw_image import ImageReadError
from rag.batch.grouping import group_images
from rag.batch.inputs import list_images
from rag.corpus.records import study_id_in_path
from rag.corpus.user_collection import read_collection
from rag.errors import CalibrationError, NoDraft
from rag.image_analysis import ImageAnalysis
from rag.report_reading import report_findings
from rag.schema import ReportRecord
from rag.screening.calibration import (
    Calibration,
    Flags,
    Floats,
    calibrate,
    probabilities_of,
    stated_wrongly,
)
from rag.screening.finding_head import FindingHead
from rag.study import StudyImages, load

LEAST_STUDIES = 100
"""Fewer say too little: with 100 a rate of .15 is known to within .07."""
RATES = (0.05, 0.10, 0.15, 0.20, 0.25)
_FOLDS = 10


def measure(
    images: Path, reports: Path, *, encoder: ImageEncoder, head: FindingHead
) -> tuple[Floats, Flags]:
    """The head's log-odds of one's own studies, and what their reports state.

    Returns:
        float64 and bool [studies, findings]; what belongs together is as in `studies_with_reports`.

    Raises:
        CalibrationError: fewer than `LEAST_STUDIES` have both.
    """
    odds, present, left_out = [], [], Counter[str]()
    for views, record in studies_with_reports(images, reports, left_out=left_out):
        vector = ImageAnalysis(encoder.embed_images(views.views)).query_vector
        odds.append(head.odds(vector[np.newaxis])[0])
        found = report_findings(record.text)
        present.append([name in found for name in head.names])
    if len(odds) < LEAST_STUDIES:
        raise CalibrationError(too_few(len(odds), LEAST_STUDIES, left_out))
    return np.array(odds), np.array(present, bool)


def studies_with_reports(
    images: Path, reports: Path, *, left_out: Counter[str]
) -> Iterator[tuple[StudyImages, ReportRecord]]:
    """Studies that have both, one after the other; counts those that do not.

    A study is a list's or header's own, or the one whose id its path bears.
    """
    records = {record.study_id: record for record in read_collection(reports).records}
    studies, _ = group_images(list_images(images).images)
    for study in studies:
        record = records.get(study.study_id) or records.get(
            study_id_in_path(study.name, records) or ""
        )
        if record is None or not record.text:
            left_out["no report"] += 1
            continue
        try:
            views = load(study)
        except (ImageReadError, NoDraft):
            left_out["unreadable or no chest"] += 1
            continue
        yield views, record


def too_few(found: int, needed: int, left_out: Counter[str]) -> str:
    """Why nothing can be measured, as a sentence."""
    return (
        f"{found} studies have an image and a report, at least {needed} are needed: left out were "
        f"{left_out['no report']} without a report and {left_out['unreadable or no chest']} that "
        "cannot be read or are no chest X-ray"
    )


def comparison(odds: Floats, present: Flags, head: FindingHead, old: Calibration) -> str:
    """Both calibrations on these studies, the new one always on studies it was not made of.

    Returns:
        Markdown: the share of drafts that would state a false finding, with its 95 % interval, at
        several promised rates.
    """
    folds = np.random.default_rng(0).permutation(len(odds)) % _FOLDS
    before, after = np.zeros((2, len(odds), len(RATES)), bool)
    for fold in range(_FOLDS):
        own, other = folds == fold, folds != fold
        new = calibrate(head.encoder_id, head.names, odds[other], present[other])
        for each, wrong in ((old, before), (new, after)):
            worst = stated_wrongly(
                head.names,
                probabilities_of(odds[own], each.slope, each.shift),
                present[own],
                not_assessable=each.not_assessable,
            )
            wrong[own] = worst[:, None] >= [each.threshold(rate) for rate in RATES]
    lines = [
        f"{len(odds)} studies; share of drafts that would state what the report does not",
        "",
        "| promised | before ↓ [95 %] | after ↓ [95 %] |",
        "|---:|---|---|",
        *(
            f"| {rate:.2f} | {_share(before[:, at])} | {_share(after[:, at])} |"
            for at, rate in enumerate(RATES)
        ),
    ]
    return "\n".join(lines)


def _share(wrong: NDArray[np.bool_]) -> str:
    interval = binomtest(int(wrong.sum()), len(wrong)).proportion_ci(method="wilson")
    return f"{wrong.mean():.3f} [{interval.low:.3f}, {interval.high:.3f}]"
