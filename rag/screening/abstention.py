"""When there is no ground for a draft.

Nothing is similar, the labels commit to nothing, or the neighbours contradict them. The evidence is
shown all the same. The limits lie at or beyond the edge of what the chest X-rays of the Open-I
validation split reach (docs/retrieval.md has the risk at others), so that they stop the unusual and
not the difficult image. Knows hits and label probabilities, not how they came about.
"""

from collections.abc import Sequence

from rag.finding_labels import finding_labels_of
from rag.predicted_findings import PredictedFindings
from rag.report_nlp.labeller import NO_FINDING
from rag.schema import Hit
from rag.settings import AbstentionSettings


def confidence_of(predicted: PredictedFindings) -> float | None:
    """How far the image's labels commit themselves: the largest of their probabilities.

    Of the scores that were tried it orders studies best by what their drafts get right; the
    similarity of the nearest reports orders them the wrong way round, since what abnormal images
    find is nearer and harder to draft. None without labels.
    """
    return max(predicted.probabilities.values(), default=None)


def no_ground(
    hits: Sequence[Hit], predicted: PredictedFindings, limits: AbstentionSettings
) -> str | None:
    """Why nothing should be drafted, as a sentence; None where there is ground.

    Args:
        hits: the evidence.
        predicted: the image's labels; without any, only the hits are judged.
        limits: see `rag.settings.AbstentionSettings`.
    """
    nearest = max((hit.similarity for hit in hits), default=None)
    if nearest is None:
        return "no report is left to draft from"
    if nearest < limits.similarity:
        return (
            f"no report is like this image: the nearest has similarity {nearest:.2f}, "
            f"below {limits.similarity:.2f}"
        )
    certainty = confidence_of(predicted)
    if certainty is None:
        return None
    if certainty < limits.certainty:
        return (
            f"the image's labels commit to nothing, not even to a normal image: the most probable "
            f"one has {certainty:.2f}, below {limits.certainty:.2f}"
        )
    apart = disagreement(hits, predicted)
    if apart > limits.disagreement:
        return (
            "the retrieved reports contradict what the image is expected to show: they differ by "
            f"{apart:.2f} a label, more than {limits.disagreement:.2f}"
        )
    return None


def disagreement(hits: Sequence[Hit], predicted: PredictedFindings) -> float:
    """How far reports and image are apart, in [0, 1].

    The mean, over the judged labels that any of them claims, of the distance between the share of
    reports that state a label and its probability.
    """
    stated = [finding_labels_of(hit.record) - {NO_FINDING} for hit in hits]
    claimed = set().union(*stated) | set(predicted.positive)
    distances = [
        abs(sum(label in labels for labels in stated) / len(stated) - probability)
        for label, probability in predicted.probabilities.items()
        if label in claimed
    ]
    return sum(distances) / len(distances) if distances else 0.0
