"""How often the 95 % interval holds the truth: simulated studies of a known population.

A patient has one to four studies that resemble each other. Each simulation draws patients, takes
the interval that `cxr-rag eval score` would print, and looks whether the population's value is in
it. `python benchmarks/bootstrap_coverage.py [--simulations 2000] [--json] [--only NAME ...]`
"""
# ruff: noqa: E402 - the path is mended before our own imports

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# A script's own folder comes first on the path, and there eval.py would hide the package eval.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from eval.metrics import bleu, labels
from eval.metrics.base import Direction, Measure, mean_measure, mean_rows
from eval.stats import Block, bootstrap, intervals

Draw = Callable[[np.random.Generator, int], tuple[NDArray[np.float64], list[str]]]


@dataclass(frozen=True, slots=True)
class Coverage:
    """Share of simulations whose interval holds the truth; its own standard error is ``error``."""

    measure: str
    patients: int
    truth: float
    coverage: float
    error: float
    naive: float | None


def studies(generator: np.random.Generator, patients: int) -> tuple[NDArray, list[str]]:
    """Patient effect of each study [N], and its patient."""
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
    prevalence = np.linspace(-2.4, -0.6, len(labels.LABELS))
    there = effect[:, None] * 0.6 + generator.normal(size=(len(effect), len(prevalence)))
    truth = there + prevalence > 0
    said = there + prevalence + 0.8 * generator.normal(size=there.shape) > 0
    counts = np.stack([truth & said, ~truth & said, truth & ~said], axis=-1).astype(float)
    rows = np.stack([counts, counts], axis=1)
    return rows.reshape(len(effect), -1), names


CASES: list[tuple[str, Measure, Draw]] = [
    ("mean of a skewed score", mean_measure("", Direction.HIGHER, column=0), skewed_mean),
    ("rate of about 1 in 8", mean_measure("", Direction.LOWER, column=0), rare_share),
    ("BLEU-4", bleu.MEASURES[3], corpus_bleu),
    ("micro F1-14", labels.MEASURES[0], label_counts),
    ("macro F1-14", labels.MEASURES[1], label_counts),
]


def coverage(
    name: str,
    measure: Measure,
    draw: Draw,
    *,
    patients: int,
    simulations: int,
    samples: int,
    with_naive: bool,
) -> Coverage:
    """Simulate; ``naive`` is the coverage if every study counted as its own patient."""
    generator = np.random.default_rng(20)
    population, _ = draw(generator, 200_000)
    truth = float(measure.combine(population.sum(axis=0)))
    held = naive = 0
    for seed in range(simulations):
        rows, names = draw(generator, patients)
        block = [Block((measure,), slice(0, rows.shape[1]))]
        alone = [f"{at:07d}" for at in range(len(rows))]
        for groups, clustered in ((names, True), (alone, False))[: 1 + with_naive]:
            (found,) = intervals(bootstrap(rows, groups, block, samples=samples, seed=seed))
            inside = found.low <= truth <= found.high
            held += inside and clustered
            naive += inside and not clustered
    share = held / simulations
    error = math.sqrt(share * (1 - share) / simulations)
    return Coverage(
        name, patients, truth, share, error, naive / simulations if with_naive else None
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--simulations", type=int, default=2_000)
    parser.add_argument("--samples", type=int, default=1_000)
    parser.add_argument("--patients", type=int, nargs="+", default=[150, 300])
    parser.add_argument("--only", nargs="+", default=[name for name, _, _ in CASES])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = [
        coverage(
            name,
            measure,
            draw,
            patients=patients,
            simulations=options.simulations,
            samples=options.samples,
            with_naive=not options.json,
        )
        for name, measure, draw in CASES
        if name in options.only
        for patients in options.patients
    ]
    if options.json:
        print(json.dumps([asdict(row) for row in found]))
        return
    print(f"{options.simulations} simulations, {options.samples} resamples each")
    print("| measure | patients | truth | coverage (± standard error) | if patients are ignored |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for row in found:
        print(
            f"| {row.measure} | {row.patients} | {row.truth:.3f} | {row.coverage:.3f} ± "
            f"{row.error:.3f} | {row.naive:.3f} |"
        )


if __name__ == "__main__":
    main()
