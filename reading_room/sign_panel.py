"""The state of the report, and which exports there are; the rest is ``static/exports.js``."""

from typing import Any

from rag.export import DOCUMENTS
from rag.review.reviewed_report import ReviewedReport, State
from reading_room import strings
from reading_room.templating import minute, render

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
