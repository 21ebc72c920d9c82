"""Linear probe and data efficiency: a linear model on frozen vectors, with few labels."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.errors import EvalLeakError, EvalUsageError, listed
from eval.metrics.base import Direction
from eval.results import MetricValue, Result, numbers_of
from eval.stats import Bools, Floats, Statistic, weighted_auroc
from eval.vectors import Vectors, load_vectors

SHARES = (0.01, 0.1, 1.0)
"""Of the training patients, each with all images."""

REPEATS = 5
"""Draws of a share below 1."""

LEAST = 5
THUMBNAIL = "16 x 16 thumbnail"
_STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
_FOLDS = 3

FloatRows = NDArray[np.float32]


def linear_probe(
    path: Path,
    *,
    train_split: str,
    test_split: str,
    samples: int = 2_000,
    seed: int = 0,
) -> Result:
    """Train on one split of a vectors file, test on another.

    Raises:
        EvalUsageError: no such split, or no class with enough images in both.
        EvalLeakError: a patient is in both splits.
    """
    vectors = load_vectors(path)
    train, test = vectors.in_split(train_split), vectors.in_split(test_split)
    if shared := set(train.patient_ids) & set(test.patient_ids):
        raise EvalLeakError(f"{len(shared)} patients are in both splits:\n{listed(sorted(shared))}")
    classes = probed_classes(train, test)
    features = {vectors.encoder_id: (train.image, test.image)}
    if len(train.thumbnail):
        features[THUMBNAIL] = (train.thumbnail, test.thumbnail)
    numbers: list[MetricValue] = []
    series: list[dict[str, Any]] = []
    for system, (learn, ask) in features.items():
        middle = []
        for share in SHARES:
            scores = list(
                probe_scores(learn, ask, train=train, classes=classes, share=share, seed=seed)
            )
            statistic = probe_statistic(scores, test, classes)
            found = numbers_of(
                [(system, f"{share:.0%} of the training patients", statistic)],
                patients=test.patient_ids.tolist(),
                samples=samples,
                seed=seed,
            )
            numbers += found
            middle.append(found[0].value)
        series.append({"name": system, "x": [np.log10(100 * s) for s in SHARES], "y": middle})
    ys = [y for line in series for y in line["y"] if y is not None]
    plot = {
        "title": "Macro AUROC by share of the training patients",
        "x": ["log10 of the share in %", 0, 2],
        "y": ["macro AUROC", min(0.5, *ys), max(ys)],
        "series": series,
    }
    settings = {"train": train_split, "test": test_split, "samples": samples, "seed": seed}
    return test.result(
        "linear-probe",
        path=path,
        numbers=numbers,
        settings=settings | {"repeats": REPEATS},
        curves={"plots": [plot]},
        notes=[f"{len(train)} training images of {len(set(train.patient_ids))} patients"],
    )


def probed_classes(train: Vectors, test: Vectors) -> list[int]:
    """Classes with enough images on both sides of the test, and in training."""
    there = [part.labels.sum(axis=0) for part in (train, test)]
    enough = (there[0] >= LEAST) & (there[1] >= LEAST) & (len(test) - there[1] >= LEAST)
    found = [int(at) for at in np.flatnonzero(enough)]
    if not found:
        raise EvalUsageError(f"no class has {LEAST} images in training and test, with and without")
    return found


def probe_scores(
    learn: FloatRows,
    ask: FloatRows,
    *,
    train: Vectors,
    classes: Sequence[int],
    share: float,
    seed: int,
) -> Iterator[Floats]:
    """Scores of the test images, [N, L], for each draw of patients."""
    patients = sorted(set(train.patient_ids))
    for repeat in range(1 if share == 1 else REPEATS):
        generator = np.random.default_rng([seed, repeat])
        count = max(2, round(share * len(patients)))
        inside = np.isin(train.patient_ids, generator.permutation(patients)[:count])
        groups = train.patient_ids[inside]
        columns = [
            _one_class(learn[inside], train.labels[inside, at], groups, ask) for at in classes
        ]
        yield np.stack(columns, axis=1)


def _one_class(rows: FloatRows, truth: Bools, groups: NDArray[np.str_], ask: FloatRows) -> Floats:
    """Scores of a logistic regression; zeros, which know nothing, if a draw lacks the class.

    Its penalty is the one with the best AUROC over folds of patients.
    """
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    if truth.all() or not truth.any():
        return np.zeros(len(ask))
    model: Any = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))
    given = {}
    if min(len(set(groups[truth])), len(set(groups[~truth]))) >= 2 * _FOLDS:  # enough to choose by
        penalties, folds = {"logisticregression__C": _STRENGTHS}, StratifiedGroupKFold(_FOLDS)
        model = GridSearchCV(model, penalties, scoring="roc_auc", cv=folds)
        given = {"groups": groups}
    with warnings.catch_warnings():
        # separable images never converge at a weak penalty; the folds judge what comes of it
        warnings.simplefilter("ignore")
        model.fit(rows, truth, **given)
    return np.asarray(model.decision_function(ask), dtype=np.float64)


def probe_statistic(scores: Sequence[Floats], test: Vectors, classes: Sequence[int]) -> Statistic:
    """AUROC, a mean over the draws: macro and by class."""
    truth = test.labels[:, classes]

    def values(weights: Floats) -> Floats:
        areas = np.mean(
            [
                [weighted_auroc(s[:, at], truth[:, at], weights) for at in range(len(classes))]
                for s in scores
            ],
            axis=0,
        ).T
        return np.concatenate([np.nanmean(areas, axis=1, keepdims=True), areas], axis=1)

    names = ["macro AUROC", *(f"AUROC {test.classes[at]}" for at in classes)]
    size = len(names)
    return Statistic(tuple(names), (Direction.HIGHER,) * size, (len(test),) * size, values)
