"""The state of the report, and which exports there are; the rest is ``static/exports.js``."""

from datetime import datetime
from html import escape
from typing import Any

from rag.review.reviewed_report import ReviewedReport, State
from reading_room import strings

_BADGES = {
    State.DRAFT: ("○", "draft"),
    State.EDITED: ("✎", "edited"),
    State.SIGNED: ("■", "signed"),
    State.ADDENDUM: ("■+", "addendum"),
}


def state_html(report: ReviewedReport | None) -> str:
    """Where the report stands, and what keeps it from the next state."""
    if report is None:
        return f'<div class="state none">{strings.NO_STATE}</div>'
    sign, name = _BADGES[report.state]
    if report.signature:
        signature = report.signature
        rest = strings.SIGNED_BY.format(escape(signature.name), moment(signature.at))
    elif report.open_lines:
        rest = strings.UNDECIDED.format(len(report.open_lines))
    else:
        rest = strings.ALL_DECIDED if report.lines else strings.NO_SENTENCES
    return (
        f'<div class="state {name}" role="status"><span aria-hidden="true">{sign}</span> '
        f"<b>{strings.STATES[report.state.value]}</b> <span>{rest}</span></div>"
    )


def moment(at: str) -> str:
    """An ISO time as it is read on the page: to the minute, in its own zone."""
    return datetime.fromisoformat(at).strftime("%Y-%m-%d %H:%M")


def exports_html() -> str:
    """A button for each form."""
    buttons = "".join(
        f'<button type="button" data-form="{form}" title="{escape(hint)}" disabled>{name}</button>'
        for form, (name, hint) in strings.EXPORTS.items()
    )
    return f'<div class="exports" role="group" aria-label="{strings.EXPORT}">{buttons}</div>'


def exports_value(*, ready: bool, dicom: bool, file: str = "", number: int = 0) -> dict[str, Any]:
    """What ``exports.js`` is told: which buttons work, and a file that is ready to be fetched."""
    forms = [form for form in strings.EXPORTS if ready and (dicom or form != "dicom")]
    return {"forms": forms, "file": file, "number": number}
