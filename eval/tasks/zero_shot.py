"""Zero-shot classification: an image is assigned to the class with the nearest prompts."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.errors import EvalUsageError
from eval.metrics.base import Direction, divide
from eval.results import Result, metric_values
from eval.stats import (
    Bools,
    Floats,
    Statistic,
    roc_curve,
    uniform_statistic,
    weighted_auroc,
    weighted_average_precision,
)
from eval.vectors import MIN_CLASS_IMAGES, Vectors, load_vectors

CHANCE, MAJORITY = "random scores", "most common class"


def zero_shot(path: Path, *, split: str = "", samples: int = 2_000, seed: int = 0) -> Result:
    """Score a vectors file.

    Raises:
        EvalUsageError: the file has no prompts, or no class with enough images.
        EvalDataError: the file is damaged.
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
        prevalence = vectors.labels.mean(axis=0)
        systems[MAJORITY] = np.tile(prevalence, (len(vectors), 1))
    kinds = (_accuracy_statistic, area_statistic) if vectors.single else (area_statistic,)
    statistics = [
        (name, "all", kind(vectors, scores)) for name, scores in systems.items() for kind in kinds
    ]
    patients = vectors.patient_ids.tolist()
    numbers = metric_values(statistics, patients=patients, samples=samples, seed=seed)
    scorable = vectors.scorable_classes()
    too_few = [name for i, name in enumerate(vectors.classes) if i not in scorable]
    denials = "" if vectors.single else " minus cosine of image and the sentences that deny it"
    return vectors.result(
        "zero-shot",
        path=path,
        numbers=numbers,
        settings={"split": split, "samples": samples, "seed": seed},
        blanks={"denials": denials},
        curves={"plots": [_roc_plot(vectors, systems[vectors.encoder_id])]},
        notes=[f"too few images to score: {', '.join(too_few)}"] if too_few else [],
    )


def class_scores(vectors: Vectors) -> Floats:
    """Score of each class for each image: float64 [N, L].

    A class vector is the normalised mean of its prompts' unit vectors. The score is the image's
    cosine with the class; if images can have several classes, minus that with its denials.
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


def _accuracy_statistic(vectors: Vectors, scores: Floats) -> Statistic:
    """Accuracy and macro F1 of the class with the highest score, from the confusion matrix."""
    count = len(vectors.classes)
    cells = vectors.labels.argmax(axis=1) * count + scores.argmax(axis=1)
    rows = np.zeros((len(vectors), count * count))
    rows[np.arange(len(vectors)), cells] = 1

    def values(weights: Floats) -> Floats:
        matrix = (weights @ rows).reshape(len(weights), count, count)
        hits = np.diagonal(matrix, axis1=1, axis2=2)
        f1 = divide(2 * hits, matrix.sum(axis=1) + matrix.sum(axis=2))
        accuracy = hits.sum(axis=1) / matrix.sum(axis=(1, 2))
        return np.stack([accuracy, np.nan_to_num(f1).mean(axis=1)], axis=1)

    return uniform_statistic(("accuracy", "macro F1"), Direction.HIGHER, len(vectors), values)


def area_statistic(vectors: Vectors, scores: Floats) -> Statistic:
    """Macro AUROC, macro average precision and AUROC by class, of the scorable classes."""
    scorable = vectors.scorable_classes()
    if not scorable:
        raise EvalUsageError(
            f"no class has {MIN_CLASS_IMAGES} images with it and {MIN_CLASS_IMAGES} without"
        )
    columns: list[tuple[Floats, Bools]] = [(scores[:, i], vectors.labels[:, i]) for i in scorable]

    def values(weights: Floats) -> Floats:
        areas = np.stack([weighted_auroc(*column, weights) for column in columns], axis=1)
        precisions = np.stack(
            [weighted_average_precision(*column, weights) for column in columns], axis=1
        )
        means = [np.nanmean(part, axis=1, keepdims=True) for part in (areas, precisions)]
        return np.concatenate([*means, areas], axis=1)

    names = [f"AUROC {vectors.classes[i]}" for i in scorable]
    names = ["macro AUROC", "macro average precision", *names]
    return uniform_statistic(names, Direction.HIGHER, len(vectors), values)


def _roc_plot(vectors: Vectors, scores: Floats) -> dict[str, object]:
    series = []
    counts = vectors.labels.sum(axis=0)
    most_frequent = sorted(vectors.scorable_classes(), key=lambda i: -int(counts[i]))
    for i in most_frequent[:7]:  # more lines would be unreadable
        false, true = roc_curve(scores[:, i], vectors.labels[:, i])
        name = f"{vectors.classes[i]} ({counts[i]})"
        series.append({"name": name, "x": false.round(4).tolist(), "y": true.round(4).tolist()})
    return {
        "title": "ROC of the most frequent classes (images with it)",
        "x": ["false positive rate", 0, 1],
        "y": ["true positive rate", 0, 1],
        "series": series,
        "diagonal": True,
    }
