"""How good an arm's encoder is on the validation studies: one number a measure.

Owns the measures over unit vectors and labels, with numpy and scikit-learn. The definitions are
those of the eval harness (docs/metrics.md), which this package may not import.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from encoders.training.retrieval_metrics import area_under_curve, own_rank

Vectors = NDArray[np.float32]
Truth = NDArray[np.bool_]

LEAST_IMAGES = 5
"""Images a finding needs on both sides to have an AUC."""

LOWER_IS_BETTER = frozenset({"alignment", "uniformity", "modality gap"})


def retrieval(images: Vectors, reports: Vectors, texts: Sequence[str]) -> dict[str, float]:
    """R@k both ways; equal reports are one, and any image with a report is found by it."""
    similarity = images.astype(np.float64) @ reports.T.astype(np.float64)
    first = np.asarray([texts.index(text) for text in texts])
    groups = np.unique(first)
    report_ranks = []
    for group in groups:
        best = similarity[first == group, group].max()
        report_ranks.append(int((similarity[:, group] > best).sum()) + 1)
    ranks = {
        "image to text": own_rank(similarity, list(texts)),
        "text to image": np.asarray(report_ranks),
    }
    return {
        f"R@{k} {way}": float((found <= k).mean())
        for way, found in ranks.items()
        for k in (1, 5, 10)
    }


def embedding(images: Vectors, reports: Vectors) -> dict[str, float]:
    """Alignment, uniformity of the images, modality gap; unit rows float32 [N, D]."""
    image, text = images.astype(np.float64), reports.astype(np.float64)
    near = np.exp(2 * (2 * image @ image.T - 2))
    pairs = len(image) * (len(image) - 1)
    return {
        "alignment": float(((image - text) ** 2).sum(1).mean()),
        "uniformity": float(np.log((near.sum() - np.trace(near)) / pairs)),
        "modality gap": float(np.linalg.norm(image.mean(0) - text.mean(0))),
    }


def zero_shot(images: Vectors, present: Vectors, absent: Vectors, truth: Truth) -> dict[str, float]:
    """Macro AUC of "nearer to the sentence that states a finding than to the one that denies it".

    Args:
        images: [N, D].
        present: [L, D], a sentence a finding that states it.
        absent: [L, D], one that denies it.
        truth: [N, L].
    """
    return {"zero-shot AUC": _macro_auc(images @ (present - absent).T, truth)}


def probe(
    train: Vectors, train_truth: Truth, images: Vectors, truth: Truth, *, strength: float = 1.0
) -> dict[str, float]:
    """Macro AUC of a logistic regression a finding, learned on the training images' vectors."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - a second to import

    mean, spread = train.mean(0), train.std(0) + 1e-6
    scaled, asked = (train - mean) / spread, (images - mean) / spread
    scores = np.zeros(truth.shape)
    for finding in _scored(truth):
        known = train_truth[:, finding]
        if known.all() or not known.any():
            continue
        model = LogisticRegression(C=strength / len(train) * 100, max_iter=500)
        scores[:, finding] = model.fit(scaled, known).decision_function(asked)
    return {"probe AUC": _macro_auc(scores, truth)}


def _scored(truth: Truth) -> list[int]:
    there = truth.sum(0)
    return list(np.flatnonzero((there >= LEAST_IMAGES) & (len(truth) - there >= LEAST_IMAGES)))


def _macro_auc(scores: NDArray[np.floating], truth: Truth) -> float:
    areas = [
        area_under_curve(scores[:, at].astype(np.float64), truth[:, at]) for at in _scored(truth)
    ]
    return float(np.mean(areas)) if areas else float("nan")
