"""Several rankings of reports into one: reciprocal rank fusion."""

from collections.abc import Sequence

STEADINESS = 60
"""The constant of the paper: the larger, the less the first places count."""


def fuse(rankings: Sequence[Sequence[str]], *, weights: Sequence[float] | None = None) -> list[str]:
    """Ids by the sum of weight / (60 + rank) over all rankings, best first, ties by id.

    Source: Cormack, Clarke & Buettcher, SIGIR 2009.

    Args:
        rankings: report ids, best first; an id may be missing from some.
        weights: of each ranking, by default 1.
    """
    scores: dict[str, float] = {}
    for ranking, weight in zip(rankings, weights or [1.0] * len(rankings), strict=True):
        for rank, report_id in enumerate(ranking, 1):
            scores[report_id] = scores.get(report_id, 0.0) + weight / (STEADINESS + rank)
    return sorted(scores, key=lambda report_id: (-scores[report_id], report_id))
