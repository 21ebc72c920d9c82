"""Intervals and tests: patient-clustered bootstrap, paired approximate randomisation, Holm.

Works on rows of statistics that add up (`eval.metrics.base`), so that a resample is a matrix
product. Everything is seeded; memory does not grow with the number of resamples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from eval.metrics.base import Measure, SufficientStats

LEVEL = 0.95
SAMPLES = 10_000
_CELLS = 1_000_000  # of a block of resampling weights: 8 MB


@dataclass(frozen=True, slots=True)
class Interval:
    """Percentile interval; both ends NaN where it cannot be had."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Block:
    """Measures of one metric and where their statistics stand in a wider row."""

    measures: tuple[Measure, ...]
    columns: slice

    def values(self, sums: SufficientStats) -> SufficientStats:
        """Scores of summed rows: float64 [..., S] -> [..., M]."""
        part = sums[..., self.columns]
        return np.stack([measure.combine(part) for measure in self.measures], axis=-1)


def group_sums(rows: SufficientStats, groups: Sequence[str]) -> SufficientStats:
    """Rows of one group added up: float64 [N, S] -> [G, S], groups in sorted order."""
    _, places = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((int(places.max()) + 1 if len(places) else 0, rows.shape[1]))
    np.add.at(sums, places, rows)
    return sums


def resample_counts(groups: int, *, samples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each of G groups is drawn, with replacement: blocks float64 [B, G], rows sum to G.

    The same seed and G give the same draws, so systems and measures are resampled alike.
    """
    generator = np.random.default_rng(seed)
    size = max(1, min(samples, _CELLS // max(groups, 1)))
    for start in range(0, samples, size):
        count = min(size, samples - start)
        drawn = generator.integers(groups, size=(count, groups))
        drawn += np.arange(count)[:, None] * groups
        counts = np.bincount(drawn.ravel(), minlength=count * groups)
        yield counts.reshape(count, groups).astype(np.float64)


def resample_weights(
    groups: Sequence[str], *, samples: int, seed: int
) -> Iterator[NDArray[np.float64]]:
    """How often each of N studies is drawn when their patients are: blocks float64 [B, N]."""
    names, places = np.unique(np.asarray(groups), return_inverse=True)
    for counts in resample_counts(len(names), samples=samples, seed=seed):
        yield counts[:, places]


def bootstrap(
    rows: SufficientStats,
    groups: Sequence[str],
    blocks: Sequence[Block],
    *,
    samples: int = SAMPLES,
    seed: int = 0,
) -> SufficientStats:
    """Scores of resampled sets of groups: float64 [samples, M], measures of all blocks in order.

    Args:
        rows: float64 [N, S], one row per study.
        groups: patient of each study; studies of a patient are drawn together.
        blocks: the measures and their columns.
        samples: number of resamples.
        seed: of the draws.
    """
    sums = group_sums(rows, groups)
    parts = []
    with _one_thread():
        for counts in resample_counts(len(sums), samples=samples, seed=seed):
            drawn = counts @ sums
            parts.append(np.concatenate([block.values(drawn) for block in blocks], axis=-1))
    return np.concatenate(parts)


def intervals(values: SufficientStats, *, level: float = LEVEL) -> list[Interval]:
    """Percentile interval of each column of float64 [samples, M]; undefined resamples are left out.

    Fewer than two defined resamples give no interval.
    """
    tail = 100 * (1 - level) / 2
    found = []
    for column in values.T:
        defined = column[~np.isnan(column)]
        if len(defined) < 2:
            found.append(Interval(float("nan"), float("nan")))
            continue
        low, high = np.percentile(defined, [tail, 100 - tail])
        found.append(Interval(float(low), float(high)))
    return found


def randomisation_test(
    first: SufficientStats,
    second: SufficientStats,
    groups: Sequence[str],
    blocks: Sequence[Block],
    *,
    samples: int = SAMPLES,
    seed: int = 0,
) -> SufficientStats:
    """Two-sided p of paired approximate randomisation for each measure: float64 [M].

    Under the null hypothesis the two runs are exchangeable, patient by patient: their studies are
    swapped at random, and p is the share of swaps (the observed one included) that differ at least
    as much as the runs do (Noreen 1989; Yeh, COLING 2000).
    """
    ours, theirs = group_sums(first, groups), group_sums(second, groups)
    moved, total_first, total_second = theirs - ours, ours.sum(axis=0), theirs.sum(axis=0)
    observed = np.abs(_difference(blocks, total_first, total_second))
    generator = np.random.default_rng(seed)
    as_large = np.ones_like(observed)
    size = max(1, min(samples, _CELLS // max(len(ours), 1)))
    for start in range(0, samples, size):
        swapped = generator.integers(2, size=(min(size, samples - start), len(ours)))
        with _one_thread():
            shift = swapped.astype(np.float64) @ moved
        differences = np.abs(_difference(blocks, total_first + shift, total_second - shift))
        # rounding must not make an equal difference look smaller
        as_large += (differences >= observed - 1e-12).sum(axis=0)
    undefined = np.isnan(observed)
    return np.where(undefined, np.nan, as_large / (samples + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given; a NaN stays out of the family (Holm 1979)."""
    defined = [at for at, p in enumerate(p_values) if not np.isnan(p)]
    ordered = sorted(defined, key=lambda at: p_values[at])
    adjusted = [float("nan")] * len(p_values)
    reached = 0.0
    for place, at in enumerate(ordered):
        reached = max(reached, min(1.0, (len(ordered) - place) * p_values[at]))
        adjusted[at] = reached
    return adjusted


def _one_thread() -> threadpool_limits:
    """The same bits on any number of cores, and no waiting for a core that another job has."""
    return threadpool_limits(limits=1, user_api="blas")


def _difference(
    blocks: Sequence[Block], first: SufficientStats, second: SufficientStats
) -> SufficientStats:
    return np.concatenate([b.values(second) - b.values(first) for b in blocks], axis=-1)
