"""The patient's earlier study: its report, and what has changed since.

Prepares what ``templates/prior.html`` shows.
"""

from rag.change import Change
from reading_room.session import Session
from reading_room.templating import render

SIGNS = {
    Change.NEW: "+",
    Change.PERSISTS: "=",
    Change.RESOLVED: "✓",
    Change.WORSE: "▲",
    Change.BETTER: "▼",
    Change.CANNOT_TELL: "?",
}


def prior_html(session: Session) -> str:
    """HTML of the prior; empty where there is none."""
    if not session.prior:
        return ""
    found = session.compared
    return render(
        "prior.html",
        prior=session.prior,
        days=found.days_before if found else None,
        changes=found.changes if found else (),
        report=found.report if found else "",
        signs=SIGNS,
    )
