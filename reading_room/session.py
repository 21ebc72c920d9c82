"""The state of one reader's study, and what each decision about its draft makes of it.

A step takes a session and gives the next one. Drafting, searching a region and comparing take
seconds, in which the reader goes on: `Current` puts what such a step has changed into the session
as it has become meanwhile.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from rag.change import PriorEvidence
from rag.errors import CxrRagError
from rag.grounding import DraftCheck, Verdict, check_draft
from rag.prediction import Prediction
from rag.priors import NO_PRIOR, Prior
from rag.review.reviewed_report import ReportLine, ReviewedReport, ReviewError
from rag.schema import Draft, DraftSentence, Hit, Section
from rag.study import NO_REGION, ReaderRegion
from reading_room import strings
from reading_room.image_panel import ShownImage
from reading_room.templating import mark_of


class ControllerError(CxrRagError):
    """A step that is not possible now; the message says why, and what to do."""


class SupersededError(ControllerError):
    """The step was for other images, or for a report that has changed since."""


@dataclass(frozen=True, slots=True)
class Session:
    """One reader's study.

    Attributes:
        images: of one study; the draft is made from the first, the frontal, and a region is on it.
        indication: as it stood when drafted.
        prediction: the pipeline's result so far; None before the first draft.
        report: the draft under review, once it is finished.
        check: verdicts on its sentences.
        history: earlier states of the report, for undo.
        ruled_out: reports the reader called irrelevant.
        region: what the reader marked on the image.
        image_hits: the evidence for the whole image, once it was retrieved.
        region_hits: the evidence for the region, or for the last one after it was cleared.
        region_finding: what the finding maps show in it, which the search was steered to.
        draft_id: of the audit record.
        shown_at: clock when the draft was shown, to time edits.
        prior: the patient's own earlier study.
        prior_images: of it, frontal first.
        compared: what the prior tells; None until it has been looked at.
        study: its key in the worklist; empty for images that the reader brought.
    """

    images: tuple[ShownImage, ...] = ()
    indication: str = ""
    prediction: Prediction | None = None
    report: ReviewedReport | None = None
    check: DraftCheck | None = None
    history: tuple[ReviewedReport, ...] = ()
    ruled_out: frozenset[str] = frozenset()
    region: ReaderRegion = NO_REGION
    image_hits: tuple[Hit, ...] = ()
    region_hits: tuple[Hit, ...] = ()
    region_finding: str = ""
    draft_id: str = ""
    shown_at: float = 0.0
    prior: Prior = NO_PRIOR
    prior_images: tuple[ShownImage, ...] = ()
    compared: PriorEvidence | None = None
    study: str = ""

    @property
    def current_hits(self) -> tuple[Hit, ...]:
        """The evidence as it is now, best first."""
        return self.region_hits if self.region else self.image_hits

    @property
    def evidence(self) -> tuple[Hit, ...]:
        """All reports on the page, each once: the current hits, then those retrieved before."""
        own = self.prediction.hits if self.prediction else ()
        found = {hit.record.report_id: hit for hit in (*self.current_hits, *own, *self.image_hits)}
        return tuple(found.values())


_WRITING = threading.Lock()


@dataclass(slots=True)
class Current:
    """One browser tab's session: the only state of the page that changes in place."""

    session: Session = field(default_factory=Session)

    def apply(self, step: Callable[[Session], Session]) -> Session:
        """Take a step; the session after it, with what was done meanwhile.

        Raises:
            SupersededError: it came too late; nothing has changed.
        """
        before = self.session
        return self.put(step(before), before=before)

    def put(self, after: Session, *, before: Session) -> Session:
        """Write what a step has changed, from `before` to `after`.

        Raises:
            SupersededError: it came too late; nothing has changed.
        """
        pairs = {
            each.name: (getattr(before, each.name), getattr(after, each.name))
            for each in fields(Session)
        }
        changed = {name: new for name, (old, new) in pairs.items() if new is not old}
        with _WRITING:
            now = self.session
            same_report = now.report is before.report and now.draft_id == before.draft_id
            if now.images is not before.images or (
                changed.keys() & {"report", "prediction"} and not same_report
            ):
                raise SupersededError(strings.SUPERSEDED)
            self.session = replace(now, **changed)
            return self.session


