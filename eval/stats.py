"""Intervals and tests: patient-clustered bootstrap, paired approximate randomisation, Holm; ROC.

Everything is seeded; memory does not grow with the number of resamples. A `Statistic` can be
resampled: it is a function of how often each study counts.
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
_CELLS = 1_000_000  # of a block of resampling weights: 8 MB


@dataclass(frozen=True, slots=True)
class Statistic:
    """Several measures that are one function of the weights of studies.

    Attributes:
        names: of the measures, [M].
        directions: which end of each is good, [M].
        counts: studies each rests on, [M].
        values: float64 [B, N] weights -> float64 [B, M].
    """

    names: tuple[str, ...]
    directions: tuple[Direction, ...]
    counts: tuple[int, ...]
    values: Callable[[Floats], Floats]

    def renamed(self, prefix: str, *, first: int | None = None) -> "Statistic":
        """The first measures, or all of them, under longer names."""
        return Statistic(
            tuple(prefix + name for name in self.names[:first]),
            self.directions[:first],
            self.counts[:first],
            lambda weights: self.values(weights)[:, :first],
        )


def mean_statistic(columns: dict[str, tuple[Direction, Floats]]) -> Statistic:
    """Means of values of studies, [N] each; a NaN does not count."""
    table = np.stack([values for _, values in columns.values()], axis=1)
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
    """Measures of rows of statistics that add up, float64 [N, S], where groups are drawn whole."""
    # a group's studies have one weight, so its rows can be added up once for all resamples
    sums = group_sums(rows, groups)
    first = np.unique(np.asarray(groups), return_index=True)[1]
    total = sums.sum(axis=0)
    return Statistic(
        names=tuple(measure.name for measure in measures),
        directions=tuple(measure.direction for measure in measures),
        counts=tuple(int(m.count(total)) if m.count else len(rows) for m in measures),
        values=lambda weights: combined(measures, weights[:, first] @ sums),
    )


def combined(measures: Sequence[Measure], sums: Floats) -> Floats:
    """Scores of summed rows: float64 [..., S] -> [..., M]."""
    return np.stack([measure.combine(sums) for measure in measures], axis=-1)


def group_sums(rows: Floats, groups: Sequence[str]) -> Floats:
    """Rows of one group added up: float64 [N, S] -> [G, S], groups in sorted order."""
    _, places = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((int(places.max()) + 1 if len(places) else 0, rows.shape[1]))
    np.add.at(sums, places, rows)
    return sums


def resample_weights(groups: Sequence[str], *, samples: int, seed: int) -> Iterator[Floats]:
    """How often each of N studies is drawn when their G groups are: blocks float64 [B, N].

    Groups are drawn with replacement, G at a time. The same seed and G give the same draws, so
    systems and measures are resampled alike.
    """
    names, places = np.unique(np.asarray(groups), return_inverse=True)
    count = len(names)
    generator = np.random.default_rng(seed)
    for size in _block_sizes(samples, len(places)):
        drawn = generator.integers(count, size=(size, count)) + np.arange(size)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        yield times.astype(np.float64)[:, places]


def bootstrap(
    statistics: Sequence[Statistic], groups: Sequence[str], *, samples: int, seed: int
) -> Floats:
    """Values of resampled sets of groups: float64 [samples, M], of all statistics in order.

    Args:
        statistics: of the same N studies.
        groups: patient of each study; studies of a patient are drawn together.
        samples: number of resamples.
        seed: of the draws.
    """
    with _one_thread():
        return np.concatenate(
            [
                np.concatenate([statistic.values(weights) for statistic in statistics], axis=1)
                for weights in resample_weights(groups, samples=samples, seed=seed)
            ]
        )


def estimates(statistics: Sequence[Statistic], studies: int) -> Floats:
    """Values where each study counts once: float64 [M]."""
    once = np.ones((1, studies))
    return np.concatenate([statistic.values(once)[0] for statistic in statistics])


def intervals(values: Floats) -> Floats:
    """95 % percentile interval of each column: float64 [samples, M] -> low and high, [M, 2].

    Undefined resamples are left out; fewer than two defined ones give NaN.
    """
    tail = 100 * (1 - LEVEL) / 2
    ends = np.full((values.shape[1], 2), np.nan)
    for at, column in enumerate(values.T):
        defined = column[~np.isnan(column)]
        if len(defined) >= 2:
            ends[at] = np.percentile(defined, [tail, 100 - tail])
    return ends


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

    Under the null hypothesis the two runs, rows of statistics [N, S], are exchangeable, patient by
    patient: their studies are swapped at random, and p is the share of swaps (the observed one
    included) that differ at least as much as the runs do (Noreen 1989; Yeh, COLING 2000).
    """
    ours, theirs = group_sums(first, groups), group_sums(second, groups)
    moved, total_first, total_second = theirs - ours, ours.sum(axis=0), theirs.sum(axis=0)

    def apart(shift: Floats) -> Floats:
        ends = total_second - shift, total_first + shift
        return np.abs(combined(measures, ends[0]) - combined(measures, ends[1]))

    observed = apart(np.zeros_like(total_first))
    generator = np.random.default_rng(seed)
    as_large, counted = np.ones((2, *observed.shape))
    for size in _block_sizes(samples, len(ours)):
        swapped = generator.integers(2, size=(size, len(ours)))
        with _one_thread():
            shift = swapped.astype(np.float64) @ moved
        found = apart(shift)
        # rounding must not make an equal difference look smaller
        as_large += (found >= observed - 1e-12).sum(axis=0)
        counted += (~np.isnan(found)).sum(axis=0)
    return np.where(np.isnan(observed), np.nan, as_large / counted)


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


