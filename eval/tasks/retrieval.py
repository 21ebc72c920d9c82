"""Retrieval: does an image find its own report, and a report its own image."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from eval.errors import EvalUsageError
from eval.metrics.base import Direction, divide
from eval.results import MetricValue, Result, metric_values
from eval.stats import Floats, Statistic, mean_statistic, uniform_statistic
from eval.vectors import Vectors, load_vectors

CHANCE = "random order"
_RECALL_AT = (1, 5, 10)
_NDCG_AT = 10
_PLOTTED_K = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50)
_QUERY_BATCH_SIZE = 256
_TIE_TOLERANCE = 1e-6
"""Between similarities: equal texts must tie whatever the order of summation."""

Counts = NDArray[np.int_]


class Items(NamedTuple):
    """Unit vectors float32 [N, D], and their labels float64 [N, L]."""

    vectors: NDArray[np.float32]
    labels: Floats


class Search(NamedTuple):
    """Queries, the gallery they search, and the relevant items.

    Attributes:
        name: direction, and what counts as relevant.
        relevant: (query, gallery item) pairs, int [R, 2], sorted by query.
        patients: patient of each query.
    """

    name: str
    queries: Items
    gallery: Items
    relevant: NDArray[np.intp]
    patients: Sequence[str]


class Ranks(NamedTuple):
    """Rank of the first relevant item of each query, with ties.

    Attributes:
        better: int [N], items more similar than the most similar relevant one.
        tied: int [N], items as similar as it, itself included.
        relevant: int [N], how many of the tied items are relevant.
    """

    better: Counts
    tied: Counts
    relevant: Counts

    def recall(self, k: int) -> Floats:
        """Probability that a relevant item is among the first k: [N]."""
        return 1.0 - self._miss_probability(np.clip(k - self.better, 0, self.tied))

    def reciprocal(self) -> Floats:
        """Expected reciprocal rank: [N]."""
        expected, missed = np.zeros(len(self.tied)), np.ones(len(self.tied))
        for place in range(1, int(self.tied.max()) + 1):
            still_missed = self._miss_probability(np.minimum(place, self.tied))
            expected += (missed - still_missed) / (self.better + place)
            missed = still_missed
        return expected

    def rank(self) -> Floats:
        """Expected rank: [N]."""
        return self.better + (self.tied + 1) / (self.relevant + 1)

    def _miss_probability(self, count: Counts) -> Floats:
        """Probability that none of the first ``count`` tied items is relevant: [N]."""
        irrelevant = self.tied - self.relevant
        # hypergeometric: C(irrelevant, count) / C(tied, count)
        terms = [gammaln(n + 1.0) for n in (irrelevant, self.tied - count)]
        terms += [-gammaln(n + 1.0) for n in (irrelevant - count, self.tied)]
        return np.where(count > irrelevant, 0.0, np.exp(sum(terms)))


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
        ranks, ndcgs = rank(search)
        random = rank(search, np.random.default_rng(seed))
        statistics = [(vectors.encoder_id, search.name, s) for s in rank_statistics(ranks, ndcgs)]
        statistics += [(CHANCE, search.name, s) for s in rank_statistics(*random)]
        numbers += metric_values(statistics, patients=search.patients, samples=samples, seed=seed)
        recalls = [float(ranks.recall(k).mean()) for k in _PLOTTED_K]
        series.append({"name": search.name, "x": list(_PLOTTED_K), "y": recalls})
    plot = {
        "title": "Recall among the first k",
        "x": ["k", 0, _PLOTTED_K[-1]],
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
    """Both directions, with each report separate and with equal reports merged."""
    labels = vectors.labels.astype(np.float64)
    _, first, group = np.unique(vectors.text_ids, return_index=True, return_inverse=True)
    merged_labels = np.zeros((len(first), labels.shape[1]))
    np.maximum.at(merged_labels, group, labels)
    images, reports = Items(vectors.image, labels), Items(vectors.text, labels)
    merged = Items(vectors.text[first], merged_labels)
    patients = vectors.patient_ids.tolist()
    index, by_group = np.arange(len(vectors)), np.argsort(group, kind="stable")
    own = np.stack([index, index], axis=1)
    own_merged = np.stack([index, group], axis=1)
    sharing = np.stack([group[by_group], by_group], axis=1)
    yield Search("image to text, own report", images, reports, own, patients)
    yield Search("image to text, equal reports are one", images, merged, own_merged, patients)
    yield Search("text to image, own image", reports, images, own, patients)
    yield Search(
        "text to image, any image with that report",
        merged,
        images,
        sharing,
        vectors.patient_ids[first].tolist(),
    )


def rank(search: Search, random: np.random.Generator | None = None) -> tuple[Ranks, Floats]:
    """Ranks and nDCG of each query; with ``random``, of random similarities."""
    batches = []
    for start in range(0, len(search.queries.vectors), _QUERY_BATCH_SIZE):
        batch = slice(start, start + _QUERY_BATCH_SIZE)
        similarity = search.queries.vectors[batch] @ search.gallery.vectors.T
        if random is not None:
            similarity = random.random(similarity.shape, dtype=np.float32)
        query = search.relevant[:, 0]
        inside = (query >= start) & (query < start + len(similarity))
        ranks = rank_relevant(similarity, search.relevant[inside] - np.array([start, 0]))
        gains = search.queries.labels[batch] @ search.gallery.labels.T
        batches.append((*ranks, ndcg(similarity, gains, _NDCG_AT)))
    *columns, ndcgs = (np.concatenate(column) for column in zip(*batches, strict=True))
    return Ranks(*columns), ndcgs


def rank_statistics(ranks: Ranks, ndcgs: Floats) -> list[Statistic]:
    """All measures of what `rank` returned."""
    higher = Direction.HIGHER
    columns = {f"R@{k}": (higher, ranks.recall(k)) for k in _RECALL_AT}
    columns["MRR"] = (higher, ranks.reciprocal())
    columns[f"nDCG@{_NDCG_AT}"] = (higher, ndcgs)
    expected = ranks.rank()

    def median(weights: Floats) -> Floats:
        return weighted_median(expected, weights)[:, None]

    median_rank = uniform_statistic(["median rank"], Direction.LOWER, len(expected), median)
    return [mean_statistic(columns), median_rank]


def weighted_median(values: Floats, weights: Floats) -> Floats:
    """Lower median of values [N] under weights [B, N]: [B]."""
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weights[:, order], axis=1)
    return np.asarray(values[order][(cumulative >= cumulative[:, -1:] / 2).argmax(axis=1)])


def rank_relevant(similarity: NDArray[np.floating], relevant: NDArray[np.intp]) -> Ranks:
    """Ranks of queries by their similarities [Q, G] and relevant pairs [R, 2]."""
    query, item = relevant.T
    best = np.full(len(similarity), -np.inf)
    np.maximum.at(best, query, similarity[query, item])
    gap = similarity - best[:, None]
    is_tied = np.abs(gap) <= _TIE_TOLERANCE
    tied_relevant = np.bincount(query[is_tied[query, item]], minlength=len(similarity))
    return Ranks((gap > _TIE_TOLERANCE).sum(axis=1), is_tied.sum(axis=1), tied_relevant)


def ndcg(similarity: NDArray[np.floating], gains: Floats, k: int) -> Floats:
    """Normalised discounted gain of the first k, linear gains as in trec_eval: [Q, G] -> [Q].

    NaN for a query without any gain in the gallery. Ties in gallery order.
    """
    k = min(k, similarity.shape[1])
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    gained = (np.take_along_axis(gains, order, axis=1) * discount).sum(axis=1)
    ideal = -np.sort(-gains, axis=1)[:, :k]
    return divide(gained, (ideal * discount).sum(axis=1))
