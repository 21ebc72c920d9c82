"""The state of one reader's study, and what each action on its draft makes of it.

An action takes a session and returns the next one. Drafting, searching a region and comparing take
seconds, in which the reader goes on working: `CurrentSession` merges what such an action has
changed into the session as it is by then.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from rag.change import PriorEvidence
from rag.errors import CxrRagError
from rag.grounding import DraftCheck, SentenceCheck, Verdict, check_draft
from rag.grounding.verdicts import ImageVerdict
from rag.prediction import Prediction
from rag.priors import NO_PRIOR, Prior
from rag.review.reviewed_report import ReportLine, ReviewedReport, ReviewError
from rag.schema import Draft, DraftSentence, Hit, Section
from rag.study import NO_REGION, ReaderRegion
from reading_room import strings
from reading_room.image_panel import ShownImage

_Item = TypeVar("_Item")


class ActionError(CxrRagError):
    """An action that is not possible now; the message says why, and what to do."""


class SupersededError(ActionError):
    """The action was for other images, or for a report that has changed since."""


@dataclass(frozen=True, slots=True)
class Session:
    """One reader's study.

    Attributes:
        images: of one study; the draft is made from the first, the frontal, and a region is on it.
        indication: as last drafted with.
        prediction: the pipeline's result so far; None before the first draft.
        report: the draft under review, once it is finished.
        check: verdicts on its sentences.
        history: earlier states of the report, for undo.
        ruled_out: ids of reports the reader called irrelevant.
        region: what the reader marked on the image.
        image_hits: evidence for the whole image, once retrieved.
        region_hits: evidence for the region, or for the last one after it was cleared.
        region_finding: the finding the search was steered to, by the finding maps in the region.
        draft_id: of the audit record.
        shown_at: monotonic seconds when the draft was shown, to time edits.
        prior: the patient's own earlier study.
        prior_images: its images, frontal first.
        prior_evidence: the comparison with it; None until it is made.
        study_key: of the worklist; empty for images that the reader opened.
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
    prior_evidence: PriorEvidence | None = None
    study_key: str = ""

    @property
    def current_hits(self) -> tuple[Hit, ...]:
        """The hits for the region if there is one, else for the image; best first."""
        return self.region_hits if self.region else self.image_hits

    @property
    def evidence(self) -> tuple[Hit, ...]:
        """All reports on the page, each once: the current hits, then those retrieved before."""
        cited = self.prediction.hits if self.prediction else ()
        hits = {hit.record.report_id: hit for hit in (*self.current_hits, *cited, *self.image_hits)}
        return tuple(hits.values())


_MERGE_LOCK = threading.Lock()


@dataclass(slots=True)
class CurrentSession:
    """One browser tab's session: the only state of the page that changes in place."""

    session: Session = field(default_factory=Session)

    def apply(self, action: Callable[[Session], Session]) -> None:
        """Take an action, and merge its result.

        Raises:
            SupersededError: it came too late; nothing has changed.
        """
        before = self.session
        self.merge(action(before), before=before)

    def merge(self, after: Session, *, before: Session) -> None:
        """Set what an action has changed, from `before` to `after`.

        Raises:
            SupersededError: it came too late; nothing has changed.
        """
        changed = {
            attribute.name: getattr(after, attribute.name)
            for attribute in fields(Session)
            if getattr(after, attribute.name) is not getattr(before, attribute.name)
        }
        with _MERGE_LOCK:
            now = self.session
            same_report = now.report is before.report and now.draft_id == before.draft_id
            if now.images is not before.images or (
                changed.keys() & {"report", "prediction"} and not same_report
            ):
                raise SupersededError(strings.SUPERSEDED)
            self.session = replace(now, **changed)


def act(session: Session, action: Mapping[str, Any]) -> Session:
    """The session after one decision about the draft.

    Args:
        session: with a report; without one, only reports of the evidence can be ruled out.
        action: ``op`` and what it needs: accept, edit, remove (``line``, ``text``), add
            (``section``, ``text``), hint (``number``), use (``report``, ``number``),
            accept-supported, undo, rule-out (``report``).

    Raises:
        ActionError, ReviewError: it is not possible; nothing has changed.
    """
    report, prediction = session.report, session.prediction
    op, text = str(action.get("op", "")), str(action.get("text", ""))
    if op == "rule-out":
        report_id = _find_hit(session, action).record.report_id
        return replace(session, ruled_out=session.ruled_out ^ {report_id})
    if report is None or prediction is None:
        raise ActionError(strings.NO_REPORT_YET)
    match op:
        case "accept":
            new = report.accept([_parse_number(action, "line")])
        case "accept-supported":
            new = report.accept(_supported_lines(session, report, prediction))
        case "remove":
            new = report.remove(_parse_number(action, "line"))
        case "edit":
            line = report.line(_parse_number(action, "line"))
            sources = _supporting_sources(prediction, text, _possible_sources(prediction, line))
            new = report.edit(line.key, text, sources=sources)
        case "add":
            new = report.add(_parse_section(action), text)
        case "hint":
            sentence = _pick(prediction.hints, action).sentence
            new = report.add(Section.FINDINGS, sentence.text, sources=sentence.sources)
        case "use":
            session, new = _use_evidence(session, prediction, report, action)
        case "undo":
            return _undo(session, report)
        case _:
            raise ActionError(strings.UNKNOWN_ACTION.format(op[:40]))
    if new == report:
        return session
    return replace(_with_report(session, new), history=(*session.history, report))