def weighted_auroc(scores: Floats, truth: Bools, weights: Floats) -> Floats:
    """Area under the ROC curve, ties half: scores [N], truth [N], weights [B, N] -> [B].

    NaN where a set of weights holds one class only.
    """
    positive, negative = _by_score(scores, truth, weights)
    below = np.cumsum(negative, axis=1) - negative
    hits = (positive * (below + negative / 2)).sum(axis=1)
    return divide(hits, positive.sum(axis=1) * negative.sum(axis=1))


def weighted_average_precision(scores: Floats, truth: Bools, weights: Floats) -> Floats:
    """Mean precision over the positives, as in scikit-learn: shapes as `weighted_auroc`."""
    positive, negative = (part[:, ::-1] for part in _by_score(scores, truth, weights))
    hits = np.cumsum(positive, axis=1)
    precision = np.nan_to_num(divide(hits, hits + np.cumsum(negative, axis=1)))
    return divide((positive * precision).sum(axis=1), positive.sum(axis=1))


def roc_curve(scores: Floats, truth: Bools, points: int = 101) -> tuple[Floats, Floats]:
    """False and true positive rates, at most so many points."""
    from sklearn import metrics  # noqa: PLC0415 - takes a second

    false, true, _ = metrics.roc_curve(truth, scores, drop_intermediate=False)
    kept = np.unique(np.linspace(0, len(false) - 1, min(points, len(false))).round().astype(int))
    return false[kept], true[kept]


def _block_sizes(samples: int, columns: int) -> Iterator[int]:
    size = max(1, min(samples, _CELLS // max(columns, 1)))
    for start in range(0, samples, size):
        yield min(size, samples - start)


def _one_thread() -> threadpool_limits:
    """The same bits on any number of cores, and no waiting for a core that another job has."""
    return threadpool_limits(limits=1, user_api="blas")


def _by_score(scores: Floats, truth: Bools, weights: Floats) -> tuple[Floats, Floats]:
    """Weight of positives and of negatives at each distinct score, ascending: [B, S] twice."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = np.concatenate([[0], np.flatnonzero(np.diff(ordered)) + 1])
    weighed, true = weights[:, order], truth[order]
    return (
        np.add.reduceat(weighed * true, starts, axis=1),
        np.add.reduceat(weighed * ~true, starts, axis=1),
    )
