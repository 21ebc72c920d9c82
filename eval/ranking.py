"""Ranking measures for many sets of study weights at once.

The weights are ones for the estimate and bootstrap counts for a resample. Ties count as the mean
over their orders.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_SAME = 1e-6
"""Similarities this near count as tied: equal texts must tie whatever the order of summation."""


def weighted_auroc(scores: Floats, truth: Bools, weights: Floats) -> Floats:
    """Area under the ROC curve, ties half: scores [N], truth [N], weights [B, N] -> [B].

    NaN where a set of weights holds one class only.
    """
    positive, negative = _by_score(scores, truth, weights)
    below = np.cumsum(negative, axis=1) - negative
    hits = (positive * (below + negative / 2)).sum(axis=1)
    return _ratio(hits, positive.sum(axis=1) * negative.sum(axis=1))


def weighted_average_precision(scores: Floats, truth: Bools, weights: Floats) -> Floats:
    """Mean precision over the positives, as in scikit-learn: shapes as `weighted_auroc`."""
    positive, negative = (part[:, ::-1] for part in _by_score(scores, truth, weights))
    hits = np.cumsum(positive, axis=1)
    precision = np.nan_to_num(_ratio(hits, hits + np.cumsum(negative, axis=1)))
    return _ratio((positive * precision).sum(axis=1), positive.sum(axis=1))


def roc_curve(scores: Floats, truth: Bools, points: int = 101) -> tuple[Floats, Floats]:
    """False and true positive rates, at most so many points."""
    ones = np.ones((1, len(scores)))
    positive, negative = (part[0, ::-1] for part in _by_score(scores, truth, ones))
    false, true = (np.concatenate([[0.0], np.cumsum(part)]) for part in (negative, positive))
    kept = np.unique(np.linspace(0, len(false) - 1, min(points, len(false))).round().astype(int))
    return false[kept] / max(false[-1], 1), true[kept] / max(true[-1], 1)


def weighted_median(values: Floats, weights: Floats) -> Floats:
    """Lower median of values [N] under weights [B, N]: [B]."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[:, order], axis=1)
    return np.asarray(values[order][(reached >= reached[:, -1:] / 2).argmax(axis=1)])


@dataclass(frozen=True, slots=True)
class Ranks:
    """Where each query's own item stands in the gallery.

    Attributes:
        better: float64 [N], items that are more similar than the own one.
        tied: float64 [N], items as similar as it, itself among them: at least 1.
    """

    better: Floats
    tied: Floats

    def recall(self, k: int) -> Floats:
        """Chance that the own item is among the first k: [N]."""
        return np.clip((k - self.better) / self.tied, 0.0, 1.0)

    def reciprocal(self) -> Floats:
        """Expected reciprocal rank: [N]."""
        last = int((self.better + self.tied).max())
        harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, last + 1))])
        first = self.better.astype(int)
        sums = harmonic[first + self.tied.astype(int)] - harmonic[first]
        return np.asarray(sums / self.tied, dtype=np.float64)

    def rank(self) -> Floats:
        """Expected rank: [N]."""
        return self.better + (self.tied + 1) / 2


def own_ranks(similarity: NDArray[np.floating], own: Floats) -> tuple[Floats, Floats]:
    """Items better than and tied with the own similarity: [Q, G], [Q] -> ([Q], [Q])."""
    gap = similarity - own[:, None]
    better = (gap > _SAME).sum(axis=1).astype(np.float64)
    tied = (np.abs(gap) <= _SAME).sum(axis=1).astype(np.float64)
    return better, np.maximum(tied, 1.0)


def ndcg(similarity: NDArray[np.floating], gains: Floats, k: int) -> Floats:
    """Normalised discounted gain of the first k, linear gains as in trec_eval: [Q, G] -> [Q].

    NaN for a query without any gain in the gallery. Ties by place in the gallery.
    """
    k = min(k, similarity.shape[1])
    # the k best by similarity, then in order; argpartition alone would break ties at random
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    found = (np.take_along_axis(gains, order, axis=1) * discount).sum(axis=1)
    best = -np.sort(-gains, axis=1)[:, :k]
    return _ratio(found, (best * discount).sum(axis=1))


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


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.asarray(part / np.where(whole == 0, np.nan, whole), dtype=np.float64)
