"""Embedding quality: alignment, uniformity and modality gap, each with its definition."""

from pathlib import Path

import numpy as np

from eval.errors import EvalUsageError
from eval.metrics.base import Direction
from eval.ranking import Floats
from eval.results import Result
from eval.tasks.common import SAMPLES, Figure, card, mean_figure, numbers_of_systems, vector_result
from eval.vectors import Vectors, load_vectors

SHUFFLED = "images with other images' reports"
_ROWS_AT_ONCE = 512
_T = 2.0  # of the uniformity's Gaussian


def embedding_quality(
    path: Path, *, split: str = "", samples: int = SAMPLES, seed: int = 0
) -> Result:
    """Score a vectors file.

    Raises:
        EvalUsageError: fewer than two images have a report.
        EvalDataError: the file is damaged.
    """
    vectors = load_vectors(path).in_split(split)
    vectors = vectors.where(np.array([bool(name) for name in vectors.text_ids]))
    if len(vectors) < 2:
        raise EvalUsageError(
            f"{path} has {len(vectors)} images with a report: at least 2 are wanted"
        )
    image, text = vectors.image.astype(np.float64), vectors.text.astype(np.float64)
    other = np.random.default_rng(seed).permutation(len(vectors))
    systems: dict[str, list[Figure]] = {
        vectors.encoder_id: quality_figures(image, text),
        SHUFFLED: [_alignment(image, text[other])],
    }
    numbers = numbers_of_systems(systems, patients=vectors.patient_ids, samples=samples, seed=seed)
    return vector_result(
        "embedding",
        vectors,
        path=path,
        numbers=numbers,
        cards=[_card(vectors)],
        settings={"split": split, "samples": samples, "seed": seed},
    )


def quality_figures(image: Floats, text: Floats) -> list[Figure]:
    """All measures of pairs of unit rows, float64 [N, D] each."""
    return [
        _alignment(image, text),
        _uniformity("image", image),
        _uniformity("text", text),
        _gap(image, text),
    ]


def _alignment(image: Floats, text: Floats) -> Figure:
    apart = ((image - text) ** 2).sum(axis=1)
    return mean_figure({"alignment": (Direction.LOWER, apart)})


def _uniformity(name: str, rows: Floats) -> Figure:
    """Over pairs of two different images; in a resample an image and its copy are no pair."""

    def values(weights: Floats) -> Floats:
        total = np.zeros(len(weights))
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            block = slice(start, start + _ROWS_AT_ONCE)
            near = np.exp(_T * (2 * (rows[block] @ rows.T) - 2))
            near[np.arange(len(near)), np.arange(start, start + len(near))] = 0
            total += ((weights @ near.T) * weights[:, block]).sum(axis=1)
        pairs = weights.sum(axis=1) ** 2 - (weights**2).sum(axis=1)
        return np.asarray(np.log(total / pairs)[:, None])

    return Figure((f"uniformity ({name})",), (Direction.LOWER,), (len(rows),), values)


def _gap(image: Floats, text: Floats) -> Figure:
    def values(weights: Floats) -> Floats:
        shares = weights / weights.sum(axis=1, keepdims=True)
        apart = shares @ image - shares @ text
        return np.asarray(np.linalg.norm(apart, axis=1, keepdims=True))

    return Figure(("modality gap",), (Direction.LOWER,), (len(image),), values)


def _card(vectors: Vectors) -> dict[str, object]:
    return card(
        "embedding quality",
        ["alignment", "uniformity (image)", "uniformity (text)", "modality gap"],
        formula="alignment = mean of ‖f(x) - g(y)‖² over pairs of image x and its report y; "
        "uniformity = log of the mean of exp(-2 ‖f(x) - f(x')‖²) over pairs of different images "
        "(or of their reports); modality gap = ‖mean of f(x) - mean of g(y)‖",
        convention=f"unit vectors of length {vectors.image.shape[1]}; lower is better for each, "
        "though a small gap alone shows nothing; equal reports lower the uniformity of texts",
        source="Wang and Isola, ICML 2020; Liang et al., NeurIPS 2022",
    )
