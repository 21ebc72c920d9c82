"""A draft or a signed report as text, Markdown and JSON.

Owns what stands in an export: until somebody has signed, the mark of an AI draft first and last;
after that the signature, and where the text came from. A study bears the name that its caller gave;
nothing here comes from an image's header.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from rag.change import PriorEvidence
from rag.grounding.verdicts import Verdict
from rag.prediction import Prediction
from rag.review.reviewed_report import Decision, ReportLine, ReviewedReport
from rag.schema import NOTICE, PRIOR, DraftSentence, Section, Status

SIGNED_NOTICE = "Drafted by AI from reports of similar images; research software"

REPORT = ("18748-4", "Diagnostic imaging report")
LOINC = {
    Section.FINDINGS: ("59776-5", "Findings"),
    Section.IMPRESSION: ("19005-8", "Impressions"),
}
ADDENDUM = ("55107-7", "Addendum")
"""LOINC codes, as PS3.16 CID 7001 and TID 2000 have them: of reports and their sections."""


@dataclass(frozen=True, slots=True)
class Export:
    """What is exported: the report in its reader's hands, and the prediction it came from.

    Attributes:
        draft_id: of the audit record, empty where there is none.
    """

    prediction: Prediction
    report: ReviewedReport
    draft_id: str = ""

    @classmethod
    def from_prediction(cls, prediction: Prediction) -> "Export":
        """A prediction that nobody has touched."""
        return cls(prediction, ReviewedReport.from_draft(prediction.draft))

    @property
    def notice(self) -> str:
        """What stands above and below the text."""
        return SIGNED_NOTICE if self.report.signature else NOTICE

    @property
    def has_text(self) -> bool:
        """Whether there is a report to export, drafted or written."""
        return self.prediction.status is Status.OK or bool(self.report.lines)

    @property
    def signed(self) -> str:
        """Who signed, as a line; empty before."""
        signature = self.report.signature
        return f"Signed by {signature.name}, {signature.at}" if signature else ""

    @property
    def provenance(self) -> tuple[str, ...]:
        """Where the text came from: parts, and how much of it is the model's."""
        found = self.prediction
        lines = self.report.lines
        kept = sum(line.decision in (Decision.OPEN, Decision.ACCEPTED) for line in lines)
        edited = sum(line.decision is Decision.EDITED for line in lines)
        added = sum(line.decision is Decision.ADDED for line in lines)
        removed = self.report.drafted - sum(bool(line.drafted) for line in lines)
        prompt = f"prompt {found.prompt} {found.prompt_hash[:12]}, " if found.prompt else ""
        parts = f"model {found.llm}, {prompt}encoder {found.encoder_id}, index {found.index_id}"
        if self.draft_id:
            parts += f", draft {self.draft_id}"
        if not self.has_text:
            return (parts,)
        return (
            parts,
            f"of {self.report.drafted} drafted sentences {kept} stand as drafted, {edited} were "
            f"edited, {removed} removed; {added} were added by the reader",
        )


class Style(Enum):
    """What a block of an export is; each form has its own way to show it."""

    TITLE = "title"
    HEADING = "heading"
    SENTENCE = "sentence"
    SMALL = "small print"


def export_blocks(what: Export) -> Iterator[tuple[Style, str]]:
    """What stands in an export, in reading order, between the notices above and below it.

    A study without a draft says why; evidence is listed whenever there is any.
    """
    found, report = what.prediction, what.report
    yield Style.TITLE, f"Chest X-ray {found.file}"
    if found.status is not Status.OK:
        yield Style.SENTENCE, f"No draft ({found.status}): {found.reason}"
    for section in Section if what.has_text else ():
        if lines := report.section(section):
            yield Style.HEADING, section.value.capitalize()
        for line in lines:
            cited = f" [{', '.join(line.sources)}]" if line.sources else ""
            said = [f"({mark})" for mark in sentence_marks(line, what)]
            yield Style.SENTENCE, " ".join((line.text + cited, *said))
    for addendum in report.addenda:
        yield Style.HEADING, "Addendum"
        yield Style.SENTENCE, addendum.text
        yield Style.SMALL, f"{addendum.signature.name}, {addendum.signature.at}"
    if what.signed:
        yield Style.HEADING, what.signed
    elif found.hints:
        names = (f"{hint.finding.replace('_', ' ')} {hint.probability:.2f}" for hint in found.hints)
        yield Style.SENTENCE, f"Below the reporting threshold, but worth a look: {', '.join(names)}"
    if found.prior and not what.signed:
        yield Style.HEADING, f"Since the prior study{_days(found.prior)} (experimental)"
        yield from ((Style.SMALL, str(change)) for change in found.prior.changes)
    if found.hits:
        yield Style.HEADING, "Evidence: reports of other patients, cosine similarity"
    for hit in found.hits:
        text = " ".join(hit.record.text.split())
        yield Style.SMALL, f"[{hit.record.report_id}] {hit.similarity:.3f}  {text}"
    for remark in (*found.warnings, *what.provenance):
        yield Style.SMALL, remark


