"""A reader's decisions about a draft: accept, edit, remove, add, use, undo, sign, add an addendum.

Pure functions: a session and the browser's request in, the next session and audit events out.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from rag.grounding import Verdict, check_draft
from rag.prediction import Prediction
from rag.review.reviewed_report import ReviewedReport, ReviewError, Signature, changes
from rag.schema import Draft, DraftSentence, Section
from reading_room import strings
from reading_room.session import ControllerError, Event, Session
from reading_room.verdict_icons import mark_of


@dataclass(frozen=True, slots=True)
class Step:
    """The next session, and events for the audit record."""

    session: Session
    events: tuple[Event, ...] = ()


def act(session: Session, action: Mapping[str, Any]) -> Step:
    """One decision about the draft.

    Args:
        session: with a report.
        action: ``op`` and what it needs: accept, edit, remove (``line``, ``text``), add
            (``section``, ``text``), use (``report``, ``number``), accept-supported, undo.

    Raises:
        ControllerError, ReviewError: it cannot be done; nothing has changed.
    """
    report = _report(session)
    op = str(action.get("op", ""))
    if op == "undo":
        return _undone(session, report)
    if op == "use":
        return _use(session, report, action)
    return _changed(session, report, _next(session, report, op, action))


def sign(session: Session, name: str) -> Step:
    """Lock the report under a name."""
    report = _report(session).sign(_signature(name))
    data = {"name": name.strip(), "sentences": [line.text for line in report.lines]}
    return Step(replace(session, report=report), (("sign", data),))


def add_addendum(session: Session, text: str, name: str) -> Step:
    """Add to a signed report."""
    report = _report(session).add_addendum(text, _signature(name))
    added = report.addenda[-1]
    data = {"name": added.signature.name, "text": added.text}
    return Step(replace(session, report=report), (("addendum", data),))


def _next(
    session: Session, report: ReviewedReport, op: str, action: Mapping[str, Any]
) -> ReviewedReport:
    if op == "accept":
        return report.accept([_number(action, "line")])
    if op == "accept-supported":
        return report.accept(_supported(session))
    if op == "remove":
        return report.remove(_number(action, "line"))
    if op == "edit":
        line = report.line(_number(action, "line"))
        text = str(action.get("text", ""))
        return report.edit(line.key, text, sources=_supporting(session, text, line.sources))
    if op == "hint":
        return _hinted(session, report, _number(action, "number"))
    if op == "add":
        return report.add(_section(action), str(action.get("text", "")))
    raise ControllerError(strings.UNKNOWN_STEP.format(op[:40]))


def _use(session: Session, report: ReviewedReport, action: Mapping[str, Any]) -> Step:
    """Add a sentence of a retrieved report, which becomes evidence of the draft."""
    found = _found(session)
    hit = next((h for h in session.evidence if h.record.report_id == action.get("report")), None)
    number = _number(action, "number")
    if hit is None or number >= len(hit.record.sentences):
        raise ControllerError(strings.UNKNOWN_STEP.format("use"))
    span = hit.record.sentences[number]
    report_id = hit.record.report_id
    new = report.add(span.section, hit.record.sentence(span), sources=(report_id,))
    if report_id not in {each.record.report_id for each in found.hits}:
        added = replace(hit, rank=len(found.hits) + 1)
        session = replace(session, prediction=replace(found, hits=(*found.hits, added)))
    return _changed(session, report, new)


def _hinted(session: Session, report: ReviewedReport, number: int) -> ReviewedReport:
    """Add the sentence offered for a finding below the reporting threshold."""
    hints = _found(session).hints
    if number >= len(hints):
        raise ControllerError(strings.UNKNOWN_STEP.format("hint"))
    sentence = hints[number].sentence
    return report.add(Section.FINDINGS, sentence.text, sources=sentence.sources)


def _supporting(session: Session, text: str, sources: tuple[str, ...]) -> tuple[str, ...]:
    """The sources that still support an edited sentence."""
    if not sources or not text.strip():
        return ()
    check = check_draft(Draft(findings=(DraftSentence(text, sources),)), _found(session).hits)
    supporting = {support.report_id for support in check.sentences[0].support}
    return tuple(source for source in sources if source in supporting)


def _undone(session: Session, report: ReviewedReport) -> Step:
    if not session.history:
        raise ControllerError(strings.NOTHING_TO_UNDO)
    if report.signature:
        raise ControllerError(strings.SIGNED_IS_SIGNED)
    *history, last = session.history
    undone = _changed(session, report, last)
    return replace(undone, session=replace(undone.session, history=tuple(history)))


def _changed(session: Session, old: ReviewedReport, new: ReviewedReport) -> Step:
    """The session with the new report and its check, and an event for each change."""
    if new == old:
        return Step(session)
    found = _found(session)
    seconds = round(time.monotonic() - session.shown_at, 2)
    events = tuple(
        (
            "edit",
            {
                "what": change.what,
                "line": change.line,
                "section": change.section.value,
                "before": change.before,
                "after": change.after,
                "seconds": seconds,
            },
        )
        for change in changes(old, new)
    )
    after = replace(
        session,
        report=new,
        check=check_draft(new.as_draft(), found.hits, image_labels=found.labels),
        history=(*session.history, old),
    )
    return Step(after, events)


def _report(session: Session) -> ReviewedReport:
    if session.report is None:
        raise ControllerError(strings.NO_REPORT_YET)
    return session.report


def _found(session: Session) -> Prediction:
    assert session.prediction is not None  # noqa: S101 - there is a report
    return session.prediction


def _supported(session: Session) -> list[int]:
    """Sentences without any alarm, from their sources or from the image."""
    if session.report is None or session.check is None:
        return []
    found = _found(session)
    pairs = zip(session.report.lines, session.check.sentences, strict=True)
    return [
        line.key
        for line, check in pairs
        if check.verdict is Verdict.SUPPORTED
        and not mark_of(check, line, found.image_mark(check.sentence)).alarming
    ]


def _number(action: Mapping[str, Any], name: str) -> int:
    value = action.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ReviewError(f"{name} is {str(value)[:40]!r}, not the number of a sentence")
    return value


def _section(action: Mapping[str, Any]) -> Section:
    try:
        return Section(str(action.get("section")))
    except ValueError as error:
        raise ControllerError(strings.UNKNOWN_STEP.format("section")) from error


def _signature(name: str) -> Signature:
    return Signature(
        " ".join(name.split())[:120], datetime.now().astimezone().isoformat(timespec="seconds")
    )
