"""A draft or a signed report as text, Markdown and JSON.

PDF is in `rag.export.pdf`, DICOM in `rag.export.dicom_sr`. Owns what stands in an export: until
somebody has signed, the mark of an AI draft first and last; after that the signature, and where the
text came from. Never the name of an image's file, nor anything of its header.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rag.prediction import Prediction
from rag.review.reviewed_report import Decision, Line, ReviewedReport
from rag.schema import NOTICE, DraftSentence, Section, Status

SIGNED_NOTICE = "Drafted by AI from reports of similar images; research software"


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
    def of(cls, prediction: Prediction) -> "Export":
        """A prediction that nobody has touched."""
        return cls(prediction, ReviewedReport.of(prediction.draft))

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
        return (
            f"model {found.llm}, prompt {found.prompt} {found.prompt_hash[:12]}, "
            f"encoder {found.encoder_id}, index {found.index_id}"
            + (f", draft {self.draft_id}" if self.draft_id else ""),
            f"of {self.report.drafted} drafted sentences {kept} stand as drafted, {edited} were "
            f"edited, {removed} removed; {added} were added by the reader",
        )


def as_text(what: Export | Prediction) -> str:
    """The report with its citations, then the evidence.

    A study without a draft says why; evidence is listed whenever there is any.
    """
    what = Export.of(what) if isinstance(what, Prediction) else what
    found = what.prediction
    lines = [f"*** {what.notice} ***", f"Image: {found.file}", ""]
    lines += _without_draft(what)
    if what.has_text:
        for section in Section:
            texts = (
                f"{_cited(each)}{_marked(each, what)}" for each in what.report.section(section)
            )
            lines += [section.value.upper(), *texts, ""]
    for addendum in what.report.addenda:
        lines += [
            "ADDENDUM",
            addendum.text,
            f"{addendum.signature.name}, {addendum.signature.at}",
            "",
        ]
    lines += [what.signed, ""] if what.signed else []
    lines += _hints(what)
    lines += [f"Note: {warning}" for warning in found.warnings]
    if found.hits:
        lines.append("EVIDENCE (reports of other patients, cosine similarity)")
        for hit in found.hits:
            text = " ".join(hit.record.text.split())
            lines.append(f"[{hit.record.report_id}] {hit.similarity:.3f}  {text}")
        lines.append("")
    return "\n".join([*lines, *what.provenance, f"*** {what.notice} ***"])


def as_markdown(what: Export) -> str:
    """The same for a wiki or a chat: headings, lists, citations as footnotes of the evidence."""
    found = what.prediction
    lines = [f"> **{what.notice}**", "", f"# Chest X-ray {found.file}", ""]
    lines += _without_draft(what)
    for section in Section if what.has_text else ():
        lines += [f"## {section.value.capitalize()}", ""]
        lines += [
            f"- {_escaped(_cited(line) + _marked(line, what))}"
            for line in what.report.section(section)
        ]
        lines.append("")
    for addendum in what.report.addenda:
        by = f"{addendum.signature.name}, {addendum.signature.at}"
        lines += ["## Addendum", "", _escaped(addendum.text), "", f"*{_escaped(by)}*", ""]
    lines += [f"**{_escaped(what.signed)}**", ""] if what.signed else []
    if found.hits:
        lines += ["## Evidence", "", "| report | similarity | text |", "|---|---|---|"]
        for hit in found.hits:
            text = _escaped(" ".join(hit.record.text.split()))
            lines.append(f"| {hit.record.report_id} | {hit.similarity:.3f} | {text} |")
        lines.append("")
    lines += [f"- {_escaped(line)}" for line in (*found.warnings, *what.provenance)]
    return "\n".join([*lines, "", f"> **{what.notice}**", ""])


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


def _line_json(line: Line) -> dict[str, Any]:
    return {
        "text": line.text,
        "sources": list(line.sources),
        "decision": line.decision.value,
        "drafted": line.drafted,
    }


def _without_draft(what: Export) -> list[str]:
    found = what.prediction
    if found.status is Status.OK:
        return []
    return [f"NO DRAFT ({found.status}): {found.reason}", ""]


def _cited(line: Line) -> str:
    return f"{line.text} [{', '.join(line.sources)}]" if line.sources else line.text


def _marked(line: Line, what: Export) -> str:
    """What the image says of a sentence, until somebody has signed for it."""
    mark = what.prediction.image_mark(DraftSentence(line.text, line.sources))
    return f" ({mark})" if mark and what.report.signature is None else ""


def _hints(what: Export) -> list[str]:
    """What is below the reporting threshold and worth a look, until somebody has signed."""
    if what.report.signature is not None or not what.prediction.hints:
        return []
    names = (
        f"{hint.finding.replace('_', ' ')} {hint.probability:.2f}" for hint in what.prediction.hints
    )
    return [f"Below the reporting threshold, look for: {', '.join(names)}", ""]


def _escaped(text: str) -> str:
    """Text that Markdown must not read as its own marks."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|~" else letter for letter in text)


def sections_of(what: Export) -> Iterator[tuple[str, tuple[Line, ...]]]:
    """Title and lines of each section, for the forms that lay them out."""
    for section in Section:
        yield section.value.capitalize(), what.report.section(section)
