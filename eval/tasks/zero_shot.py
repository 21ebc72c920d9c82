"""Zero-shot classification: an image belongs to the class whose sentences lie nearest."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.errors import EvalUsageError
from eval.metrics.base import Direction, divide
from eval.results import Result, numbers_of
from eval.stats import (
    Bools,
    Floats,
    Statistic,
    roc_curve,
    weighted_auroc,
    weighted_average_precision,
)
from eval.vectors import Vectors, load_vectors

LEAST = 5
"""Images that a class needs on each side to be scored."""

CHANCE, MAJORITY = "random scores", "most common class"


def zero_shot(path: Path, *, split: str = "", samples: int = 2_000, seed: int = 0) -> Result:
    """Score a vectors file.

    Raises:
        EvalUsageError: it has no prompts, or no class with enough images.
        EvalDataError: it is damaged.
    """
    vectors = load_vectors(path).in_split(split)
    if not len(vectors.prompt):
        raise EvalUsageError(f"{path} has no prompt vectors: see `cxr-rag eval prompts`")
    generator = np.random.default_rng(seed)
    systems = {
        vectors.encoder_id: class_scores(vectors),
        CHANCE: generator.random((len(vectors), len(vectors.classes))),
    }
    if vectors.single:
        shares = vectors.labels.mean(axis=0)
        systems[MAJORITY] = np.tile(shares, (len(vectors), 1))
    parts = (_choices, area_statistic) if vectors.single else (area_statistic,)
    statistics = [
        (name, "all", part(vectors, scores)) for name, scores in systems.items() for part in parts
    ]
    patients = vectors.patient_ids.tolist()
    numbers = numbers_of(statistics, patients=patients, samples=samples, seed=seed)
    scored = _scored(vectors)
    few = [name for at, name in enumerate(vectors.classes) if at not in scored]
    denials = "" if vectors.single else " minus cosine of image and the sentences that deny it"
    return vectors.result(
        "zero-shot",
        path=path,
        numbers=numbers,
        settings={"split": split, "samples": samples, "seed": seed},
        blanks={"denials": denials},
        curves={"plots": [_roc(vectors, systems[vectors.encoder_id])]},
        notes=[f"too few images to score: {', '.join(few)}"] if few else [],
    )


def class_scores(vectors: Vectors) -> Floats:
    """How much each image looks like each class: float64 [N, L].

    A class vector is the mean of its sentences' unit vectors, normalised again. Where an image has
    one class the score is its cosine with the class; else that cosine minus the one with the
    sentences that deny the class.
    """
    image = vectors.image.astype(np.float64)
    present = image @ _class_vectors(vectors, present=True).T
    if vectors.single:
        return np.asarray(present)
    return np.asarray(present - image @ _class_vectors(vectors, present=False).T)


def _class_vectors(vectors: Vectors, *, present: bool) -> NDArray[np.float64]:
    means = []
    for label in vectors.classes:
        rows = [p.label == label and p.present == present for p in vectors.prompts]
        means.append(vectors.prompt[np.array(rows)].astype(np.float64).mean(axis=0))
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True))


def _choices(vectors: Vectors, scores: Floats) -> Statistic:
    """Accuracy and macro F1 of the nearest class, from a row of the confusion matrix an image."""
    count = len(vectors.classes)
    cells = vectors.labels.argmax(axis=1) * count + scores.argmax(axis=1)
    rows = np.zeros((len(vectors), count * count))
    rows[np.arange(len(vectors)), cells] = 1

    def values(weights: Floats) -> Floats:
        matrix = (weights @ rows).reshape(len(weights), count, count)
        hits = np.diagonal(matrix, axis1=1, axis2=2)
        below = matrix.sum(axis=1) + matrix.sum(axis=2)
        f1 = np.nan_to_num(divide(2 * hits, below)).mean(axis=1)
        return np.stack([hits.sum(axis=1) / matrix.sum(axis=(1, 2)), f1], axis=1)

    return Statistic(("accuracy", "macro F1"), (Direction.HIGHER,) * 2, (len(vectors),) * 2, values)


def area_statistic(vectors: Vectors, scores: Floats) -> Statistic:
    """AUROC and average precision, macro and by class, of the classes with enough images."""
    scored = _scored(vectors)
    if not scored:
        raise EvalUsageError(f"no class has {LEAST} images with it and {LEAST} without")
    truths: list[tuple[Floats, Bools]] = [(scores[:, at], vectors.labels[:, at]) for at in scored]

    def values(weights: Floats) -> Floats:
        areas = np.stack([weighted_auroc(s, t, weights) for s, t in truths], axis=1)
        precisions = np.stack(
            [weighted_average_precision(s, t, weights) for s, t in truths], axis=1
        )
        means = [np.nanmean(part, axis=1, keepdims=True) for part in (areas, precisions)]
        return np.concatenate([*means, areas], axis=1)

    names = [f"AUROC {vectors.classes[at]}" for at in scored]
    size = len(names) + 2
    return Statistic(
        ("macro AUROC", "macro average precision", *names),
        (Direction.HIGHER,) * size,
        (len(vectors),) * size,
        values,
    )


def _scored(vectors: Vectors) -> list[int]:
    there = vectors.labels.sum(axis=0)
    enough = (there >= LEAST) & (len(vectors) - there >= LEAST)
    return [int(at) for at in np.flatnonzero(enough)]


def _roc(vectors: Vectors, scores: Floats) -> dict[str, object]:
    series = []
    ranked = sorted(_scored(vectors), key=lambda at: -int(vectors.labels[:, at].sum()))
    for at in ranked[:7]:  # a plot of more lines shows nothing
        false, true = roc_curve(scores[:, at], vectors.labels[:, at])
        name = f"{vectors.classes[at]} ({int(vectors.labels[:, at].sum())})"
        series.append({"name": name, "x": false.round(4).tolist(), "y": true.round(4).tolist()})
    return {
        "title": "ROC of the most frequent classes (images with it)",
        "x": ["false positive rate", 0, 1],
        "y": ["true positive rate", 0, 1],
        "series": series,
        "diagonal": True,
    }