def _days(prior: PriorEvidence) -> str:
    return "" if prior.days_before is None else f", {prior.days_before} days earlier"


def as_text(what: Export | Prediction) -> str:
    """The report with its citations, then the evidence; each heading after an empty line."""
    what = Export.from_prediction(what) if isinstance(what, Prediction) else what
    lines = [f"*** {what.notice} ***"]
    for style, text in export_blocks(what):
        lines += ["", text] if style is Style.HEADING else [text]
    return "\n".join([*lines, "", f"*** {what.notice} ***"])


def as_markdown(what: Export) -> str:
    """The same for a wiki or a chat."""
    marks = {Style.TITLE: "# ", Style.HEADING: "\n## ", Style.SENTENCE: "- ", Style.SMALL: "- "}
    lines = [marks[style] + _escaped(text) for style, text in export_blocks(what)]
    return "\n".join([f"> **{what.notice}**", "", *lines, "", f"> **{what.notice}**", ""])


def as_json(what: Export) -> str:
    """The prediction's public object, and beside it the report as it stands now."""
    return json.dumps(
        {**what.prediction.to_json(), "notice": what.notice, "report": _report_json(what)},
        indent=1,
        ensure_ascii=False,
    )


def _report_json(what: Export) -> dict[str, Any]:
    report = what.report
    signature = report.signature
    return {
        "state": report.state.value,
        "draft_id": what.draft_id,
        **{
            section.value: [_line_json(line) for line in report.section(section)]
            for section in Section
        },
        "signature": {"name": signature.name, "at": signature.at} if signature else None,
        "addenda": [
            {"text": each.text, "name": each.signature.name, "at": each.signature.at}
            for each in report.addenda
        ],
        "provenance": list(what.provenance),
    }


def _line_json(line: ReportLine) -> dict[str, Any]:
    return {
        "text": line.text,
        "sources": list(line.sources),
        "decision": line.decision.value,
        "drafted": line.drafted,
    }


def support_lines(line: ReportLine, what: Export) -> Iterator[str]:
    """What a sentence rests on, and what evidence and image say of it."""
    yield from citation_lines(line, what)
    yield from sentence_marks(line, what)


def citation_lines(line: ReportLine, what: Export) -> Iterator[str]:
    """The reports that a sentence cites, each with its similarity."""
    hits = {hit.record.report_id: hit for hit in what.prediction.hits}
    for source in line.sources:
        if source == PRIOR:
            yield "the patient's own prior study"
            continue
        similarity = f", cosine similarity {hits[source].similarity:.3f}" if source in hits else ""
        yield f"report {source} of a similar image{similarity}"


def sentence_marks(line: ReportLine, what: Export) -> Iterator[str]:
    """What evidence and image say of a sentence, until somebody has signed for it."""
    if what.report.signature is not None:
        return
    check = what.prediction.check
    verdicts = {each.sentence.text: each.verdict for each in check.sentences} if check else {}
    verdict = verdicts.get(line.text, Verdict.SUPPORTED)
    if line.drafted and verdict is not Verdict.SUPPORTED:
        yield verdict.value.upper()
    if mark := what.prediction.image_mark(DraftSentence(line.text, line.sources)):
        yield str(mark)


def _escaped(text: str) -> str:
    """Text that Markdown must not read as its own marks."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|~" else letter for letter in text)
