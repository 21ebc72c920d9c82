"""When there is no ground for a draft: no report is left, or none is like the image.

The evidence is shown all the same. What the image does not show clearly is left unsaid rather than
the whole draft withheld (`rag.screening.calibration`).
"""

from collections.abc import Sequence

from rag.predicted_findings import PredictedFindings
from rag.report_nlp.labeller import LABELS
from rag.schema import Hit
from rag.settings import AbstentionSettings


def confidence_of(predicted: PredictedFindings) -> float | None:
    """How far the image's labels commit themselves: the largest of their probabilities.

    Of the scores that were tried it orders studies best by what their drafts get right; the
    similarity of the nearest reports orders them the wrong way round, since what abnormal images
    find is nearer and harder to draft. None without labels.
    """
    labels = [p for name, p in predicted.probabilities.items() if name in LABELS]
    return max(labels, default=None)


def no_ground(hits: Sequence[Hit], limits: AbstentionSettings) -> str | None:
    """Why nothing should be drafted, as a sentence; None where there is ground.

    Args:
        hits: the evidence.
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
    return None
