"""What a check of a draft finds: verdicts, reasons, votes, and what the image says of a sentence.

A citation only tells that another patient's report says so (`rag.grounding.check_draft` judges
that); the image's own calibrated probabilities are the other half.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from rag.report_nlp.labeller import LABELS
from rag.report_reading import sentence_findings
from rag.schema import DraftSentence, PredictedFindings, Section, Span


class Verdict(StrEnum):
    """How a sentence of a draft stands to its evidence, worst last.

    - supported: all it states stands in the reports that it cites;
    - partly supported: some of it does, or all of it but a side, a size, a number, a certainty;
    - unsupported: nothing of it does, or it cites nothing;
    - contradicted by the image's labels: the image's own labels say the opposite;
    - contradicted by evidence: a report that it cites says the opposite.
    """

    SUPPORTED = "supported"
    PARTLY = "partly supported"
    UNSUPPORTED = "unsupported"
    CONTRADICTED_BY_IMAGE = "contradicted by the image's labels"
    CONTRADICTED = "contradicted by evidence"


class CitationMatch(StrEnum):
    """Whether a sentence stands in the reports it cites: the half of the truth that text can tell.

    It says nothing of the image; `ImageMark` does.
    """

    VERBATIM = "verbatim"
    SAME_MEANING = "same meaning"
    PARTLY = "partly"
    NOT = "not"


class Reason(StrEnum):
    """In what a sentence differs from its evidence, or what is wrong with it by itself."""

    FINDING = "finding"
    POLARITY = "polarity"
    CERTAINTY = "certainty"
    SIDE = "side"
    SEVERITY = "severity"
    ZONE = "zone"
    DEVICE = "device"
    NUMBER = "number"
    WORDS = "words"
    PRIOR = "prior"
    PLACEHOLDER = "placeholder"
    NO_SOURCE = "no source"
    UNKNOWN_SOURCE = "unknown source"
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class Issue:
    """One reason why a sentence is not simply supported.

    Attributes:
        detail: a finding, a number, words of the sentence, a report id: what the reason is about.
        report_id: the report that says otherwise, if one does.
        start, end: where in the sentence; 0, 0 is the whole.
        conflict: something says otherwise; not only nothing said so.
    """

    reason: Reason
    detail: str
    report_id: str = ""
    start: int = 0
    end: int = 0
    conflict: bool = False


@dataclass(frozen=True, slots=True)
class Support:
    """A sentence of a cited report on which the draft's sentence, or a part of it, rests."""

    report_id: str
    span: Span
    verbatim: bool = False


@dataclass(frozen=True, slots=True)
class SentenceCheck:
    """Verdict on one sentence of a draft."""

    section: Section
    sentence: DraftSentence
    verdict: Verdict
    issues: tuple[Issue, ...] = ()
    support: tuple[Support, ...] = ()

    @property
    def citation_match(self) -> CitationMatch:
        """Whether the sentence stands in the reports it cites."""
        if any(support.verbatim for support in self.support):
            return CitationMatch.VERBATIM
        if self.verdict is Verdict.SUPPORTED:
            return CitationMatch.SAME_MEANING
        return CitationMatch.PARTLY if self.support else CitationMatch.NOT


@dataclass(frozen=True, slots=True)
class Vote:
    """What the retrieved reports say of one finding that the draft mentions.

    Attributes:
        finding: concept of rag/report_nlp/data/findings.toml.
        label: its CheXpert-14 name, empty where it has none.
        present, possible, absent: ids of the reports that say so; the rest are silent.
        reports: how many reports were asked.
        image_probability: of the label in the image, where that is known, in [0, 1].
    """

    finding: str
    label: str
    present: tuple[str, ...]
    possible: tuple[str, ...]
    absent: tuple[str, ...]
    reports: int
    image_probability: float | None = None

    def __str__(self) -> str:
        """As in "4 of 5 reports say pleural effusion; image probability 0.81"."""
        name = self.label.lower() or self.finding.replace("_", " ")
        parts = [f"{len(self.present)} of {self.reports} reports say {name}"]
        if self.possible:
            parts.append(f"{len(self.possible)} possibly")
        if self.absent:
            parts.append(f"{len(self.absent)} deny it")
        if self.image_probability is not None:
            parts.append(f"image probability {self.image_probability:.2f}")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class DraftCheck:
    """Verdicts on the sentences of a draft, findings first, and the votes on what it mentions."""

    sentences: tuple[SentenceCheck, ...]
    votes: tuple[Vote, ...]


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
    present, denied = sentence_findings(text)
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
