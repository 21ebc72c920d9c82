"""Linear probe and data efficiency: logistic regression on frozen vectors."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.errors import EvalLeakError, EvalUsageError, bullet_list
from eval.metrics.base import Direction
from eval.results import MetricValue, Result, metric_values
from eval.stats import Bools, Floats, Statistic, uniform_statistic, weighted_auroc
from eval.vectors import MIN_CLASS_IMAGES, Vectors, load_vectors

SHARES = (0.01, 0.1, 1.0)
"""Of the training patients."""

REPEATS = 5
"""Random draws of patients for a share below 1."""

THUMBNAIL = "16 x 16 thumbnail"
_PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
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
        patients = bullet_list(sorted(shared))
        raise EvalLeakError(f"{len(shared)} patients are in both splits:\n{patients}")
    classes = [i for i in test.scorable_classes() if train.labels[:, i].sum() >= MIN_CLASS_IMAGES]
    if not classes:
        raise EvalUsageError(
            f"no class has {MIN_CLASS_IMAGES} images in training and test, with and without"
        )
    features = {vectors.encoder_id: (train.image, test.image)}
    if len(train.thumbnail):
        features[THUMBNAIL] = (train.thumbnail, test.thumbnail)
    numbers: list[MetricValue] = []
    series: list[dict[str, Any]] = []
    for system, (train_rows, test_rows) in features.items():
        macro = []
        for share in SHARES:
            scores = probe_scores(
                train_rows, test_rows, train=train, classes=classes, share=share, seed=seed
            )
            subset = f"{share:.0%} of the training patients"
            values = metric_values(
                [(system, subset, probe_statistic(scores, test, classes))],
                patients=test.patient_ids.tolist(),
                samples=samples,
                seed=seed,
            )
            numbers += values
            macro.append(values[0].value)
        series.append({"name": system, "x": [np.log10(100 * s) for s in SHARES], "y": macro})
    defined = [y for line in series for y in line["y"] if y is not None]
    plot = {
        "title": "Macro AUROC by share of the training patients",
        "x": ["log10 of the share in %", 0, 2],
        "y": ["macro AUROC", min(0.5, *defined), max(defined)],
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


def probe_scores(
    train_rows: FloatRows,
    test_rows: FloatRows,
    *,
    train: Vectors,
    classes: Sequence[int],
    share: float,
    seed: int,
) -> list[Floats]:
    """Scores of the test images, [N, L], for each draw of training patients."""
    patients = sorted(set(train.patient_ids))
    count = max(2, round(share * len(patients)))
    scores = []
    for repeat in range(1 if share == 1 else REPEATS):
        drawn = np.random.default_rng([seed, repeat]).permutation(patients)[:count]
        mask = np.isin(train.patient_ids, drawn)
        groups = train.patient_ids[mask]
        columns = [
            _class_scores(train_rows[mask], train.labels[mask, i], groups, test_rows)
            for i in classes
        ]
        scores.append(np.stack(columns, axis=1))
    return scores


def _class_scores(
    rows: FloatRows, truth: Bools, groups: NDArray[np.str_], test_rows: FloatRows
) -> Floats:
    """Scores of a logistic regression; zeros, an AUROC of .5, if the draw has one class only.

    The penalty is the one with the best AUROC in cross-validation over patients.
    """
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    if truth.all() or not truth.any():
        return np.zeros(len(test_rows))
    model: Any = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))
    options = {}
    if min(len(set(groups[truth])), len(set(groups[~truth]))) >= 2 * _FOLDS:
        grid, folds = {"logisticregression__C": _PENALTIES}, StratifiedGroupKFold(_FOLDS)
        model = GridSearchCV(model, grid, scoring="roc_auc", cv=folds)
        options = {"groups": groups}
    with warnings.catch_warnings():
        # separable classes never converge at a weak penalty; cross-validation decides
        warnings.simplefilter("ignore")
        model.fit(rows, truth, **options)
    return np.asarray(model.decision_function(test_rows), dtype=np.float64)


def probe_statistic(scores: Sequence[Floats], test: Vectors, classes: Sequence[int]) -> Statistic:
    """AUROC averaged over the draws: macro and by class."""
    truth = test.labels[:, classes]

    def values(weights: Floats) -> Floats:
        areas = np.mean(
            [
                [weighted_auroc(s[:, i], truth[:, i], weights) for i in range(len(classes))]
                for s in scores
            ],
            axis=0,
        ).T
        return np.concatenate([np.nanmean(areas, axis=1, keepdims=True), areas], axis=1)

    names = ["macro AUROC", *(f"AUROC {test.classes[i]}" for i in classes)]
    return uniform_statistic(names, Direction.HIGHER, len(test), values)