def act(session: Session, action: Mapping[str, Any]) -> Session:
    """One decision about the draft.

    Args:
        session: with a report; without one, reports of the evidence can be ruled out.
        action: ``op`` and what it needs: accept, edit, remove (``line``, ``text``), add
            (``section``, ``text``), hint (``number``), use (``report``, ``number``),
            accept-supported, undo, rule-out (``report``).

    Raises:
        ControllerError, ReviewError: it cannot be done; nothing has changed.
    """
    report, found = session.report, session.prediction
    op, text = str(action.get("op", "")), str(action.get("text", ""))
    if op == "rule-out":
        report_id = _named(session, action).record.report_id
        return replace(session, ruled_out=session.ruled_out ^ {report_id})
    if report is None or found is None:
        raise ControllerError(strings.NO_REPORT_YET)
    match op:
        case "accept":
            new = report.accept([_number(action, "line")])
        case "accept-supported":
            new = report.accept(_supported(session, report, found))
        case "remove":
            new = report.remove(_number(action, "line"))
        case "edit":
            line = report.line(_number(action, "line"))
            sources = _supporting(found, text, _sources_of(found, line))
            new = report.edit(line.key, text, sources=sources)
        case "add":
            new = report.add(_section(action), text)
        case "hint":
            new = _hinted(found, report, _number(action, "number"))
        case "use":
            session, new = _use(session, found, report, action)
        case "undo":
            return _undone(session, report)
        case _:
            raise ControllerError(strings.UNKNOWN_STEP.format(op[:40]))
    if new == report:
        return session
    return replace(_with(session, new), history=(*session.history, report))


def _with(session: Session, report: ReviewedReport) -> Session:
    """The session with another state of the report, checked."""
    found = session.prediction
    assert found is not None  # noqa: S101 - there is a report
    prior = found.prior.report if found.prior else ""
    check = check_draft(report.as_draft(), found.hits, image_labels=found.labels, prior=prior)
    return replace(session, report=report, check=check)


def _use(
    session: Session, found: Prediction, report: ReviewedReport, action: Mapping[str, Any]
) -> tuple[Session, ReviewedReport]:
    """Add a sentence of a retrieved report, which becomes evidence of the draft."""
    hit, number = _named(session, action), _number(action, "number")
    if number >= len(hit.record.sentences):
        raise ControllerError(strings.UNKNOWN_STEP.format("use"))
    record, span = hit.record, hit.record.sentences[number]
    if record.report_id not in {each.record.report_id for each in found.hits}:
        session = replace(session, prediction=replace(found, hits=(*found.hits, hit)))
    return session, report.add(span.section, record.sentence(span), sources=(record.report_id,))


def _named(session: Session, action: Mapping[str, Any]) -> Hit:
    """The report of the evidence that an action names."""
    for hit in session.evidence:
        if hit.record.report_id == action.get("report"):
            return hit
    raise ControllerError(strings.UNKNOWN_STEP.format("report"))


def _hinted(found: Prediction, report: ReviewedReport, number: int) -> ReviewedReport:
    """Add the sentence offered for a finding below the reporting threshold."""
    if number >= len(found.hints):
        raise ControllerError(strings.UNKNOWN_STEP.format("hint"))
    sentence = found.hints[number].sentence
    return report.add(Section.FINDINGS, sentence.text, sources=sentence.sources)


def _sources_of(found: Prediction, line: ReportLine) -> tuple[str, ...]:
    """What a sentence cites, and what it cited as it was drafted."""
    drafted = (
        sentence.sources
        for section in Section
        for sentence in found.draft.section(section)
        if sentence.text == line.drafted
    )
    return tuple(dict.fromkeys((*line.sources, *next(drafted, ()))))


def _supporting(found: Prediction, text: str, sources: tuple[str, ...]) -> tuple[str, ...]:
    """The sources that still support an edited sentence."""
    if not sources or not text.strip():
        return ()
    draft, prior = Draft(findings=(DraftSentence(text, sources),)), found.prior
    check = check_draft(draft, found.hits, prior=prior.report if prior else "")
    supporting = {support.report_id for support in check.sentences[0].support}
    return tuple(source for source in sources if source in supporting)


def _undone(session: Session, report: ReviewedReport) -> Session:
    if not session.history:
        raise ControllerError(strings.NOTHING_TO_UNDO)
    if report.signature:
        raise ControllerError(strings.SIGNED_IS_SIGNED)
    *history, last = session.history
    return replace(_with(session, last), history=tuple(history))


def _supported(session: Session, report: ReviewedReport, found: Prediction) -> list[int]:
    """Sentences without any alarm, from their sources or from the image."""
    checks = session.check.sentences if session.check else ()
    return [
        line.key
        for line, check in zip(report.lines, checks, strict=True)
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
