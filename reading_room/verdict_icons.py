"""How a verdict looks: a sign, a word and a class of the style sheet, never colour alone.

Two questions stay apart: does the sentence stand in the reports it cites, and does the image agree?
A tick is for both; what only another patient's report says has none.

Signs differ in shape and are read aloud as their words; colours are of the Okabe-Ito palette, which
is safe for the common colour blindnesses.
"""

from dataclasses import dataclass

from rag.grounding.image_marks import ImageMark, ImageVerdict
from rag.grounding.verdicts import Cited, Issue, Reason, SentenceCheck, Verdict
from rag.review.reviewed_report import Decision, Line


@dataclass(frozen=True, slots=True)
class Mark:
    """Look of a sentence: CSS class, sign, word, and whether it must be looked at."""

    css: str
    sign: str
    word: str
    alarming: bool = False


VERDICTS = {
    Verdict.SUPPORTED: Mark("cited", "❝", "cited"),
    Verdict.PARTLY: Mark("partly", "≈", "partly supported", alarming=True),
    Verdict.UNSUPPORTED: Mark("unsupported", "?", "unsupported", alarming=True),
    Verdict.CONTRADICTED_BY_IMAGE: Mark(
        "contradicted", "≠", "contradicted by the image's labels", alarming=True
    ),
    Verdict.CONTRADICTED: Mark("contradicted", "≠", "contradicted by evidence", alarming=True),
}
AGREED = Mark("supported", "✓", "cited")
AGAINST_IMAGE = Mark("contradicted", "⚠", "cited, but unlikely in the image", alarming=True)
UNCHECKED = Mark("unchecked", "…", "not checked yet")
READERS_OWN = Mark("own", "✎", "reader's own words")

_WORDS = {
    Reason.FINDING: "no cited report says “{}”",
    Reason.POLARITY: "present or absent differs: {}",
    Reason.CERTAINTY: "how sure it is differs: {}",
    Reason.SIDE: "the side differs: {}",
    Reason.SEVERITY: "the degree differs: {}",
    Reason.ZONE: "the place differs: {}",
    Reason.DEVICE: "no cited report says this of the {}",
    Reason.NUMBER: "no cited report gives “{}”",
    Reason.WORDS: "no cited report has the words “{}”",
    Reason.PRIOR: "speaks of an earlier image: {}",
    Reason.PLACEHOLDER: "holds a removed identifier",
    Reason.NO_SOURCE: "names no report",
    Reason.UNKNOWN_SOURCE: "names a report that was not retrieved: {}",
    Reason.IMAGE: "the image's own labels say otherwise: {}",
}


IMAGE_MARKS = {
    ImageVerdict.LIKELY: ("●", "image: likely"),
    ImageVerdict.POSSIBLE: ("◐", "image: possible"),
    ImageVerdict.NOT_ASSESSABLE: ("○", "image: not assessable"),
    ImageVerdict.UNLIKELY: ("⚠", "image: UNLIKELY"),
}
CITED_WORDS = {
    Cited.VERBATIM: "verbatim",
    Cited.SAME_MEANING: "same meaning",
    Cited.PARTLY: "partly",
    Cited.NOT: "not in the cited report",
}


def mark_of(
    check: SentenceCheck | None, line: Line | None = None, image: ImageMark | None = None
) -> Mark:
    """How a sentence is shown: by its verdict, or as the reader's own where it cites nothing.

    Args:
        check: verdict on the sentence; None while there is none.
        line: the sentence in its reader's hands.
        image: what the image says of it; None where nothing reads the image.
    """
    if line and line.decision in (Decision.EDITED, Decision.ADDED) and not line.sources:
        return READERS_OWN
    if check is None:
        return UNCHECKED
    if check.verdict is Verdict.SUPPORTED and image is not None:
        if image.verdict is ImageVerdict.UNLIKELY:
            return AGAINST_IMAGE
        if image.verdict is ImageVerdict.LIKELY:
            return AGREED
    return VERDICTS[check.verdict]


def image_words(image: ImageMark) -> tuple[str, str]:
    """Sign and words for what the image says, as in ("◐", "image: possible (edema 0.41)")."""
    sign, words = IMAGE_MARKS[image.verdict]
    if not image.finding:
        return sign, words
    name = image.finding.replace("_", " ").lower()
    probability = "" if image.probability is None else f" {image.probability:.2f}"
    return sign, f"{words} ({name}{probability})"


def issue_words(issue: Issue) -> str:
    """One reason as a reader would say it."""
    detail = issue.detail.replace("_", " ")
    text = _WORDS[issue.reason].format(detail.removeprefix("device "))
    return (
        f"{text} ({issue.report_id} says otherwise)" if issue.conflict and issue.report_id else text
    )
