"""The state of the report, and its exports; ``static/exports.js`` has their buttons."""

from pathlib import Path
from typing import Any

from rag.export import DOCUMENTS, ENDINGS, as_document
from rag.export.dicom_header import StructuredReportError
from rag.export.text import Export, as_json, as_markdown, as_text
from rag.review.reviewed_report import ReviewedReport, State
from reading_room import strings
from reading_room.session import ControllerError, Session
from reading_room.templating import minute, render

FORMATS = {"text": "txt", "markdown": "md", "json": "json", "pdf": "pdf", **ENDINGS}
"""Ending of the file of each export."""

_BADGES = {
    State.DRAFT: ("○", "draft"),
    State.EDITED: ("✎", "edited"),
    State.SIGNED: ("■", "signed"),
    State.ADDENDUM: ("■+", "addendum"),
}


def state_html(report: ReviewedReport | None) -> str:
    """Where the report stands, and what keeps it from the next state."""
    if report is None:
        return render("state.html", report=None)
    sign, css = _BADGES[report.state]
    if report.signature:
        rest = strings.SIGNED_BY.format(report.signature.name, minute(report.signature.at))
    elif report.open_lines:
        count = len(report.open_lines)
        rest = strings.UNDECIDED.format(count, "" if count == 1 else "s")
    else:
        rest = strings.ALL_DECIDED if report.lines else strings.NO_SENTENCES
    return render("state.html", report=report, sign=sign, css=css, rest=rest)


def exports_value(*, ready: bool, dicom: bool, file: str = "", number: int = 0) -> dict[str, Any]:
    """What ``exports.js`` is told: which buttons work, and a file to download."""
    forms = [form for form in strings.EXPORTS if ready and (dicom or form not in DOCUMENTS)]
    return {"forms": forms, "file": file, "number": number}


def export_content(what: Export, form: str, session: Session) -> bytes:
    """The file of an export.

    Raises:
        ControllerError: there is nothing to export, or not in this form.
    """
    texts = {"text": as_text, "markdown": as_markdown, "json": as_json}
    if form in texts:
        return texts[form](what).encode()
    if form == "pdf":
        from rag.export.pdf import as_pdf  # noqa: PLC0415 - reportlab takes half a second

        return as_pdf(what)
    if form not in DOCUMENTS:
        raise ControllerError(strings.UNKNOWN_STEP.format(form[:40]))
    if not what.has_text:
        raise ControllerError(strings.NOTHING_TO_EXPORT)
    try:
        return as_document(what, form, image=Path(session.images[session.drafted].path))
    except StructuredReportError as error:
        raise ControllerError(str(error)) from error