def _with_report(session: Session, report: ReviewedReport) -> Session:
    """The session with another state of the report, checked."""
    prediction = session.prediction
    assert prediction is not None  # noqa: S101 - there is a report
    check = check_draft(
        report.as_draft(),
        prediction.hits,
        image_labels=prediction.labels,
        prior=prediction.prior.report if prediction.prior else "",
    )
    return replace(session, report=report, check=check)


def _use_evidence(
    session: Session, prediction: Prediction, report: ReviewedReport, action: Mapping[str, Any]
) -> tuple[Session, ReviewedReport]:
    """Add a sentence of a retrieved report, which becomes evidence of the draft."""
    hit = _find_hit(session, action)
    record, span = hit.record, _pick(hit.record.sentences, action)
    if record.report_id not in {hit.record.report_id for hit in prediction.hits}:
        prediction = replace(prediction, hits=(*prediction.hits, hit))
        session = replace(session, prediction=prediction)
    return session, report.add(span.section, record.sentence(span), sources=(record.report_id,))


def _find_hit(session: Session, action: Mapping[str, Any]) -> Hit:
    for hit in session.evidence:
        if hit.record.report_id == action.get("report"):
            return hit
    raise ActionError(strings.UNKNOWN_ACTION.format("report"))


def _possible_sources(prediction: Prediction, line: ReportLine) -> tuple[str, ...]:
    """What a sentence cites, and what it cited when it was drafted."""
    sentences = (*prediction.draft.findings, *prediction.draft.impression)
    drafted = next((item.sources for item in sentences if item.text == line.drafted), ())
    return tuple(dict.fromkeys((*line.sources, *drafted)))


def _supporting_sources(
    prediction: Prediction, text: str, sources: tuple[str, ...]
) -> tuple[str, ...]:
    """The sources that still support an edited sentence."""
    if not sources or not text.strip():
        return ()
    draft, prior = Draft(findings=(DraftSentence(text, sources),)), prediction.prior
    check = check_draft(draft, prediction.hits, prior=prior.report if prior else "")
    supporting = {support.report_id for support in check.sentences[0].support}
    return tuple(source for source in sources if source in supporting)


def _undo(session: Session, report: ReviewedReport) -> Session:
    if not session.history:
        raise ActionError(strings.NOTHING_TO_UNDO)
    if report.signature:
        raise ActionError(strings.ALREADY_SIGNED)
    *history, last = session.history
    return replace(_with_report(session, last), history=tuple(history))


def _supported_lines(session: Session, report: ReviewedReport, prediction: Prediction) -> list[int]:
    """Keys of the sentences that their sources support and the image does not make unlikely."""

    def is_supported(check: SentenceCheck) -> bool:
        image = prediction.image_mark(check.sentence)
        unlikely = image is not None and image.verdict is ImageVerdict.UNLIKELY
        return check.verdict is Verdict.SUPPORTED and not unlikely

    checks = session.check.sentences if session.check else ()
    return [
        line.key for line, check in zip(report.lines, checks, strict=True) if is_supported(check)
    ]


def _pick(items: Sequence[_Item], action: Mapping[str, Any]) -> _Item:
    """The item with the ``number`` of an action."""
    number = _parse_number(action, "number")
    if number >= len(items):
        raise ActionError(strings.UNKNOWN_ACTION.format("number"))
    return items[number]


def _parse_number(action: Mapping[str, Any], name: str) -> int:
    value = action.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ReviewError(f"{name} is {str(value)[:40]!r}, not the number of a sentence")
    return value


def _parse_section(action: Mapping[str, Any]) -> Section:
    try:
        return Section(str(action.get("section")))
    except ValueError as error:
        raise ActionError(strings.UNKNOWN_ACTION.format("section")) from error
