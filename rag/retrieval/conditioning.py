"""Lets the film's own predicted labels have a say in which reports become evidence.

The nearest reports are mostly normal ones, as most films are; what is rare in the collection is
easily outvoted. Idea: LaB-RAG (Song et al. 2024, arXiv 2411.16523), where predicted labels filter
the neighbours. Here they order a pool of neighbours and make sure that each expected finding has a
report that can speak of it.
"""

from collections.abc import Sequence
from dataclasses import replace

from rag.expectation import Expectation
from rag.language.labeller import NO_FINDING
from rag.schema import Hit
from rag.stated import stated_labels


def order_by_agreement(
    pool: Sequence[Hit], expectation: Expectation, *, weight: float
) -> list[Hit]:
    """Best first, but each label on which a report and the film disagree costs similarity.

    A place in the pool is worth the similarity that the hit there would have if nearness alone had
    ordered it: for a pool that nearness has ordered, each hit's own.

    Args:
        pool: hits, best first.
        expectation: of the film; one that judges no label leaves the order as it is.
        weight: cosine similarity that one disagreement costs.
    """
    expected, judged = set(expectation.present), set(expectation.probabilities)
    if expectation.normal:
        expected.add(NO_FINDING)

    def worth(place: tuple[float, Hit]) -> float:
        similarity, hit = place
        return similarity - weight * len((stated_labels(hit.record) & judged) ^ expected)

    if not (judged and weight):
        return list(pool)
    similarities = sorted((hit.similarity for hit in pool), reverse=True)
    ordered = sorted(zip(similarities, pool, strict=True), key=worth, reverse=True)
    return [hit for _, hit in ordered]


def cover_expected(pool: Sequence[Hit], expectation: Expectation, *, k: int) -> list[Hit]:
    """The first ``k`` of the pool, some exchanged so that each expected finding is spoken of.

    The last report that is not needed for an expected finding makes room for the first report of
    the pool that states a missing one. What was fetched so says it in `Hit.why`.
    """
    chosen = list(pool[:k])
    for label in expectation.present:
        if any(label in stated_labels(hit.record) for hit in chosen):
            continue
        speaker = next((h for h in pool[k:] if label in stated_labels(h.record)), None)
        if speaker is None:
            continue
        idle = [hit for hit in chosen if not _needed(hit, chosen, expectation)]
        if idle:
            chosen.remove(idle[-1])
        chosen.append(replace(speaker, why=f"fetched for {label.lower()}"))
    return chosen


def _needed(hit: Hit, chosen: Sequence[Hit], expectation: Expectation) -> bool:
    """Whether it is the only chosen report that states some expected finding."""
    others = [stated_labels(other.record) for other in chosen if other is not hit]
    mine = stated_labels(hit.record) & set(expectation.present)
    return any(not any(label in other for other in others) for label in mine)
