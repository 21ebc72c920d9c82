"""Calibration on your own images and reports: `cxr-rag calibrate`.

Prevalence and image quality differ between sites, so a calibration from elsewhere promises nothing.
Needs the encoder and its finding head; trains neither.
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
    assign_folds,
    calibrated_probabilities,
    false_positive_thresholds,
    fit_calibration,
)
from rag.screening.finding_head import FindingHead
from rag.study import StudyImages, load

MIN_STUDIES = 100
"""With fewer the estimate is too wide: with 100 a rate of .15 is known to within .07."""
RATES = (0.05, 0.10, 0.15, 0.20, 0.25)


def calibration_data(
    images: Path, reports: Path, *, encoder: ImageEncoder, head: FindingHead
) -> tuple[Floats, Flags]:
    """The head's log-odds of your studies, and which findings their reports state.

    Returns:
        float64 and bool [studies, findings], for the studies of `studies_with_reports`.

    Raises:
        CalibrationError: there are fewer than `MIN_STUDIES`.
    """
    log_odds, present, skipped = [], [], Counter[str]()
    for study, record in studies_with_reports(images, reports, skipped=skipped):
        vector = ImageAnalysis(encoder.embed_images(study.views)).query_vector
        log_odds.append(head.log_odds(vector[np.newaxis])[0])
        stated = report_findings(record.text)
        present.append([name in stated for name in head.names])
    if len(log_odds) < MIN_STUDIES:
        raise too_few_studies(len(log_odds), MIN_STUDIES, skipped)
    return np.array(log_odds), np.array(present, bool)


def studies_with_reports(
    images: Path, reports: Path, *, skipped: Counter[str]
) -> Iterator[tuple[StudyImages, ReportRecord]]:
    """Studies that have both images and a report; ``skipped`` counts the others by reason.

    The study id comes from the list or header, else from the path.
    """
    records = {record.study_id: record for record in read_collection(reports).records}
    studies, _ = group_images(list_images(images).images)
    for study in studies:
        record = records.get(study.study_id) or records.get(
            study_id_in_path(study.name, records) or ""
        )
        if record is None or not record.text:
            skipped["no report"] += 1
            continue
        try:
            loaded = load(study)
        except (ImageReadError, NoDraft):
            skipped["unreadable or no chest"] += 1
            continue
        yield loaded, record


def too_few_studies(found: int, needed: int, skipped: Counter[str]) -> CalibrationError:
    """The error that counts what `studies_with_reports` skipped."""
    return CalibrationError(
        f"{found} studies have an image and a report, at least {needed} are needed "
        f"(not used: {skipped['no report']} without a report, "
        f"{skipped['unreadable or no chest']} that cannot be read or are not chest X-rays)"
    )


def compare_calibrations(
    log_odds: Floats, present: Flags, head: FindingHead, old: Calibration
) -> str:
    """The existing calibration and a cross-fitted new one on these studies.

    Returns:
        Markdown: for several promised rates, the share of drafts that would state a false finding,
        with its 95 % interval.
    """
    folds = assign_folds(len(log_odds))
    before, after = np.zeros((2, len(log_odds), len(RATES)), bool)
    for fold in np.unique(folds):
        test, train = folds == fold, folds != fold
        new = fit_calibration(head.encoder_id, head.names, log_odds[train], present[train])
        for calibration, has_false_finding in ((old, before), (new, after)):
            highest = false_positive_thresholds(
                head.names,
                calibrated_probabilities(log_odds[test], calibration.slope, calibration.shift),
                present[test],
                not_assessable=calibration.not_assessable,
            )
            thresholds = [calibration.threshold(rate) for rate in RATES]
            has_false_finding[test] = highest[:, np.newaxis] >= thresholds
    lines = [
        f"{len(log_odds)} studies; share of drafts that would state what the report does not",
        "",
        "| promised | before ↓ [95 %] | after ↓ [95 %] |",
        "|---:|---|---|",
        *(
            f"| {rate:.2f} | {_share(before[:, i])} | {_share(after[:, i])} |"
            for i, rate in enumerate(RATES)
        ),
    ]
    return "\n".join(lines)


def _share(flags: NDArray[np.bool_]) -> str:
    interval = binomtest(int(flags.sum()), len(flags)).proportion_ci(method="wilson")
    return f"{flags.mean():.3f} [{interval.low:.3f}, {interval.high:.3f}]"
