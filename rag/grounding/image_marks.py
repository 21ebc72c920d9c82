"""What the image itself says of a sentence: likely, possible, unlikely, or it cannot be assessed.

A citation only tells that another patient's report says so; this is the other half. Knows
calibrated probabilities and what sentences state.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from rag.predicted_findings import PredictedFindings
from rag.report_nlp.labeller import LABELS
from rag.report_reading import findings_of

_EVEN = 0.5


class ImageVerdict(StrEnum):
    """How well a sentence agrees with the image's own findings."""

    LIKELY = "likely"
    POSSIBLE = "possible"
    NOT_ASSESSABLE = "not assessable"
    UNLIKELY = "unlikely"


_WORST_LAST = tuple(ImageVerdict)


@dataclass(frozen=True, slots=True)
class ImageMark:
    """What the image says of one sentence.

    Attributes:
        verdict: the worst of all that the sentence states or denies.
        finding: what decided; empty where the sentence speaks of nothing that is predicted.
        denied: whether the sentence denies it.
        probability: that the finding is there; None where it cannot be assessed.
    """

    verdict: ImageVerdict
    finding: str = ""
    denied: bool = False
    probability: float | None = None

    def __str__(self) -> str:
        """As in "image: likely (Cardiomegaly 0.71)"."""
        if not self.finding:
            return f"image: {self.verdict}"
        name = self.finding.replace("_", " ")
        known = "" if self.probability is None else f" {self.probability:.2f}"
        return f"image: {self.verdict} ({name}{known})"


def image_mark(text: str, predicted: PredictedFindings) -> ImageMark:
    """The mark of one sentence."""
    marks = list(_marks(text, predicted))
    if not marks:
        return ImageMark(ImageVerdict.NOT_ASSESSABLE)
    return max(marks, key=lambda mark: _WORST_LAST.index(mark.verdict))


def _marks(text: str, predicted: PredictedFindings) -> Iterator[ImageMark]:
    """One for each finding of the sentence that is predicted; labels first."""
    present, denied = findings_of(text)
    for names, is_denied in ((present, False), (denied, True)):
        for name in sorted(names, key=lambda name: (name not in LABELS, name)):
            if name in predicted.not_assessable:
                yield ImageMark(ImageVerdict.NOT_ASSESSABLE, name, is_denied)
            elif name in predicted.probabilities:
                p = predicted.probabilities[name]
                yield ImageMark(_verdict(p, predicted.threshold, is_denied), name, is_denied, p)


def _verdict(p: float, threshold: float, denied: bool) -> ImageVerdict:
    if denied:
        if p < threshold:
            return ImageVerdict.LIKELY
        return ImageVerdict.POSSIBLE if p < _EVEN else ImageVerdict.UNLIKELY
    if p >= _EVEN:
        return ImageVerdict.LIKELY
    return ImageVerdict.POSSIBLE if p >= threshold else ImageVerdict.UNLIKELY
