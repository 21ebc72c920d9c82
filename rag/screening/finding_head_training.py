"""Trains the finding head of an encoder: ``python -m rag.screening.finding_head_training``.

The labels are what our labeller reads in the reports of the training split (positive or uncertain
is present); one L2-regularised logistic regression a label on the images' vectors. The encoder has
seen the training images, so its vectors of them look surer than those of new images: slope and
shift
of the log-odds, two numbers for all labels, are fitted on the validation split, and so is the one
threshold. The published test split is not touched.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score

from encoders.base import ImageTextEncoder
from encoders.eclip import load_encoder
from encoders.eclip.weights import SHIPPED
from encoders.images.image_io import read_image
from encoders.training.dataset import TrainingStudy, clean
from encoders.training.sources.openi import read_openi
from rag.report_nlp.assertion import Polarity
from rag.report_nlp.labeller import LABELS, NO_FINDING, label_text
from rag.screening.finding_head import FINDING_HEAD, FindingHead, write_finding_head

LEAST_POSITIVES = 10
"""Labels with fewer training studies are left out: a probability learnt from them means little."""

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, calibrate, print what was measured, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    data = Path(os.environ.get("CXR_DATA", "../shared/data")) / "openi"
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--model", type=Path, default=None, help="default: the shipped encoder")
    parser.add_argument("--out", type=Path, default=None)
    chosen = parser.parse_args(arguments)
    encoder = load_encoder(chosen.model)
    collection = clean(read_openi(chosen.data))
    train = [study for study in collection.train if study.frontals]
    vectors = {
        name: _image_vectors(encoder, studies)
        for name, studies in (("train", train), ("val", collection.val))
    }
    present = {name: present_labels(s) for name, s in (("train", train), ("val", collection.val))}
    head = fit(vectors["train"], present["train"], encoder_id=encoder.encoder_id)
    head = calibrate(head, vectors["val"], present["val"])
    print(table(head, vectors["val"], present["val"]))  # noqa: T201
    out = chosen.out or (chosen.model or SHIPPED) / FINDING_HEAD
    write_finding_head(out, head)


def present_labels(studies: Sequence[TrainingStudy]) -> Flags:
    """What the reports say is there, bool [studies, 14]; an uncertain finding counts as there."""
    rows = []
    for study in studies:
        said = label_text(study.text)
        rows.append([said.get(name, Polarity.NEGATIVE) is not Polarity.NEGATIVE for name in LABELS])
    return np.array(rows)


def fit(vectors: Floats, present: Flags, *, encoder_id: str, strength: float = 0.3) -> FindingHead:
    """One logistic regression a label; ``strength`` is scikit-learn's C."""
    kept = [i for i in range(len(LABELS)) if present[:, i].sum() >= LEAST_POSITIVES]
    models = [
        LogisticRegression(C=strength, max_iter=2000).fit(vectors, present[:, i]) for i in kept
    ]
    return FindingHead(
        encoder_id=encoder_id,
        labels=tuple(LABELS[i] for i in kept),
        weight=np.concatenate([model.coef_ for model in models]).astype(np.float32),
        bias=np.concatenate([model.intercept_ for model in models]).astype(np.float32),
        threshold=0.5,
    )


def calibrate(head: FindingHead, vectors: Floats, present: Flags) -> FindingHead:
    """Slope, shift and threshold from studies that neither encoder nor head was trained on."""
    truth = _of_head(head, present)
    odds = vectors @ head.weight.T + head.bias
    line = LogisticRegression(C=np.inf).fit(odds.reshape(-1, 1), truth.reshape(-1))
    slope, shift = float(line.coef_[0, 0]), float(line.intercept_[0])
    calibrated = replace(
        head,
        weight=np.asarray(head.weight * slope, np.float32),
        bias=np.asarray(head.bias * slope + shift, np.float32),
    )
    probabilities = calibrated.probabilities(vectors.astype(np.float32))
    findings = [i for i, name in enumerate(head.labels) if name != NO_FINDING]
    scores = {
        threshold: f1_score(
            truth[:, findings], probabilities[:, findings] >= threshold, average="micro"
        )
        for threshold in np.arange(0.05, 0.5, 0.01)
    }
    best = max(scores, key=lambda threshold: scores[threshold])
    return replace(calibrated, threshold=round(float(best), 2))


def table(head: FindingHead, vectors: Floats, present: Flags) -> str:
    """AUC (higher is better) and calibration of each label on the given studies, as Markdown."""
    truth = _of_head(head, present)
    probabilities = head.probabilities(vectors.astype(np.float32))
    lines = ["| label | positives | AUC | mean probability | prevalence |", "|---|---|---|---|---|"]
    for i, name in enumerate(head.labels):
        auc = f"{roc_auc_score(truth[:, i], probabilities[:, i]):.3f}" if truth[:, i].any() else "-"
        mean, share = probabilities[:, i].mean(), truth[:, i].mean()
        lines.append(f"| {name} | {truth[:, i].sum()} | {auc} | {mean:.3f} | {share:.3f} |")
    lines.append(f"\nn = {len(truth)} studies; threshold {head.threshold}")
    return "\n".join(lines)


def _image_vectors(encoder: ImageTextEncoder, studies: Sequence[TrainingStudy]) -> Floats:
    images = (read_image(study.frontals[0]) for study in studies)
    return np.stack([encoder.embed_images([image])[0] for image in images]).astype(np.float64)


def _of_head(head: FindingHead, present: Flags) -> Flags:
    return present[:, [LABELS.index(name) for name in head.labels]]


if __name__ == "__main__":
    main()
