"""Patient-clustered bootstrap, paired approximate randomisation, Holm; ROC and average precision.

Everything is seeded; memory does not grow with the number of resamples. What is resampled is a
`Statistic`: a function of the weight of each study, which is how often it was drawn.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from eval.metrics.base import Direction, Measure, divide

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LEVEL = 0.95
_BLOCK_CELLS = 1_000_000
"""Size of a block of resampling weights: 8 MB."""


@dataclass(frozen=True, slots=True)
class Statistic:
    """M measures, computed together from the weights of N studies.

    Attributes:
        counts: number of studies each measure is based on.
        values: weights float64 [B, N] -> float64 [B, M].
    """

    names: tuple[str, ...]
    directions: tuple[Direction, ...]
    counts: tuple[int, ...]
    values: Callable[[Floats], Floats]

    def with_prefix(self, prefix: str, *, first: int | None = None) -> "Statistic":
        """The first few measures, or all, with a prefix to their names."""
        return Statistic(
            tuple(prefix + name for name in self.names[:first]),
            self.directions[:first],
            self.counts[:first],
            lambda weights: self.values(weights)[:, :first],
        )


def uniform_statistic(
    names: Sequence[str], direction: Direction, studies: int, values: Callable[[Floats], Floats]
) -> Statistic:
    """Measures with one direction, based on the same number of studies."""
    return Statistic(tuple(names), (direction,) * len(names), (studies,) * len(names), values)


def mean_statistic(columns: dict[str, tuple[Direction, Floats]]) -> Statistic:
    """Means of the values of studies, [N] each, by name; NaN is skipped."""
    table = np.stack([column for _, column in columns.values()], axis=1)
    defined = ~np.isnan(table)
    filled = np.where(defined, table, 0.0)

    def values(weights: Floats) -> Floats:
        return divide(weights @ filled, weights @ defined)

    return Statistic(
        names=tuple(columns),
        directions=tuple(direction for direction, _ in columns.values()),
        counts=tuple(int(count) for count in defined.sum(axis=0)),
        values=values,
    )


def summed_statistic(measures: Sequence[Measure], rows: Floats, groups: Sequence[str]) -> Statistic:
    """Measures of summed rows of statistics, float64 [N, S]."""
    # studies of a group share one weight, so their rows are added up once for all resamples
    sums = group_sums(rows, groups)
    first = np.unique(np.asarray(groups), return_index=True)[1]
    total = sums.sum(axis=0)
    return Statistic(
        names=tuple(measure.name for measure in measures),
        directions=tuple(measure.direction for measure in measures),
        counts=tuple(int(m.count(total)) if m.count else len(rows) for m in measures),
        values=lambda weights: _combine(measures, weights[:, first] @ sums),
    )


def _combine(measures: Sequence[Measure], sums: Floats) -> Floats:
    """Scores of summed rows: float64 [..., S] -> [..., M]."""
    return np.stack([measure.combine(sums) for measure in measures], axis=-1)


def group_sums(rows: Floats, groups: Sequence[str]) -> Floats:
    """Rows summed by group: float64 [N, S] -> [G, S], groups in sorted order."""
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((int(index.max()) + 1 if len(index) else 0, rows.shape[1]))
    np.add.at(sums, index, rows)
    return sums


def resample_weights(groups: Sequence[str], *, samples: int, seed: int) -> Iterator[Floats]:
    """How often each of N studies is drawn in each resample of their G groups: float64 [B, N].

    Each resample draws G groups with replacement. The same seed and G give the same draws, so all
    systems and measures are resampled alike.
    """
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    count = len(names)
    generator = np.random.default_rng(seed)
    for size in _block_sizes(samples, len(index)):
        drawn = generator.integers(count, size=(size, count)) + np.arange(size)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        yield times.astype(np.float64)[:, index]


def bootstrap(
    statistics: Sequence[Statistic], groups: Sequence[str], *, samples: int, seed: int
) -> Floats:
    """Values of all statistics in each resample: float64 [samples, M].

    Args:
        statistics: of the same N studies.
        groups: patient of each study; studies of a patient are drawn together.
        samples: number of resamples.
        seed: of the resamples.
    """
    with _one_thread():
        return np.concatenate(
            [
                np.concatenate([statistic.values(weights) for statistic in statistics], axis=1)
                for weights in resample_weights(groups, samples=samples, seed=seed)
            ]
        )


def estimates(statistics: Sequence[Statistic], studies: int) -> Floats:
    """Values with every study counted once: float64 [M]."""
    weights = np.ones((1, studies))
    return np.concatenate([statistic.values(weights)[0] for statistic in statistics])


def intervals(values: Floats) -> Floats:
    """95 % percentile interval of each column: float64 [samples, M] -> low and high, [M, 2].

    Undefined resamples are skipped; fewer than two defined ones give NaN.
    """
    tail = 100 * (1 - LEVEL) / 2
    limits = np.full((values.shape[1], 2), np.nan)
    for i, column in enumerate(values.T):
        defined = column[~np.isnan(column)]
        if len(defined) >= 2:
            limits[i] = np.percentile(defined, [tail, 100 - tail])
    return limits


def randomisation_test(
    first: Floats,
    second: Floats,
    groups: Sequence[str],
    measures: Sequence[Measure],
    *,
    samples: int,
    seed: int = 0,
) -> Floats:
    """Two-sided p of paired approximate randomisation for each measure: float64 [M].

    Under the null hypothesis the two runs, rows of statistics [N, S], are exchangeable patient by
    patient: patients are swapped at random, and p is the share of swaps (the observed one
    included) with at least the observed difference (Noreen 1989; Yeh, COLING 2000).
    """
    first_sums, second_sums = group_sums(first, groups), group_sums(second, groups)
    gain, first_total, second_total = (
        second_sums - first_sums,
        first_sums.sum(axis=0),
        second_sums.sum(axis=0),
    )

    def difference(swapped: Floats) -> Floats:
        scores = [_combine(measures, s) for s in (second_total - swapped, first_total + swapped)]
        return np.abs(scores[0] - scores[1])

    observed = difference(np.zeros_like(first_total))
    generator = np.random.default_rng(seed)
    as_large, defined = np.ones((2, *observed.shape))
    for size in _block_sizes(samples, len(gain)):
        swaps = generator.integers(2, size=(size, len(gain)))
        with _one_thread():
            swapped = swaps.astype(np.float64) @ gain
        differences = difference(swapped)
        # rounding must not make an equal difference look smaller
        as_large += (differences >= observed - 1e-12).sum(axis=0)
        defined += (~np.isnan(differences)).sum(axis=0)
    return np.where(np.isnan(observed), np.nan, as_large / defined)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given; NaN is not part of the family (Holm 1979)."""
    defined = [i for i, p in enumerate(p_values) if not np.isnan(p)]
    adjusted = [float("nan")] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(defined, key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(defined) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def weighted_auroc(scores: Floats, truth: Bools, weights: Floats) -> Floats:
    """AUROC with ties counted half: scores [N], truth [N], weights [B, N] -> [B].

    NaN where only one class has weight.
    """
    positive, negative = _class_weights(scores, truth, weights)
    below = np.cumsum(negative, axis=1) - negative
    hits = (positive * (below + negative / 2)).sum(axis=1)
    return divide(hits, positive.sum(axis=1) * negative.sum(axis=1))


def weighted_average_precision(scores: Floats, truth: Bools, weights: Floats) -> Floats:
    """Average precision as in scikit-learn; shapes as in `weighted_auroc`."""
    positive, negative = (w[:, ::-1] for w in _class_weights(scores, truth, weights))
    hits = np.cumsum(positive, axis=1)
    precision = np.nan_to_num(divide(hits, hits + np.cumsum(negative, axis=1)))
    return divide((positive * precision).sum(axis=1), positive.sum(axis=1))


def roc_curve(scores: Floats, truth: Bools, points: int = 101) -> tuple[Floats, Floats]:
    """False and true positive rates at no more than ``points`` thresholds."""
    from sklearn import metrics  # noqa: PLC0415 - takes a second

    false, true, _ = metrics.roc_curve(truth, scores, drop_intermediate=False)
    kept = np.unique(np.linspace(0, len(false) - 1, min(points, len(false))).round().astype(int))
    return false[kept], true[kept]


def _block_sizes(samples: int, columns: int) -> Iterator[int]:
    size = max(1, min(samples, _BLOCK_CELLS // max(columns, 1)))
    for start in range(0, samples, size):
        yield min(size, samples - start)


def _one_thread() -> threadpool_limits:
    """The same result to the bit on any number of cores, and no waiting for a busy one."""
    return threadpool_limits(limits=1, user_api="blas")


def _class_weights(scores: Floats, truth: Bools, weights: Floats) -> tuple[Floats, Floats]:
    """Weight of positives and of negatives at each distinct score, ascending: [B, S] each."""
    order = np.argsort(scores, kind="stable")
    starts = np.concatenate([[0], np.flatnonzero(np.diff(scores[order])) + 1])
    weights, truth = weights[:, order], truth[order]
    return (
        np.add.reduceat(weights * truth, starts, axis=1),
        np.add.reduceat(weights * ~truth, starts, axis=1),
    )
