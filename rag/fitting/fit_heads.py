"""Fits finding head, calibration and out-of-distribution detector of an encoder.

`cxr-rag fit-heads` fits them on your own images and reports, with patients held back for the
calibration and the refusal threshold. ``python -m rag.fitting.fit_heads`` fits head and
calibration of the shipped encoder on Open-I's training and validation splits; it does not touch the
published test split.

Targets are what our parser reads in the reports: CheXpert-14 labels and findings of the lexicon
with enough studies, uncertain ones counted as present. Each finding is an L2-regularised logistic
regression on the study's query vector.
"""

import argparse
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
from encoders.image_io import read_image
from encoders.packaged_weights import SHIPPED_ENCODER
from encoders.training.dataset import TrainingStudy, build_dataset
from encoders.training.sources.load import data_folder, read_openi
from encoders.training.sources.nih_expert import is_held_back
from rag.errors import CalibrationError
from rag.fitting.calibrate import MIN_STUDIES, studies_with_reports, too_few_studies
from rag.fitting.ood_detector import MAX_POSED, fit_ood_detector, fit_threshold, in_pose
from rag.image_analysis import ImageAnalysis
from rag.report_nlp.labeller import LABELS
from rag.report_reading import report_findings
from rag.screening.calibration import Calibration, fit_calibration, write_calibration
from rag.screening.finding_head import (
    CALIBRATION_FILE,
    HEAD_FILE,
    FindingHead,
    write_finding_head,
)
from rag.screening.out_of_distribution import (
    OOD_DETECTOR_FILE,
    POSES,
    FeatureEncoder,
    OodDetector,
    write_ood_detector,
)

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

HELD_BACK_SHARE = 1 / 3
"""Of the patients."""
MIN_POSITIVES, MAX_POSITIVE_SHARE = 25, 0.95
"""Findings of fewer or more training studies are left out: too little to learn from."""


@dataclass(frozen=True, slots=True, eq=False)
class FittedParts:
    """What was fitted for one encoder."""

    head: FindingHead
    calibration: Calibration
    ood_detector: OodDetector


@dataclass(slots=True, eq=False)
class _EncodedStudies:
    """Query vectors [D] and report texts of studies; features [F] of their images by view."""

    vectors: list[Floats] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    features: dict[str, list[Floats]] = field(default_factory=dict)

    def add(self, encoder: FeatureEncoder, images: tuple[CxrImage, ...], text: str) -> None:
        outputs = [encoder.outputs(image) for image in images]
        vectors = np.concatenate([output.vectors for output in outputs])
        self.vectors.append(ImageAnalysis(vectors).query_vector)
        self.texts.append(text)
        for i, (image, output) in enumerate(zip(images, outputs, strict=True)):
            if image.view is View.UNKNOWN and i:
                continue  # only a study's first image is known to be frontal
            view = "lateral" if image.view is View.LATERAL else "frontal"
            self.features.setdefault(view, []).append(output.features[0])


def fit_parts(images: Path, reports: Path, *, encoder: ImageEncoder) -> FittedParts:
    """Train on two thirds of the patients and calibrate on the others.

    Args:
        images: a folder or list of the studies' images.
        reports: their reports, a collection with study ids.
        encoder: whose vectors and features the parts are fitted on.

    Raises:
        CalibrationError: too few studies, or no finding that enough of them have.
    """
    feature_encoder, skipped = cast(FeatureEncoder, encoder), Counter[str]()
    train, held_back = _EncodedStudies(), _EncodedStudies()
    poses: dict[str, list[Floats]] = {pose: [] for pose in POSES}
    for study, record in studies_with_reports(images, reports, skipped=skipped):
        if is_held_back(record.patient_id, share=HELD_BACK_SHARE):
            held_back.add(feature_encoder, study.views, record.text)
            continue
        if (index := len(train.texts)) < MAX_POSED:
            for pose, rows in poses.items():
                posed = in_pose(study.views[0], pose, index=index)
                rows.append(feature_encoder.outputs(posed).features[0])
        train.add(feature_encoder, study.views, record.text)
    if min(len(held_back.texts), len(train.texts)) < MIN_STUDIES:
        found = len(held_back.texts) + len(train.texts)
        raise too_few_studies(found, round(1.2 * MIN_STUDIES / HELD_BACK_SHARE), skipped)
    names, present = learnable_findings(train.texts)
    if not names:
        raise CalibrationError(
            f"no finding is stated in {MIN_POSITIVES} of the "
            f"{len(train.texts)} reports to train on: more studies are needed"
        )
    head = fit_head(np.stack(train.vectors), present, names=names, encoder_id=encoder.encoder_id)
    detector = fit_ood_detector(
        {view: np.stack(rows) for view, rows in train.features.items()},
        {pose: np.stack(rows) for pose, rows in poses.items()},
        encoder_id=encoder.encoder_id,
    )
    new = [np.stack(rows) for rows in held_back.features.values()]
    return FittedParts(
        head,
        _calibrate(head, np.stack(held_back.vectors), held_back.texts),
        replace(detector, threshold=fit_threshold(detector, new)),
    )


