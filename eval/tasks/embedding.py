"""Embedding quality: alignment, uniformity and modality gap."""

from pathlib import Path

import numpy as np

from eval.errors import EvalUsageError
from eval.metrics.base import Direction
from eval.results import Result, metric_values
from eval.stats import Floats, Statistic, mean_statistic, uniform_statistic
from eval.vectors import load_vectors

SHUFFLED = "images with other images' reports"
_BATCH_SIZE = 512
_T = 2.0  # of the Gaussian potential in uniformity (Wang and Isola, ICML 2020)


def embedding_quality(
    path: Path, *, split: str = "", samples: int = 2_000, seed: int = 0
) -> Result:
    """Score a vectors file.

    Raises:
        EvalUsageError: fewer than two images have a report.
        EvalDataError: the file is damaged.
    """
    vectors = load_vectors(path).in_split(split).with_reports()
    if len(vectors) < 2:
        raise EvalUsageError(
            f"{path} has {len(vectors)} images with a report: at least 2 are needed"
        )
    image, text = vectors.image.astype(np.float64), vectors.text.astype(np.float64)
    order = np.random.default_rng(seed).permutation(len(vectors))
    other = np.empty_like(order)
    other[order] = np.roll(order, 1)  # a random cycle: no image keeps its own report
    statistics = [(vectors.encoder_id, "all", s) for s in quality_statistics(image, text)]
    statistics.append((SHUFFLED, "all", _alignment(image, text[other])))
    return vectors.result(
        "embedding",
        path=path,
        numbers=metric_values(
            statistics, patients=vectors.patient_ids.tolist(), samples=samples, seed=seed
        ),
        settings={"split": split, "samples": samples, "seed": seed},
        blanks={"length": vectors.image.shape[1]},
    )


def quality_statistics(image: Floats, text: Floats) -> list[Statistic]:
    """All measures of paired unit vectors, float64 [N, D] each."""
    return [
        _alignment(image, text),
        _uniformity("image", image),
        _uniformity("text", text),
        _gap(image, text),
    ]


def _alignment(image: Floats, text: Floats) -> Statistic:
    distances = ((image - text) ** 2).sum(axis=1)
    return mean_statistic({"alignment": (Direction.LOWER, distances)})


def _uniformity(name: str, rows: Floats) -> Statistic:
    """Over pairs of two different images; in a resample an image and its copy are not a pair."""

    def values(weights: Floats) -> Floats:
        total = np.zeros(len(weights))
        for start in range(0, len(rows), _BATCH_SIZE):
            batch = slice(start, start + _BATCH_SIZE)
            potential = np.exp(_T * (2 * (rows[batch] @ rows.T) - 2))
            diagonal = np.arange(len(potential))
            potential[diagonal, start + diagonal] = 0
            total += ((weights @ potential.T) * weights[:, batch]).sum(axis=1)
        pairs = weights.sum(axis=1) ** 2 - (weights**2).sum(axis=1)
        return np.asarray(np.log(total / pairs)[:, None])

    return uniform_statistic([f"uniformity ({name})"], Direction.LOWER, len(rows), values)


def _gap(image: Floats, text: Floats) -> Statistic:
    def values(weights: Floats) -> Floats:
        shares = weights / weights.sum(axis=1, keepdims=True)
        gap = shares @ image - shares @ text
        return np.asarray(np.linalg.norm(gap, axis=1, keepdims=True))

    return uniform_statistic(["modality gap"], Direction.LOWER, len(image), values)
