"""Retrieval: does an image find its own report, and a report its own image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from eval.errors import EvalUsageError
from eval.metrics.base import Direction, divide
from eval.results import MetricValue, Result, numbers_of
from eval.stats import Floats, Statistic, mean_statistic
from eval.vectors import Vectors, load_vectors

_KS = (1, 5, 10)
_CUT = 10
_QUERIES_AT_ONCE = 256
_DRAWN = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50)
CHANCE = "random order"
_SAME = 1e-6
"""Similarities this near count as tied: equal texts must tie whatever the order of summation."""

Counts = NDArray[np.int_]


@dataclass(frozen=True, slots=True)
class Search:
    """One way of asking.

    Attributes:
        name: direction, and what counts as found.
        queries: float32 [Q, D].
        gallery: float32 [G, D].
        right: bool-like pairs (query, gallery place) that are right: int [R, 2], sorted by query.
        patients: of each query.
        query_labels, gallery_labels: float64 [Q, L] and [G, L].
    """

    name: str
    queries: NDArray[np.float32]
    gallery: NDArray[np.float32]
    right: NDArray[np.intp]
    patients: Sequence[str]
    query_labels: Floats
    gallery_labels: Floats


@dataclass(frozen=True, slots=True)
class Ranks:
    """Where the first right item of each query stands in the gallery.

    Attributes:
        better: int [N], items that are more similar than the best right one.
        tied: int [N], items as similar as it, itself among them: at least 1.
        right: int [N], how many of the tied ones are right: at least 1.
    """

    better: Counts
    tied: Counts
    right: Counts

    def recall(self, k: int) -> Floats:
        """Chance that a right item is among the first k: [N]."""
        return 1.0 - self._missed(np.clip(k - self.better, 0, self.tied))

    def reciprocal(self) -> Floats:
        """Expected reciprocal rank: [N]."""
        # over ranks, 1 / rank times the chance that a right item comes there, and none before
        found, missed = np.zeros(len(self.tied)), np.ones(len(self.tied))
        for place in range(1, int(self.tied.max()) + 1):
            still = self._missed(np.minimum(place, self.tied))
            found += (missed - still) / (self.better + place)
            missed = still
        return found

    def rank(self) -> Floats:
        """Expected rank: [N]."""
        return self.better + (self.tied + 1) / (self.right + 1)

    def _missed(self, first: Counts) -> Floats:
        """Chance that none of the first so many of the tied items is right: [N]."""
        wrong = self.tied - self.right
        ways = [gammaln(count + 1.0) for count in (wrong, self.tied - first)]
        ways += [-gammaln(count + 1.0) for count in (wrong - first, self.tied)]
        return np.where(first > wrong, 0.0, np.exp(sum(ways)))


def retrieval(path: Path, *, split: str = "", samples: int = 2_000, seed: int = 0) -> Result:
    """Score a vectors file.

    Raises:
        EvalUsageError: fewer than two images have a report.
        EvalDataError: the file is damaged.
    """
    vectors = load_vectors(path).in_split(split).with_reports()
    if len(vectors) < 2:
        raise EvalUsageError(f"{path} has {len(vectors)} images with a report: nothing to retrieve")
    numbers: list[MetricValue] = []
    series: list[dict[str, Any]] = []
    for search in searches(vectors):
        ranks, gains = rank(search)
        by_chance = rank(search, np.random.default_rng(seed))
        statistics = [
            (vectors.encoder_id, search.name, each) for each in rank_statistics(ranks, gains)
        ]
        statistics += [(CHANCE, search.name, each) for each in rank_statistics(*by_chance)]
        numbers += numbers_of(statistics, patients=search.patients, samples=samples, seed=seed)
        recalls = [float(ranks.recall(k).mean()) for k in _DRAWN]
        series.append({"name": search.name, "x": list(_DRAWN), "y": recalls})
    plot = {
        "title": "Recall among the first k",
        "x": ["k", 0, _DRAWN[-1]],
        "y": ["recall", 0, min(1.0, max(max(line["y"]) for line in series) * 1.1)],
        "series": series,
    }
    return vectors.result(
        "retrieval",
        path=path,
        numbers=numbers,
        settings={"split": split, "samples": samples, "seed": seed},
        curves={"plots": [plot]},
        notes=[f"{len(set(vectors.text_ids))} different reports among {len(vectors)} images"],
    )


def searches(vectors: Vectors) -> Iterator[Search]:
    """Both directions, each by pair and by text."""
    labels = vectors.labels.astype(np.float64)
    each = np.arange(len(vectors))
    pairs = np.stack([each, each], axis=1)
    _, first, group = np.unique(vectors.text_ids, return_index=True, return_inverse=True)
    texts, merged = vectors.text[first], np.zeros((len(first), labels.shape[1]))
    np.maximum.at(merged, group, labels)
    patients = vectors.patient_ids.tolist()
    yield Search(
        "image to text, own report", vectors.image, vectors.text, pairs, patients, labels, labels
    )
    yield Search(
        "image to text, equal reports are one",
        vectors.image,
        texts,
        np.stack([each, group], axis=1),
        patients,
        labels,
        merged,
    )
    yield Search(
        "text to image, own image", vectors.text, vectors.image, pairs, patients, labels, labels
    )
    order = np.argsort(group, kind="stable")
    yield Search(
        "text to image, any image with that report",
        texts,
        vectors.image,
        np.stack([group[order], order], axis=1),
        vectors.patient_ids[first].tolist(),
        merged,
        labels,
    )


def rank(search: Search, chance: np.random.Generator | None = None) -> tuple[Ranks, Floats]:
    """Ranks of the right items and nDCG of each query, a block of queries at a time.

    Args:
        search: what is asked.
        chance: draws similarities instead of the model, for the baseline.
    """
    parts = []
    for start in range(0, len(search.queries), _QUERIES_AT_ONCE):
        block = slice(start, start + _QUERIES_AT_ONCE)
        similarity = search.queries[block] @ search.gallery.T
        if chance is not None:
            similarity = chance.random(similarity.shape, dtype=np.float32)
        inside = (search.right[:, 0] >= start) & (search.right[:, 0] < start + len(similarity))
        found = first_right(similarity, search.right[inside] - np.array([start, 0]))
        gains = search.query_labels[block] @ search.gallery_labels.T
        parts.append((*found, ndcg(similarity, gains, _CUT)))
    better, tied, right, gain = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Ranks(better, tied, right), gain


def rank_statistics(ranks: Ranks, gains: Floats) -> list[Statistic]:
    """All measures of what `rank` found."""
    higher = Direction.HIGHER
    columns = {f"R@{k}": (higher, ranks.recall(k)) for k in _KS}
    columns["MRR"] = (higher, ranks.reciprocal())
    columns[f"nDCG@{_CUT}"] = (higher, gains)
    places = ranks.rank()
    median = Statistic(
        ("median rank",),
        (Direction.LOWER,),
        (len(places),),
        lambda weights: weighted_median(places, weights)[:, None],
    )
    return [mean_statistic(columns), median]


def weighted_median(values: Floats, weights: Floats) -> Floats:
    """Lower median of values [N] under weights [B, N]: [B]."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[:, order], axis=1)
    return np.asarray(values[order][(reached >= reached[:, -1:] / 2).argmax(axis=1)])


def first_right(
    similarity: NDArray[np.floating], right: NDArray[np.intp]
) -> tuple[Counts, Counts, Counts]:
    """What `Ranks` says of queries, from similarities [Q, G] and right pairs [R, 2]."""
    query, place = right.T
    own = np.full(len(similarity), -np.inf)
    np.maximum.at(own, query, similarity[query, place])
    gap = similarity - own[:, None]
    level = np.abs(gap) <= _SAME
    of_right = np.bincount(query[level[query, place]], minlength=len(similarity))
    return (gap > _SAME).sum(axis=1), level.sum(axis=1), of_right


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
    return divide(found, (best * discount).sum(axis=1))
