"""A draft or a signed report as text, Markdown and JSON.

Owns the content of an export: until it is signed, the notice of an AI draft first and last; then
the signature, and where the text came from. Contains nothing from an image's header.
"""

import json
from collections.abc import Iterator, Sequence
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
"""LOINC codes of reports and their sections (PS3.16 CID 7001, TID 2000)."""


@dataclass(frozen=True, slots=True)
class Export:
    """What is exported: the reviewed report, and the prediction it came from.

    Attributes:
        draft_id: of the audit record; empty if there is none.
    """

    prediction: Prediction
    report: ReviewedReport
    draft_id: str = ""

    @classmethod
    def from_prediction(cls, prediction: Prediction) -> "Export":
        """The unreviewed draft of a prediction."""
        return cls(prediction, ReviewedReport.from_draft(prediction.draft))

    @property
    def notice(self) -> str:
        """The line above and below the text."""
        return SIGNED_NOTICE if self.report.signature else NOTICE

    @property
    def has_text(self) -> bool:
        """Whether there is a report, drafted or written by the reader."""
        return self.prediction.status is Status.OK or bool(self.report.lines)

    @property
    def signed(self) -> str:
        """The line that names the signer; empty if unsigned."""
        return f"Signed by {self.report.signature}" if self.report.signature else ""

    @property
    def provenance(self) -> tuple[str, ...]:
        """Where the text came from: model, encoder and index, and how much was edited."""
        prediction = self.prediction
        lines = self.report.lines
        kept = sum(line.decision in (Decision.OPEN, Decision.ACCEPTED) for line in lines)
        edited = sum(line.decision is Decision.EDITED for line in lines)
        added = sum(line.decision is Decision.ADDED for line in lines)
        removed = self.report.drafted - sum(bool(line.drafted) for line in lines)
        made_with = [f"model {prediction.llm}"]
        if prediction.prompt:
            made_with.append(f"prompt {prediction.prompt} {prediction.prompt_hash[:12]}")
        made_with += [f"encoder {prediction.encoder_id}", f"index {prediction.index_id}"]
        if self.draft_id:
            made_with.append(f"draft {self.draft_id}")
        if not self.has_text:
            return (", ".join(made_with),)
        return (
            ", ".join(made_with),
            f"of {self.report.drafted} drafted sentences {kept} stand as drafted, {edited} were "
            f"edited, {removed} removed; {added} were added by the reader",
        )

    def remarks(self, notes: Sequence[str]) -> tuple[str, ...]:
        """Notice, provenance and warnings, and notes about the header."""
        return (self.notice, *self.provenance, *self.prediction.warnings, *notes)


class Style(Enum):
    """Kind of a block of an export."""

    TITLE = "title"
    HEADING = "heading"
    SENTENCE = "sentence"
    SMALL = "small print"


def export_blocks(export: Export) -> Iterator[tuple[Style, str]]:
    """The blocks of an export in order, without the notices above and below them.

    A study without a draft says why; evidence is listed whenever there is any.
    """
    prediction, report = export.prediction, export.report
    yield Style.TITLE, f"Chest X-ray {prediction.file}"
    if prediction.status is not Status.OK:
        yield Style.SENTENCE, f"No draft ({prediction.status}): {prediction.reason}"
    for section in Section if export.has_text else ():
        if lines := report.section(section):
            yield Style.HEADING, section.value.capitalize()
        for line in lines:
            cited = f" [{', '.join(line.sources)}]" if line.sources else ""
            marks = [f"({mark})" for mark in sentence_marks(line, export)]
            yield Style.SENTENCE, " ".join((line.text + cited, *marks))
    for addendum in report.addenda:
        yield Style.HEADING, "Addendum"
        yield Style.SENTENCE, addendum.text
        yield Style.SMALL, str(addendum.signature)
    if export.signed:
        yield Style.HEADING, export.signed
    elif prediction.hints:
        names = (
            f"{hint.finding.replace('_', ' ')} {hint.probability:.2f}" for hint in prediction.hints
        )
        yield Style.SENTENCE, f"Below the reporting threshold, but worth a look: {', '.join(names)}"
    if prediction.prior and not export.signed:
        yield Style.HEADING, f"Since the prior study{_days(prediction.prior)} (experimental)"
        yield from ((Style.SMALL, str(change)) for change in prediction.prior.changes)
    if prediction.hits:
        yield Style.HEADING, "Evidence: reports of other patients, cosine similarity"
    for hit in prediction.hits:
        text = " ".join(hit.record.text.split())
        yield Style.SMALL, f"[{hit.record.report_id}] {hit.similarity:.3f}  {text}"
    for remark in (*prediction.warnings, *export.provenance):
        yield Style.SMALL, remark


