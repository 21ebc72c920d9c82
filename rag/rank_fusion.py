"""Several rankings of reports into one: reciprocal rank fusion."""

from collections.abc import Sequence

STEADINESS = 60
"""The constant of the paper: the larger, the less the first places count."""


def fuse(rankings: Sequence[Sequence[str]]) -> list[str]:
    """Ids by the sum of 1 / (60 + rank) over all rankings, best first, ties by id.

    Source: Cormack, Clarke & Buettcher, SIGIR 2009.

    Args:
        rankings: report ids, best first; an id may be missing from some.
    """
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, report_id in enumerate(ranking, 1):
            scores[report_id] = scores.get(report_id, 0.0) + 1 / (STEADINESS + rank)
    return sorted(scores, key=lambda report_id: (-scores[report_id], report_id))
