"""Finding head, calibration and refusal statistics of any encoder: `cxr-rag fit-heads`.

From one's own images and reports, with the same steps as those of the encoder that ships. Patients
are held back for what must be measured on new studies: the calibration, and the refusal threshold.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from encoders.base import CxrImage, ImageEncoder
from encoders.training.sources.nih_expert import is_held_back
from rag.errors import CalibrationError
from rag.image_analysis import ImageAnalysis
from rag.screening import finding_head_training, ood_training
from rag.screening.calibration import Calibration, calibrate, write_calibration
from rag.screening.finding_head import CALIBRATION, HEAD, FindingHead, write_finding_head
from rag.screening.out_of_distribution import (
    OOD_DETECTOR,
    POSES,
    FeatureEncoder,
    OodDetector,
    write_ood_detector,
)
from rag.screening.recalibration import LEAST_STUDIES, studies_with_reports, too_few

Floats = NDArray[np.float32]

HELD_SHARE = 1 / 3
"""Of the patients."""


@dataclass(frozen=True, slots=True, eq=False)
class FittedParts:
    """What belongs to one encoder."""

    head: FindingHead
    calibration: Calibration
    ood_detector: OodDetector


@dataclass(slots=True, eq=False)
class _Studies:
    """Studies of some patients: vectors [D] and texts, features [F] of each kind of image."""

    vectors: list[Floats] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    kinds: dict[str, list[Floats]] = field(default_factory=dict)

    def add(self, encoder: FeatureEncoder, views: tuple[CxrImage, ...], text: str) -> None:
        seen = [encoder.outputs(view) for view in views]
        self.vectors.append(ImageAnalysis(np.concatenate([s.vectors for s in seen])).query_vector)
        self.texts.append(text)
        for number, each in enumerate(seen):
            self.kinds.setdefault("lateral" if number else "frontal", []).append(each.features[0])


def fit_parts(images: Path, reports: Path, *, encoder: ImageEncoder) -> FittedParts:
    """Train on two thirds of the patients, calibrate on the others.

    Args:
        images: a folder or list of the studies' images.
        reports: their reports, a collection.
        encoder: of the vectors.

    Raises:
        CalibrationError: too few studies, or no finding that enough of them have.
    """
    seeing, left_out = cast(FeatureEncoder, encoder), Counter[str]()
    train, held = _Studies(), _Studies()
    poses: dict[str, list[Floats]] = {pose: [] for pose in POSES}
    for study, record in studies_with_reports(images, reports, left_out=left_out):
        if is_held_back(record.patient_id, share=HELD_SHARE):
            held.add(seeing, study.views, record.text)
            continue
        if (number := len(train.texts)) < ood_training.POSED:
            for pose, rows in poses.items():
                posed = ood_training.in_pose(study.views[0], pose, number=number)
                rows.append(seeing.outputs(posed).features[0])
        train.add(seeing, study.views, record.text)
    if len(held.texts) < LEAST_STUDIES or len(train.texts) < LEAST_STUDIES:
        count = len(held.texts) + len(train.texts)
        raise CalibrationError(too_few(count, round(1.2 * LEAST_STUDIES / HELD_SHARE), left_out))
    names, present = finding_head_training.presence(train.texts)
    if not names:
        raise CalibrationError(
            f"no finding is stated in {finding_head_training.LEAST_POSITIVES} of the "
            f"{len(train.texts)} reports to train on: more studies are needed"
        )
    head = finding_head_training.fit(
        np.stack(train.vectors), present, names=names, encoder_id=encoder.encoder_id
    )
    odds = head.odds(np.stack(held.vectors))
    there = finding_head_training.presence_of(held.texts, names)
    detector = ood_training.fit(
        {kind: np.stack(rows) for kind, rows in train.kinds.items()},
        {pose: np.stack(rows) for pose, rows in poses.items()},
        encoder_id=encoder.encoder_id,
    )
    new = [np.stack(rows) for rows in held.kinds.values()]
    detector = replace(detector, threshold=ood_training.threshold_of(detector, new))
    return FittedParts(head, calibrate(encoder.encoder_id, names, odds, there), detector)


def write_parts(folder: Path, parts: FittedParts) -> None:
    """Write them where `rag.factory.encoder_folder` looks for them."""
    write_calibration(folder / CALIBRATION, parts.calibration)
    write_ood_detector(folder / OOD_DETECTOR, parts.ood_detector)
    write_finding_head(folder / HEAD, parts.head)