def write_parts(folder: Path, parts: FittedParts) -> None:
    """Write them where `rag.factory.encoder_folder` looks for them."""
    write_calibration(folder / CALIBRATION_FILE, parts.calibration)
    write_ood_detector(folder / OOD_DETECTOR_FILE, parts.ood_detector)
    write_finding_head(folder / HEAD_FILE, parts.head)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, calibrate, print the AUCs, write."""
    parser = argparse.ArgumentParser(description="Head and calibration from Open-I's splits.")
    parser.add_argument("--data", type=Path, default=data_folder() / "openi")
    parser.add_argument("--model", type=Path, default=SHIPPED_ENCODER, help="folder of the encoder")
    options = parser.parse_args(arguments)
    encoder = load_encoder(options.model)
    dataset = build_dataset(read_openi(options.data))
    train = [study for study in dataset.train if study.frontals]
    names, present = learnable_findings([study.text for study in train])
    vectors = query_vectors(encoder, train)
    head = fit_head(vectors, present, names=names, encoder_id=encoder.encoder_id)
    texts = [study.text for study in dataset.val]
    calibration = _calibrate(head, query_vectors(encoder, dataset.val), texts)
    write_finding_head(options.model / HEAD_FILE, head)
    write_calibration(options.model / CALIBRATION_FILE, calibration)
    print(auc_table(calibration))  # noqa: T201


def _calibrate(head: FindingHead, vectors: Floats, texts: Sequence[str]) -> Calibration:
    present = stated_findings(texts, head.names)
    return fit_calibration(head.encoder_id, head.names, head.log_odds(vectors), present)


def learnable_findings(texts: Sequence[str]) -> tuple[tuple[str, ...], Flags]:
    """Findings that can be learnt from these reports, and bool [reports, findings]."""
    stated = [report_findings(text) for text in texts]
    names = [*LABELS, *sorted(set().union(*stated) - set(LABELS))]
    present = np.array([[name in findings for name in names] for findings in stated], bool)
    learnable = (present.sum(0) >= MIN_POSITIVES) & (present.mean(0) <= MAX_POSITIVE_SHARE)
    return tuple(np.array(names)[learnable].tolist()), present[:, learnable]


def stated_findings(texts: Sequence[str], names: Sequence[str]) -> Flags:
    """Which report states which of these findings: bool [reports, findings]."""
    return np.array([[name in report_findings(text) for name in names] for text in texts], bool)


def fit_head(
    vectors: Floats, present: Flags, *, names: Sequence[str], encoder_id: str
) -> FindingHead:
    """One logistic regression per finding."""
    models = [LogisticRegression(max_iter=1000).fit(vectors, column) for column in present.T]
    return FindingHead(
        encoder_id=encoder_id,
        names=tuple(names),
        weight=np.concatenate([model.coef_ for model in models]).astype(np.float32),
        bias=np.concatenate([model.intercept_ for model in models]).astype(np.float32),
    )


def query_vectors(encoder: ImageEncoder, studies: Sequence[TrainingStudy]) -> Floats:
    """Query vector of each study over all its views: float32 [studies, D]."""
    views = ([read_image(path) for path in (*s.frontals, *s.laterals)] for s in studies)
    return np.stack([ImageAnalysis(encoder.embed_images(images)).query_vector for images in views])


def auc_table(calibration: Calibration) -> str:
    """AUC of each finding, as Markdown."""
    lines = ["| finding | positives | AUC ↑ [95 %] | |", "|---|---:|---|---|"]
    for name, auc in calibration.aucs.items():
        value = "-" if auc.value is None else f"{auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}]"
        lines.append(
            f"| {name} | {auc.positives} | {value} | {'' if auc.assessable else 'not assessable'} |"
        )
    return "\n".join([*lines, "", f"n = {calibration.studies} studies"])


if __name__ == "__main__":
    main()
