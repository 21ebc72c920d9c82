"""Renders the panels of the page from ``templates/``, and the marks of their sentences.

Templates escape all values. A verdict is shown by a sign, a word and a colour, never by colour
alone. Two questions are kept apart: do the cited reports support the sentence, and does the image
agree? A tick means both. Signs differ in shape, and screen readers read their words; the colours
are from the Okabe-Ito palette, which is safe for common colour blindness.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from encoders.base import View
from rag.grounding.verdicts import (
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


def format_time(at: str) -> str:
    """An ISO time to the minute, in its own time zone."""
    return datetime.fromisoformat(at).strftime("%Y-%m-%d %H:%M")


def finding_text(name: str) -> str:
    """The name of a finding in words, as in "pleural effusion"."""
    return name.replace("_", " ").lower()


def view_name(view: View) -> str:
    """As in "Frontal PA"; an image is never called by its file, whose name may be the patient's."""
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
    strings=strings,
    anchor=anchor,
    format_time=format_time,
    finding_text=finding_text,
    view_name=view_name,
)


@dataclass(frozen=True, slots=True)
class Mark:
    """CSS class, sign and words of a verdict."""

    css: str
    sign: str
    text: str


_VERDICT_MARKS = {
    Verdict.PARTLY: ("partly", "≈"),
    Verdict.UNSUPPORTED: ("unsupported", "?"),
    Verdict.CONTRADICTED_BY_IMAGE: ("contradicted", "≠"),
    Verdict.CONTRADICTED: ("contradicted", "≠"),
}
_UNLIKELY = Mark("contradicted", "⚠", "cited, but unlikely in the image")
_UNCHECKED = Mark("unchecked", "…", "not checked yet")
_READERS_OWN = Mark("own", "✎", "reader's own words")

_ISSUE_TEXTS = {
    Reason.FINDING: "no cited report says “{}”",
    Reason.POLARITY: "presence or absence differs: {}",
    Reason.CERTAINTY: "the certainty differs: {}",
    Reason.SIDE: "the side differs: {}",
    Reason.SEVERITY: "the severity differs: {}",
    Reason.ZONE: "the zone differs: {}",
    Reason.DEVICE: "no cited report says this about the {}",
    Reason.NUMBER: "no cited report gives “{}”",
    Reason.WORDS: "no cited report contains “{}”",
    Reason.PRIOR: "refers to an earlier study: {}",
    Reason.PLACEHOLDER: "contains a removed identifier",
    Reason.NO_SOURCE: "cites no report",
    Reason.UNKNOWN_SOURCE: "cites a report that was not retrieved: {}",
    Reason.IMAGE: "the findings predicted from the image say otherwise: {}",
}
_IMAGE_SIGNS = {
    ImageVerdict.LIKELY: "●",
    ImageVerdict.POSSIBLE: "◐",
    ImageVerdict.NOT_ASSESSABLE: "○",
    ImageVerdict.UNLIKELY: "⚠",
}


def mark_of(check: SentenceCheck | None, line: ReportLine, image: ImageMark | None) -> Mark:
    """The mark of a sentence: by its verdict, or as the reader's own words if it cites nothing.

    Args:
        check: verdict on the sentence; None before it is checked.
        line: the sentence under review.
        image: whether the image agrees; None if the encoder predicts no findings.
    """
    if line.decision in (Decision.EDITED, Decision.ADDED) and not line.sources:
        return _READERS_OWN
    if check is None:
        return _UNCHECKED
    if check.verdict is not Verdict.SUPPORTED:
        return Mark(*_VERDICT_MARKS[check.verdict], check.verdict.value)
    if image is not None and image.verdict is ImageVerdict.UNLIKELY:
        return _UNLIKELY
    text = f"cited: {check.citation_match}"
    agrees = image is not None and image.verdict is ImageVerdict.LIKELY
    return Mark("supported", "✓", text) if agrees else Mark("cited", "❝", text)


def mark_of_image(image: ImageMark) -> Mark:
    """Whether the image agrees, as in "◐ image: possible (edema probability 0.41)"."""
    return Mark(image.verdict.replace(" ", "-"), _IMAGE_SIGNS[image.verdict], str(image))


def issue_text(issue: Issue) -> str:
    """Why a sentence is not supported."""
    detail = issue.detail.replace("_", " ").removeprefix("device ")
    text = _ISSUE_TEXTS[issue.reason].format(detail)
    contradicted = issue.conflict and issue.report_id
    return f"{text} ({issue.report_id} says otherwise)" if contradicted else text
