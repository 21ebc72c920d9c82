"""Finding head, calibration and refusal statistics of any encoder: `cxr-rag fit-heads`.

From one's own images and reports. Patients are held back for what must be measured on new studies:
the calibration, and the refusal threshold. ``python -m rag.screening.encoder_fit`` makes the head
of the encoder that ships, from Open-I's training split, and calibrates it on the validation split;
the published test split is not touched.

What a head predicts is what our parser reads in the reports: CheXpert-14 labels and every finding
of the lexicon with enough studies; an uncertain finding counts as present. One L2-regularised
logistic regression a finding, on the mean direction of a study's views.
"""

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from encoders.base import CxrImage, ImageEncoder, View
from encoders.eclip.encoder import load_encoder
from encoders.images.image_io import read_image
from encoders.packaged_weights import SHIPPED_ENCODER
from encoders.training.dataset import TrainingStudy, build_dataset
from encoders.training.sources.load import read_openi
from encoders.training.sources.nih_expert import is_held_back
from rag.errors import CalibrationError
from rag.image_analysis import ImageAnalysis
from rag.report_nlp.labeller import LABELS
from rag.report_reading import report_findings
from rag.screening import ood_training
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
Flags = NDArray[np.bool_]

HELD_SHARE = 1 / 3
"""Of the patients."""
LEAST_POSITIVES = 25
"""Findings of fewer training studies are left out: a probability learnt from them means little."""
_MOST = 0.95
"""So are those of nearly all."""


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
        for number, (view, each) in enumerate(zip(views, seen, strict=True)):
            if view.view is View.UNKNOWN and number:
                continue  # the study's first image is its frontal; another may be anything
            kind = "lateral" if view.view is View.LATERAL else "frontal"
            self.kinds.setdefault(kind, []).append(each.features[0])


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
    names, present = presence(train.texts)
    if not names:
        raise CalibrationError(
            f"no finding is stated in {LEAST_POSITIVES} of the "
            f"{len(train.texts)} reports to train on: more studies are needed"
        )
    head = fit_head(np.stack(train.vectors), present, names=names, encoder_id=encoder.encoder_id)
    odds = head.odds(np.stack(held.vectors))
    there = presence_of(held.texts, names)
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, calibrate, print what was measured, write."""
    parser = argparse.ArgumentParser(description="Head and calibration from Open-I's splits.")
    data = Path(os.environ.get("CXR_DATA", "../shared/data")) / "openi"
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--model", type=Path, default=SHIPPED_ENCODER, help="folder of the encoder")
    chosen = parser.parse_args(arguments)
    encoder = load_encoder(chosen.model)
    dataset = build_dataset(read_openi(chosen.data))
    train = [study for study in dataset.train if study.frontals]
    names, present = presence([study.text for study in train])
    head = fit_head(
        study_vectors(encoder, train), present, names=names, encoder_id=encoder.encoder_id
    )
    val = presence_of([study.text for study in dataset.val], head.names)
    odds = head.odds(study_vectors(encoder, dataset.val))
    calibration = calibrate(encoder.encoder_id, head.names, odds, val)
    write_finding_head(chosen.model / HEAD, head)
    write_calibration(chosen.model / CALIBRATION, calibration)
    print(table(calibration))  # noqa: T201


def presence(texts: Sequence[str]) -> tuple[tuple[str, ...], Flags]:
    """Findings that can be learnt from these reports, and which report states which."""
    stated = [report_findings(text) for text in texts]
    known = [*LABELS, *sorted(set().union(*stated) - set(LABELS))]
    flags = np.array([[name in found for name in known] for found in stated], bool)
    kept = [
        at
        for at in range(len(known))
        if flags[:, at].sum() >= LEAST_POSITIVES and flags[:, at].mean() <= _MOST
    ]
    return tuple(known[at] for at in kept), flags[:, kept]


def presence_of(texts: Sequence[str], names: Sequence[str]) -> Flags:
    """Which report states which of these findings: bool [reports, findings]."""
    return np.array([[name in report_findings(text) for name in names] for text in texts], bool)


def fit_head(
    vectors: Floats, present: Flags, *, names: Sequence[str], encoder_id: str
) -> FindingHead:
    """One logistic regression a finding."""
    models = [
        LogisticRegression(max_iter=1000).fit(vectors, present[:, at]) for at in range(len(names))
    ]
    return FindingHead(
        encoder_id=encoder_id,
        names=tuple(names),
        weight=np.concatenate([model.coef_ for model in models]).astype(np.float32),
        bias=np.concatenate([model.intercept_ for model in models]).astype(np.float32),
    )


def study_vectors(encoder: ImageEncoder, studies: Sequence[TrainingStudy]) -> Floats:
    """Mean direction of each study's views: float32 [studies, dim]."""
    views = ([read_image(path) for path in (*s.frontals, *s.laterals)] for s in studies)
    return np.stack([ImageAnalysis(encoder.embed_images(each)).query_vector for each in views])


def table(calibration: Calibration) -> str:
    """How well each finding is seen, as Markdown."""
    lines = ["| finding | positives | AUC ↑ [95 %] | |", "|---|---:|---|---|"]
    for name, auc in calibration.aucs.items():
        value = "-" if auc.value is None else f"{auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}]"
        lines.append(
            f"| {name} | {auc.positives} | {value} | {'' if auc.assessable else 'not assessable'} |"
        )
    return "\n".join([*lines, "", f"n = {calibration.studies} studies"])


if __name__ == "__main__":
    main()
