"""Coverage of the 95 % intervals, simulated with studies of a known population.

A patient has one to four correlated studies. Each simulation draws patients, computes the interval
that `cxr-rag eval score` would print, and checks whether it contains the population's value.
`python -m tests.support.bootstrap_coverage [--simulations 2000]` prints all cases.
"""
# ruff: noqa: T201

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.metrics.base import Direction, Measure, mean_measure, mean_rows, metric_class
from eval.metrics.findings import LABELS
from eval.stats import (
    bootstrap,
    intervals,
    resample_weights,
    summed_statistic,
    weighted_auroc,
    weighted_average_precision,
)

Draw = Callable[[np.random.Generator, int], tuple[NDArray[np.float64], list[str]]]


@dataclass(frozen=True, slots=True)
class Coverage:
    """Share of simulations whose interval contains the true value, and its standard error."""

    truth: float
    share: float
    error: float


def studies(generator: np.random.Generator, patients: int) -> tuple[NDArray, list[str]]:
    """Effect of each study [N], correlated within its patient, and the patient."""
    counts = generator.integers(1, 5, size=patients)
    effect = np.repeat(generator.normal(size=patients), counts)
    names = np.repeat(np.arange(patients), counts)
    return effect + 0.7 * generator.normal(size=len(effect)), [f"{name:07d}" for name in names]


def skewed_mean(generator: np.random.Generator, patients: int) -> tuple[NDArray, list[str]]:
    """A score in [0, 1], skewed as ROUGE-L is."""
    effect, names = studies(generator, patients)
    return mean_rows((1 / (1 + np.exp(1.2 - 0.8 * effect)))[:, None]), names


def rare_share(generator: np.random.Generator, patients: int) -> tuple[NDArray, list[str]]:
    """A rate of about one in eight, as the invented-prior rate is."""
    effect, names = studies(generator, patients)
    return mean_rows((effect > 1.4).astype(float)[:, None]), names


def corpus_bleu(generator: np.random.Generator, patients: int) -> tuple[NDArray, list[str]]:
    """n-gram counts of reports of 8 to 60 words."""
    effect, names = studies(generator, patients)
    reference = generator.integers(8, 61, size=len(effect))
    draft = np.maximum(4, (reference * generator.uniform(0.6, 1.3, len(effect))).astype(int))
    rows = np.zeros((len(effect), 10))
    share = 1 / (1 + np.exp(0.4 - 0.5 * effect))
    for order in range(4):
        total = draft - order
        rows[:, order] = generator.binomial(total, share ** (1 + 0.6 * order))
        rows[:, 4 + order] = total
    rows[:, 8], rows[:, 9] = draft, reference
    return rows, names


def label_counts(generator: np.random.Generator, patients: int) -> tuple[NDArray, list[str]]:
    """TP, FP and FN of labels with prevalences from 2 to 30 %."""
    effect, names = studies(generator, patients)
    prevalence = np.linspace(-2.4, -0.6, len(LABELS))
    latent = effect[:, None] * 0.6 + generator.normal(size=(len(effect), len(prevalence)))
    truth = latent + prevalence > 0
    predicted = latent + prevalence + 0.8 * generator.normal(size=latent.shape) > 0
    counts = np.stack([truth & predicted, ~truth & predicted, truth & ~predicted], axis=-1)
    rows = np.stack([counts, counts], axis=1).astype(float)
    return rows.reshape(len(effect), -1), names


CASES: dict[str, tuple[Measure, Draw]] = {
    "mean of a skewed score": (mean_measure("", Direction.HIGHER, column=0), skewed_mean),
    "rate of about 1 in 8": (mean_measure("", Direction.LOWER, column=0), rare_share),
    "BLEU-4": (metric_class("bleu").measures[3], corpus_bleu),
    "micro F1-14": (metric_class("labels").measures[0], label_counts),
    "macro F1-14": (metric_class("labels").measures[1], label_counts),
}


def coverage(
    case: str, *, patients: int, simulations: int, samples: int, clustered: bool = True
) -> Coverage:
    """Simulate; if not ``clustered``, every study counts as its own patient."""
    measure, draw = CASES[case]
    generator = np.random.default_rng(20)
    population, _ = draw(generator, 200_000)
    truth = float(measure.combine(population.sum(axis=0)))
    covered = 0
    for seed in range(simulations):
        rows, names = draw(generator, patients)
        groups = names if clustered else [f"{at:07d}" for at in range(len(rows))]
        statistic = summed_statistic([measure], rows, groups)
        ((low, high),) = intervals(bootstrap([statistic], groups, samples=samples, seed=seed))
        covered += low <= truth <= high
    share = covered / simulations
    return Coverage(truth, share, math.sqrt(share * (1 - share) / simulations))


def area_coverage(*, simulations: int, samples: int, images: int = 294) -> dict[str, Coverage]:
    """Likewise for macro AUROC and average precision: ten classes of 5 %, one image per patient."""
    names = [f"{at:07d}" for at in range(images)]
    measures = {"macro AUROC": weighted_auroc, "macro AP": weighted_average_precision}
    scores, labels = _ten_classes(np.random.default_rng(20), 100_000)
    once = np.ones((1, len(scores)))
    truths = {
        name: float(np.mean([area(s, t, once) for s, t in zip(scores.T, labels.T, strict=True)]))
        for name, area in measures.items()
    }
    covered = dict.fromkeys(measures, 0)
    for seed in range(simulations):
        scores, labels = _ten_classes(np.random.default_rng([21, seed]), images)
        weights = np.concatenate(list(resample_weights(names, samples=samples, seed=seed)))
        for name, area in measures.items():
            each = [area(s, t, weights) for s, t in zip(scores.T, labels.T, strict=True)]
            ((low, high),) = intervals(np.nanmean(each, axis=0)[:, None])
            covered[name] += low <= truths[name] <= high
    shares = {name: count / simulations for name, count in covered.items()}
    return {
        name: Coverage(truths[name], share, math.sqrt(share * (1 - share) / simulations))
        for name, share in shares.items()
    }


def _ten_classes(generator: np.random.Generator, images: int) -> tuple[NDArray, NDArray]:
    """Scores float64 [images, 10] and labels bool [images, 10]."""
    labels = generator.random((images, 10)) < 0.05
    return generator.normal(size=labels.shape) + 1.2 * labels, labels


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--simulations", type=int, default=2_000)
    parser.add_argument("--samples", type=int, default=1_000)
    options = vars(parser.parse_args())
    print("| measure | patients | truth | coverage (± standard error) | if patients are ignored |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for case in CASES:
        for patients in (150, 300):
            found = coverage(case, patients=patients, **options)
            unclustered = coverage(case, patients=patients, **options, clustered=False)
            print(
                f"| {case} | {patients} | {found.truth:.3f} | {found.share:.3f} ± "
                f"{found.error:.3f} | {unclustered.share:.3f} |"
            )

    for name, found in area_coverage(**options).items():
        print(f"| {name} | 294 | {found.truth:.3f} | {found.share:.3f} ± {found.error:.3f} | |")


if __name__ == "__main__":
    main()
