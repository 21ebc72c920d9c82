"""How a verdict looks: a sign, a word and a class of the style sheet, never colour alone.

Signs differ in shape and are read aloud as their words; colours are of the Okabe-Ito palette, which
is safe for the common colour blindnesses.
"""

from dataclasses import dataclass

from rag.grounding.verdicts import Issue, Reason, SentenceCheck, Verdict
from rag.review.reviewed_report import Decision, Line


@dataclass(frozen=True, slots=True)
class Mark:
    """Look of a sentence: CSS class, sign, word, and whether it must be looked at."""

    css: str
    sign: str
    word: str
    alarming: bool = False


VERDICTS = {
    Verdict.SUPPORTED: Mark("supported", "✓", "supported"),
    Verdict.PARTLY: Mark("partly", "≈", "partly supported", alarming=True),
    Verdict.UNSUPPORTED: Mark("unsupported", "?", "unsupported", alarming=True),
    Verdict.CONTRADICTED_BY_IMAGE: Mark(
        "contradicted", "≠", "contradicted by the image's labels", alarming=True
    ),
    Verdict.CONTRADICTED: Mark("contradicted", "≠", "contradicted by evidence", alarming=True),
}
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


def mark_of(check: SentenceCheck | None, line: Line | None = None) -> Mark:
    """How a sentence is shown: by its verdict, or as the reader's own where it cites nothing."""
    if line and line.decision in (Decision.EDITED, Decision.ADDED) and not line.sources:
        return READERS_OWN
    return VERDICTS[check.verdict] if check else UNCHECKED


def issue_words(issue: Issue) -> str:
    """One reason as a reader would say it."""
    detail = issue.detail.replace("_", " ")
    text = _WORDS[issue.reason].format(detail.removeprefix("device "))
    return (
        f"{text} ({issue.report_id} says otherwise)" if issue.conflict and issue.report_id else text
    )
