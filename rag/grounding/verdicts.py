"""Results of checking a draft: verdicts, reasons, votes, and image marks.

A verdict only says whether the cited reports, of other patients, support a sentence; an image mark
says how likely the image's own calibrated probabilities make it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from rag.report_nlp.labeller import LABELS
from rag.report_reading import sentence_findings
from rag.schema import DraftSentence, PredictedFindings, Section, Span


class Verdict(StrEnum):
    """Whether the evidence supports a sentence of a draft, worst last.

    - supported: the cited reports state all of it;
    - partly supported: they state some of it, or all but a side, a size, a number, a certainty;
    - unsupported: they state none of it, or it cites nothing;
    - contradicted by the image's labels: these say the opposite;
    - contradicted by evidence: a cited report says the opposite.
    """

    SUPPORTED = "supported"
    PARTLY = "partly supported"
    UNSUPPORTED = "unsupported"
    CONTRADICTED_BY_IMAGE = "contradicted by the image's labels"
    CONTRADICTED = "contradicted by evidence"


class CitationMatch(StrEnum):
    """How closely the cited reports match a sentence, whatever the image shows."""

    VERBATIM = "verbatim"
    SAME_MEANING = "same meaning"
    PARTLY = "partly"
    NOT = "not"


class Reason(StrEnum):
    """How a sentence differs from its evidence, or what is wrong with the sentence itself."""

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
        detail: the finding, number, words or report id that the reason is about.
        report_id: the report that contradicts it, if one does.
        start, end: offsets in the sentence; 0, 0 for all of it.
        conflict: contradicted, not only unsupported.
    """

    reason: Reason
    detail: str
    report_id: str = ""
    start: int = 0
    end: int = 0
    conflict: bool = False


@dataclass(frozen=True, slots=True)
class Support:
    """A sentence of a cited report that supports a sentence of the draft, or a part of it."""

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
        """How closely the cited reports match the sentence."""
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
        label: its CheXpert-14 name; empty if it has none.
        present, possible, absent: ids of the reports that say so; the others do not mention it.
        reports: number of reports.
        image_probability: of the label in the image, in [0, 1]; None if unknown.
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


_LIKELY_FROM = 0.5


class ImageVerdict(StrEnum):
    """How likely the image's predicted findings make a sentence, worst last."""

    LIKELY = "likely"
    POSSIBLE = "possible"
    NOT_ASSESSABLE = "not assessable"
    UNLIKELY = "unlikely"


@dataclass(frozen=True, slots=True)
class ImageMark:
    """What the image's predicted findings say of one sentence.

    Attributes:
        verdict: the worst of all findings that the sentence states or denies.
        finding: the one that decided; empty if the sentence mentions no predicted finding.
        denied: whether the sentence denies it.
        probability: of the finding, in [0, 1]; None if it cannot be assessed.
    """

    verdict: ImageVerdict
    finding: str = ""
    denied: bool = False
    probability: float | None = None

    def __str__(self) -> str:
        """As in "image: possible (edema probability 0.41)", on the page and in exports."""
        verdict = self.verdict.upper() if self.verdict is ImageVerdict.UNLIKELY else self.verdict
        if not self.finding:
            return f"image: {verdict}"
        name = self.finding.replace("_", " ").lower()
        # without the word, "likely (fracture 0.06)" of "No fracture." reads as a likely fracture
        probability = "" if self.probability is None else f" probability {self.probability:.2f}"
        return f"image: {verdict} ({name}{probability})"


def image_mark(text: str, predicted: PredictedFindings) -> ImageMark:
    """The mark of one sentence."""
    marks = list(_marks(text, predicted))
    if not marks:
        return ImageMark(ImageVerdict.NOT_ASSESSABLE)
    verdicts = tuple(ImageVerdict)
    return max(marks, key=lambda mark: verdicts.index(mark.verdict))


def _marks(text: str, predicted: PredictedFindings) -> Iterator[ImageMark]:
    """One mark for each predicted finding that the sentence mentions, labels first."""
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
        return ImageVerdict.POSSIBLE if p < _LIKELY_FROM else ImageVerdict.UNLIKELY
    if p >= _LIKELY_FROM:
        return ImageVerdict.LIKELY
    return ImageVerdict.POSSIBLE if p >= threshold else ImageVerdict.UNLIKELY
