"""Lets the image's own predicted labels have a say in which reports become evidence.

The nearest reports are mostly normal ones, as most images are; what is rare in the collection is
easily outvoted. Idea: LaB-RAG (Song et al. 2024, arXiv 2411.16523), where predicted labels filter
the neighbours. Here they order a pool of neighbours and make sure that each expected finding has a
report that can speak of it.
"""

from collections.abc import Sequence
from dataclasses import replace

from rag.finding_labels import finding_labels_of
from rag.predicted_findings import PredictedFindings
from rag.report_nlp.labeller import NO_FINDING
from rag.schema import Hit


def order_by_agreement(
    pool: Sequence[Hit], predicted: PredictedFindings, *, weight: float
) -> list[Hit]:
    """Best first, but each label on which a report and the image disagree costs similarity.

    A place in the pool is worth the similarity that the hit there would have if nearness alone had
    ordered it: for a pool that nearness has ordered, each hit's own.

    Args:
        pool: hits, best first.
        predicted: of the image; one that judges no label leaves the order as it is.
        weight: cosine similarity that one disagreement costs.
    """
    expected, judged = set(predicted.positive), set(predicted.probabilities)
    if predicted.normal:
        expected.add(NO_FINDING)

    def worth(place: tuple[float, Hit]) -> float:
        similarity, hit = place
        return similarity - weight * len((finding_labels_of(hit.record) & judged) ^ expected)

    if not (judged and weight):
        return list(pool)
    similarities = sorted((hit.similarity for hit in pool), reverse=True)
    ordered = sorted(zip(similarities, pool, strict=True), key=worth, reverse=True)
    return [hit for _, hit in ordered]


def cover_expected(pool: Sequence[Hit], predicted: PredictedFindings, *, k: int) -> list[Hit]:
    """The first ``k`` of the pool, some exchanged so that each expected finding is spoken of.

    The last report that is not needed for an expected finding makes room for the first report of
    the pool that states a missing one. What was fetched so says it in `Hit.why`.
    """
    chosen = list(pool[:k])
    for label in predicted.positive:
        if any(label in finding_labels_of(hit.record) for hit in chosen):
            continue
        speaker = next((h for h in pool[k:] if label in finding_labels_of(h.record)), None)
        if speaker is None:
            continue
        idle = [hit for hit in chosen if not _needed(hit, chosen, predicted)]
        if idle:
            chosen.remove(idle[-1])
        chosen.append(replace(speaker, why=f"fetched for {label.lower()}"))
    return chosen


def _needed(hit: Hit, chosen: Sequence[Hit], predicted: PredictedFindings) -> bool:
    """Whether it is the only chosen report that states some expected finding."""
    others = [finding_labels_of(other.record) for other in chosen if other is not hit]
    mine = finding_labels_of(hit.record) & set(predicted.positive)
    return any(not any(label in other for other in others) for label in mine)