def _days(prior: PriorEvidence) -> str:
    return "" if prior.days_before is None else f", {prior.days_before} days earlier"


def as_text(export: Export | Prediction) -> str:
    """Plain text, with an empty line before each heading."""
    export = Export.from_prediction(export) if isinstance(export, Prediction) else export
    lines = [f"*** {export.notice} ***"]
    for style, text in export_blocks(export):
        lines += ["", text] if style is Style.HEADING else [text]
    return "\n".join([*lines, "", f"*** {export.notice} ***"])


def as_markdown(export: Export) -> str:
    """Markdown with the same content."""
    marks = {Style.TITLE: "# ", Style.HEADING: "\n## ", Style.SENTENCE: "- ", Style.SMALL: "- "}
    lines = [marks[style] + _escape(text) for style, text in export_blocks(export)]
    return "\n".join([f"> **{export.notice}**", "", *lines, "", f"> **{export.notice}**", ""])


def as_json(export: Export) -> str:
    """The prediction's JSON object with the reviewed report."""
    return json.dumps(
        {**export.prediction.to_json(), "notice": export.notice, "report": _report_json(export)},
        indent=1,
        ensure_ascii=False,
    )


def _report_json(export: Export) -> dict[str, Any]:
    report = export.report
    signature = report.signature
    return {
        "state": report.state.value,
        "draft_id": export.draft_id,
        **{
            section.value: [_line_json(line) for line in report.section(section)]
            for section in Section
        },
        "signature": {"name": signature.name, "at": signature.at} if signature else None,
        "addenda": [
            {"text": a.text, "name": a.signature.name, "at": a.signature.at} for a in report.addenda
        ],
        "provenance": list(export.provenance),
    }


def _line_json(line: ReportLine) -> dict[str, Any]:
    return {
        "text": line.text,
        "sources": list(line.sources),
        "decision": line.decision.value,
        "drafted": line.drafted,
    }


def support_lines(line: ReportLine, export: Export) -> Iterator[str]:
    """Citations and marks of a sentence."""
    yield from citation_lines(line, export)
    yield from sentence_marks(line, export)


def citation_lines(line: ReportLine, export: Export) -> Iterator[str]:
    """A line for each cited report, with its similarity."""
    hits = {hit.record.report_id: hit for hit in export.prediction.hits}
    for source in line.sources:
        if source == PRIOR:
            yield "the patient's own prior study"
            continue
        similarity = f", cosine similarity {hits[source].similarity:.3f}" if source in hits else ""
        yield f"report {source} of a similar image{similarity}"


def sentence_marks(line: ReportLine, export: Export) -> Iterator[str]:
    """Verdict and image mark of a sentence; none once the report is signed."""
    if export.report.signature is not None:
        return
    check = export.prediction.check
    verdicts = {s.sentence.text: s.verdict for s in check.sentences} if check else {}
    verdict = verdicts.get(line.text, Verdict.SUPPORTED)
    if line.drafted and verdict is not Verdict.SUPPORTED:
        yield verdict.value.upper()
    if mark := export.prediction.image_mark(DraftSentence(line.text, line.sources)):
        yield str(mark)


def _escape(text: str) -> str:
    """Escape Markdown's special characters."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|~" else letter for letter in text)
