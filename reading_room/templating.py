"""Renders the panels of the page from ``templates/``, and how a verdict looks in them.

Whatever is put into a template is escaped. A verdict is a sign, a word and a CSS class, never
colour alone. Two questions stay apart: do the cited reports support the sentence, and does the
image agree? A tick means both. Signs differ in shape and screen readers read their words; colours
are of the Okabe-Ito palette, which is safe for the common colour blindnesses.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from encoders.base import View
from rag.grounding.verdicts import (
    CitationMatch,
    ImageMark,
    ImageVerdict,
    Issue,
    Reason,
    SentenceCheck,
    Verdict,
)
from rag.review.reviewed_report import Decision, ReportLine
from reading_room import strings


def anchor(report_id: str) -> str:
    """The id of a report's card on the page."""
    return f"report-{report_id}"


def minute(at: str) -> str:
    """An ISO time to the minute, in its own zone."""
    return datetime.fromisoformat(at).strftime("%Y-%m-%d %H:%M")


def readable(name: str) -> str:
    """The name of a finding as text, as in "pleural effusion"."""
    return name.replace("_", " ").lower()


def view_name(view: View) -> str:
    """As in "Frontal PA": what an image is called, never by its file, which may name a person."""
    if view is View.UNKNOWN:
        return strings.IMAGE
    return strings.LATERAL if view is View.LATERAL else f"{strings.FRONTAL} {view.value}"


def render(template: str, **values: Any) -> str:
    """The HTML of a template."""
    return _ENVIRONMENT.get_template(template).render(values).strip()


_ENVIRONMENT = Environment(
    loader=PackageLoader("reading_room"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.globals.update(
    strings=strings, anchor=anchor, minute=minute, readable=readable, view_name=view_name
)


@dataclass(frozen=True, slots=True)
class Mark:
    """CSS class, sign and word of a verdict, and whether the reader must look at it."""

    css: str
    sign: str
    word: str
    alarming: bool = False


VERDICTS = {
    Verdict.PARTLY: Mark("partly", "≈", "partly supported", alarming=True),
    Verdict.UNSUPPORTED: Mark("unsupported", "?", "unsupported", alarming=True),
    Verdict.CONTRADICTED_BY_IMAGE: Mark(
        "contradicted", "≠", "contradicted by the image's labels", alarming=True
    ),
    Verdict.CONTRADICTED: Mark("contradicted", "≠", "contradicted by evidence", alarming=True),
}
AGAINST_IMAGE = Mark("contradicted", "⚠", "cited, but unlikely in the image", alarming=True)
UNCHECKED = Mark("unchecked", "…", "not checked yet")
READERS_OWN = Mark("own", "✎", "reader's own words")

_WORDS = {
    Reason.FINDING: "no cited report says “{}”",
    Reason.POLARITY: "presence or absence differs: {}",
    Reason.CERTAINTY: "the certainty differs: {}",
    Reason.SIDE: "the side differs: {}",
    Reason.SEVERITY: "the degree differs: {}",
    Reason.ZONE: "the zone differs: {}",
    Reason.DEVICE: "no cited report says this of the {}",
    Reason.NUMBER: "no cited report gives “{}”",
    Reason.WORDS: "no cited report has the words “{}”",
    Reason.PRIOR: "mentions an earlier image: {}",
    Reason.PLACEHOLDER: "contains a removed identifier",
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
_CITED = {
    CitationMatch.VERBATIM: "verbatim",
    CitationMatch.SAME_MEANING: "same meaning",
    CitationMatch.PARTLY: "partly",
    CitationMatch.NOT: "not in the cited report",
}


def mark_of(
    check: SentenceCheck | None, line: ReportLine | None = None, image: ImageMark | None = None
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
    if check.verdict is not Verdict.SUPPORTED:
        return VERDICTS[check.verdict]
    if image is not None and image.verdict is ImageVerdict.UNLIKELY:
        return AGAINST_IMAGE
    agreed = image is not None and image.verdict is ImageVerdict.LIKELY
    word = f"cited: {_CITED[check.citation_match]}"
    return Mark("supported", "✓", word) if agreed else Mark("cited", "❝", word)


def image_icon(image: ImageMark) -> Mark:
    """What the image says of a sentence, as in "◐ image: possible (edema 0.41)"."""
    sign, word = IMAGE_MARKS[image.verdict]
    if image.finding:
        probability = "" if image.probability is None else f" {image.probability:.2f}"
        word = f"{word} ({readable(image.finding)}{probability})"
    return Mark(image.verdict.value.replace(" ", "-"), sign, word)


def issue_words(issue: Issue) -> str:
    """One reason in words."""
    detail = issue.detail.replace("_", " ").removeprefix("device ")
    text = _WORDS[issue.reason].format(detail)
    contradicted = issue.conflict and issue.report_id
    return f"{text} ({issue.report_id} says otherwise)" if contradicted else text
