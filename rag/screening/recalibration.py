"""Calibration on one's own images and reports: `cxr-rag calibrate`.

Findings are as frequent in each place as they are there, and images look as its machines make them:
what was measured elsewhere promises nothing here. Needs the encoder and its finding head; trains
neither.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoders.base import ImageTextEncoder
from encoders.images.image_io import ImageReadError
from rag.batch.grouping import BatchStudy, group_images
from rag.batch.inputs import list_images
from rag.corpus.records import study_of_path
from rag.corpus.user_collection import read_collection
from rag.errors import CalibrationError, NoDraft
from rag.image_analysis import ImageAnalysis
from rag.report_reading import findings_in
from rag.screening.calibration import Calibration, calibrate, probabilities_of, stated_wrongly
from rag.screening.finding_head import FindingHead
from rag.study import Study, load

LEAST_STUDIES = 100
"""Fewer say too little: with 100 a rate of .15 is known to within .07."""
RATES = (0.05, 0.10, 0.15, 0.20, 0.25)
_FOLDS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """The head's log-odds of one's own studies, and what their reports state."""

    odds: NDArray[np.float64]
    present: NDArray[np.bool_]
    left_out: Mapping[str, int]


def measure(
    images: Path, reports: Path, *, encoder: ImageTextEncoder, head: FindingHead
) -> Measured:
    """Read images and reports and put them together by study.

    A study is a list's or header's own, or the one whose id its path bears.

    Raises:
        CalibrationError: fewer than `LEAST_STUDIES` have both.
    """
    texts = {record.study_id: record.text for record in read_collection(reports).records}
    odds, present, left_out = [], [], dict.fromkeys(("no report", "unreadable or no chest"), 0)
    for study in group_images(list_images(images).images):
        text = texts.get(study.study_id) or texts.get(study_of_path(study.name, texts) or "")
        if not text:
            left_out["no report"] += 1
            continue
        try:
            vector = _vector(study, encoder)
        except (ImageReadError, NoDraft):
            left_out["unreadable or no chest"] += 1
            continue
        odds.append(head.odds(vector[np.newaxis])[0])
        found = findings_in(text)
        present.append([name in found for name in head.names])
    if len(odds) < LEAST_STUDIES:
        raise CalibrationError(
            f"{len(odds)} studies have an image and a report, at least {LEAST_STUDIES} are needed: "
            f"left out were {left_out['no report']} without a report and "
            f"{left_out['unreadable or no chest']} that cannot be read or are no chest X-ray"
        )
    return Measured(np.array(odds), np.array(present, bool), left_out)


def recalibrate(measured: Measured, head: FindingHead) -> Calibration:
    """A calibration by these studies."""
    return calibrate(head.encoder_id, head.names, measured.odds, measured.present)


def comparison(measured: Measured, head: FindingHead, old: Calibration) -> str:
    """Both calibrations on these studies, the new one always on studies it was not made of.

    Returns:
        Markdown: the share of drafts that would state a false finding, with its 95 % interval, at
        several promised rates; then how well each finding is seen here.
    """
    count = len(measured.odds)
    folds = np.random.default_rng(0).permutation(count) % _FOLDS
    before = {rate: np.zeros(count, bool) for rate in RATES}
    after = {rate: np.zeros(count, bool) for rate in RATES}
    for fold in range(_FOLDS):
        own, other = folds == fold, folds != fold
        rest = replace(measured, odds=measured.odds[other], present=measured.present[other])
        new = recalibrate(rest, head)
        for each, wrong in ((old, before), (new, after)):
            probabilities = probabilities_of(measured.odds[own], each.slope, each.shift)
            worst = stated_wrongly(
                head.names,
                probabilities,
                measured.present[own],
                not_assessable=each.not_assessable,
            )
            for rate in RATES:
                wrong[rate][own] = worst >= each.threshold(rate)
    lines = [
        f"{count} studies; share of drafts that would state a finding which the report does not",
        "",
        "| promised | before ↓ [95 %] | after ↓ [95 %] |",
        "|---:|---|---|",
        *(f"| {r:.2f} | {_share(before[r])} | {_share(after[r])} |" for r in RATES),
    ]
    return "\n".join(lines)


def _vector(study: BatchStudy, encoder: ImageTextEncoder) -> NDArray[np.float32]:
    images = load(Study(source=study.image, name=study.name, further=study.further))
    return ImageAnalysis(encoder.embed_images(images.views)).query_vector


def _share(wrong: Sequence[bool] | NDArray[np.bool_]) -> str:
    """A share with its Wilson interval."""
    n, z = len(wrong), 1.96
    share = float(np.mean(wrong))
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return f"{share:.3f} [{max(middle - half, 0):.3f}, {min(middle + half, 1):.3f}]"
