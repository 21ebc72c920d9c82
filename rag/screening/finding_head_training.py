"""Trains the finding head of an encoder: ``python -m rag.screening.finding_head_training``.

What is predicted is what our parser reads in the reports of the training split, CheXpert-14 labels
and every finding of the lexicon with enough studies; an uncertain finding counts as present. One
L2-regularised logistic regression a finding on the mean direction of a study's views. The encoder
has seen the training images, so the head looks surer of them than of new ones: it is calibrated on
the validation split, which nothing was trained on. The published test split is not touched.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from encoders.base import ImageEncoder
from encoders.eclip.encoder import load_encoder
from encoders.images.image_io import read_image
from encoders.packaged_weights import SHIPPED
from encoders.training.dataset import TrainingStudy, clean
from encoders.training.sources.openi import read_openi
from rag.image_analysis import ImageAnalysis
from rag.report_nlp.labeller import LABELS
from rag.report_reading import findings_in
from rag.screening.calibration import Calibration, calibrate, write_calibration
from rag.screening.finding_head import CALIBRATION, HEAD, FindingHead, write_finding_head

LEAST_POSITIVES = 25
"""Findings of fewer training studies are left out: a probability learnt from them means little."""
_MOST = 0.95
"""So are those of nearly all."""

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, calibrate, print what was measured, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    data = Path(os.environ.get("CXR_DATA", "../shared/data")) / "openi"
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--model", type=Path, default=SHIPPED, help="folder of the encoder")
    chosen = parser.parse_args(arguments)
    encoder = load_encoder(chosen.model)
    collection = clean(read_openi(chosen.data))
    train = [study for study in collection.train if study.frontals]
    names, present = presence([study.text for study in train])
    head = fit(study_vectors(encoder, train), present, names=names, encoder_id=encoder.encoder_id)
    val = presence_of([study.text for study in collection.val], head.names)
    odds = head.odds(study_vectors(encoder, collection.val))
    calibration = calibrate(encoder.encoder_id, head.names, odds, val)
    write_finding_head(chosen.model / HEAD, head)
    write_calibration(chosen.model / CALIBRATION, calibration)
    print(table(calibration))  # noqa: T201


def presence(texts: Sequence[str]) -> tuple[tuple[str, ...], Flags]:
    """Findings that can be learnt from these reports, and which report states which."""
    stated = [findings_in(text) for text in texts]
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
    return np.array([[name in findings_in(text) for name in names] for text in texts], bool)


def fit(
    vectors: Floats, present: Flags, *, names: Sequence[str], encoder_id: str, strength: float = 1.0
) -> FindingHead:
    """One logistic regression a finding; ``strength`` is scikit-learn's C."""
    models = [
        LogisticRegression(C=strength, max_iter=1000).fit(vectors, present[:, at])
        for at in range(len(names))
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
