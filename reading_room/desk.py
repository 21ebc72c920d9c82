"""What a reader can do on the page, step by step: open, draft, decide, rule out, sign, export.

A `Session` is all that the page knows of one reader; every step gives a new one, and nothing of a
study lives anywhere else but on the reader's shelf. Owns the steps and their place in the audit
record; knows no HTML and no Gradio.
"""

import logging
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from encoders.base import View
from encoders.image_io import ImageReadError, read_raw
from rag.audit import AuditLog, draft_event
from rag.errors import CxrRagError
from rag.export import Export, as_json, as_markdown, as_text
from rag.export_pdf import as_pdf
from rag.grounding import DraftCheck, Verdict, check_draft
from rag.pipeline import ReportPipeline
from rag.prediction import Prediction
from rag.report import Report, ReportError, Signature, changes
from rag.schema import Draft, DraftSentence, Section, Status
from rag.structured_report import StructuredReportError, as_dicom_sr
from rag.study import Study
from reading_room import strings
from reading_room.film_file import film_file
from reading_room.film_panel import ShownFilm
from reading_room.shelf import Shelf

logger = logging.getLogger(__name__)

MOST_FILMS = 4
LONGEST_INDICATION = 500
FORMATS = {"text": "txt", "markdown": "md", "json": "json", "pdf": "pdf", "dicom": "dcm"}


class DeskError(CxrRagError):
    """A step that cannot be done now; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Session:
    """All that the page knows of one reader.

    Attributes:
        films: of one study, frontal first.
        drafted: which of them the draft is made from.
        prediction: what the pipeline found; None before it was asked.
        report: the draft in the reader's hands, once it is finished.
        check: verdicts on its sentences.
        history: earlier states of the report, for undo.
        ruled_out: reports the reader called irrelevant.
        draft_id: of the audit record.
        shown_at: clock when the draft was there, for the seconds of an edit.
    """

    films: tuple[ShownFilm, ...] = ()
    drafted: int = 0
    indication: str = ""
    prediction: Prediction | None = None
    report: Report | None = None
    check: DraftCheck | None = None
    history: tuple[Report, ...] = ()
    ruled_out: frozenset[str] = frozenset()
    draft_id: str = ""
    shown_at: float = 0.0


class Desk:
    """The steps. Shared by all readers, and holds nothing of any.

    Args:
        pipeline: from film to draft.
        shelf: where films and exports lie.
        audit: where every draft, edit and signature is written; None keeps no record.
    """

    def __init__(self, pipeline: ReportPipeline, *, shelf: Shelf, audit: AuditLog | None) -> None:
        self.pipeline = pipeline
        self._shelf = shelf
        self._audit = audit

    def open_films(self, paths: Sequence[Path], *, reader: str) -> Session:
        """A new session with the films of one study.

        Raises:
            DeskError: one of them cannot be read, or there are too many.
        """
        if len(paths) > MOST_FILMS:
            raise DeskError(strings.TOO_MANY_FILMS.format(MOST_FILMS, len(paths)))
        films = [self._open(path, reader=reader) for path in paths]
        films.sort(key=lambda film: film.view is View.LATERAL)
        return Session(films=tuple(films))

    def _open(self, path: Path, *, reader: str) -> ShownFilm:
        try:
            raw = read_raw(path)
        except ImageReadError as error:
            raise DeskError(f"{strings.FILM}: {error}") from error
        url = f"film/{self._shelf.put(film_file(raw), reader=reader)}"
        return ShownFilm.of(raw, path=str(path), url=url)

    def draft(self, session: Session, *, indication: str = "") -> Iterator[Session]:
        """The session each time the draft has grown; last with the report to decide on.

        Raises:
            DeskError: there is no film.
        """
        if not session.films:
            raise DeskError(strings.NO_FILM)
        session = replace(
            session,
            indication=" ".join(indication.split())[:LONGEST_INDICATION],
            prediction=None,
            report=None,
            check=None,
            history=(),
            draft_id=uuid.uuid4().hex,
        )
        for prediction in self.pipeline.stream(self._study(session)):
            session = replace(session, prediction=prediction)
            if prediction.status is Status.RUNNING:
                yield session
        yield self._finished(session)

    def _study(self, session: Session) -> Study:
        paths = [Path(film.path) for film in session.films]
        first = session.films[session.drafted]
        store = self.pipeline.retriever.store
        named = [study for path in paths for study in store.studies_named_in(path)]
        return Study(
            source=Path(first.path),
            further=tuple(path for path in paths if str(path) != first.path),
            name=f"film {first.sha256[:12]}",  # not the file's name: it may be a person's
            study_ids=frozenset(named),
            indication=session.indication,
            not_relevant=session.ruled_out,
        )

    def _finished(self, session: Session) -> Session:
        found = session.prediction
        assert found is not None  # noqa: S101 - a stream ends with a prediction
        usable = found.status is Status.OK or bool(found.hits)
        event = draft_event(
            found,
            films=[film.sha256 for film in session.films],
            indication=session.indication,
            ruled_out=sorted(session.ruled_out),
        )
        self._write(session, "draft", event)
        return replace(
            session,
            report=Report.of(found.draft) if usable else None,
            check=found.check,
            shown_at=time.monotonic(),
        )

    def stopped(self, session: Session) -> Session:
        """What is left of a draft that the reader stopped: its evidence, to compose from."""
        found = session.prediction
        if found is None or found.status is not Status.RUNNING:
            return session
        found = replace(
            found, status=Status.FAILED, error="Stopped", reason=strings.STOPPED, draft=Draft()
        )
        return self._finished(replace(session, prediction=found))

    def act(self, session: Session, action: Mapping[str, Any]) -> Session:
        """One decision of the reader's.

        Args:
            session: with a report.
            action: ``op`` and what it needs: accept, edit, remove (``line``, ``text``), add
                (``section``, ``text``), use (``report``, ``number``), accept-supported, undo.

        Raises:
            DeskError, ReportError: it cannot be done; nothing has changed.
        """
        report = self._report(session)
        op = str(action.get("op", ""))
        if op == "undo":
            return self._undone(session, report)
        return self._changed(session, report, self._next(session, report, op, action))

    def _next(self, session: Session, report: Report, op: str, action: Mapping[str, Any]) -> Report:
        if op == "accept":
            return report.accept([_number(action, "line")])
        if op == "accept-supported":
            return report.accept(_supported(session))
        if op == "remove":
            return report.remove(_number(action, "line"))
        if op == "edit":
            line = report.line(_number(action, "line"))
            text = str(action.get("text", ""))
            return report.edit(line.key, text, sources=self._carrying(session, text, line.sources))
        if op == "add":
            return report.add(_section(action), str(action.get("text", "")))
        if op == "use":
            return self._use(session, report, action)
        raise DeskError(strings.UNKNOWN_STEP.format(op[:40]))

    def _use(self, session: Session, report: Report, action: Mapping[str, Any]) -> Report:
        """A sentence of a retrieved report, with its source."""
        hits = session.prediction.hits if session.prediction else ()
        record = next((h.record for h in hits if h.record.report_id == action.get("report")), None)
        number = _number(action, "number")
        if record is None or number >= len(record.sentences):
            raise DeskError(strings.UNKNOWN_STEP.format("use"))
        span = record.sentences[number]
        return report.add(span.section, record.sentence(span), sources=(record.report_id,))

    def _carrying(self, session: Session, text: str, sources: tuple[str, ...]) -> tuple[str, ...]:
        """Which of the sources still carry a sentence that the reader has changed."""
        found = session.prediction
        if found is None or not sources or not text.strip():
            return ()
        check = check_draft(Draft(findings=(DraftSentence(text, sources),)), found.hits)
        carrying = {support.report_id for support in check.sentences[0].support}
        return tuple(source for source in sources if source in carrying)

    def _undone(self, session: Session, report: Report) -> Session:
        if not session.history:
            raise DeskError(strings.NOTHING_TO_UNDO)
        if report.signature:
            raise DeskError(strings.SIGNED_IS_SIGNED)
        *history, last = session.history
        undone = self._changed(session, report, last)
        return replace(undone, history=tuple(history))

    def _changed(self, session: Session, old: Report, new: Report) -> Session:
        """The session with the new report, its check, and a line in the record for each change."""
        if new == old:
            return session
        found = session.prediction
        assert found is not None  # noqa: S101 - there is a report
        seconds = round(time.monotonic() - session.shown_at, 2)
        for change in changes(old, new):
            data = {
                "what": change.what,
                "line": change.line,
                "section": change.section.value,
                "before": change.before,
                "after": change.after,
                "seconds": seconds,
            }
            self._write(session, "edit", data)
        return replace(
            session,
            report=new,
            check=check_draft(new.as_draft(), found.hits, image_labels=found.labels),
            history=(*session.history, old),
        )

    def rule_out(self, session: Session, report_id: str) -> Session:
        """Call a report irrelevant, or take that back; it counts when drafted again."""
        hits = session.prediction.hits if session.prediction else ()
        if report_id not in {hit.record.report_id for hit in hits}:
            raise DeskError(strings.UNKNOWN_STEP.format("rule out"))
        return replace(session, ruled_out=session.ruled_out ^ {report_id})

    def sign(self, session: Session, name: str) -> Session:
        """Lock the report under a name."""
        report = self._report(session).sign(_signature(name))
        data = {"name": name.strip(), "sentences": [line.text for line in report.lines]}
        self._write(session, "sign", data)
        return replace(session, report=report)

    def addend(self, session: Session, text: str, name: str) -> Session:
        """Add to a signed report."""
        report = self._report(session).addend(text, _signature(name))
        added = report.addenda[-1]
        self._write(session, "addendum", {"name": added.signature.name, "text": added.text})
        return replace(session, report=report)

    def export(self, session: Session, form: str, *, reader: str) -> str:
        """Put the report on the shelf in one of `FORMATS`; returns its name there.

        Raises:
            DeskError: there is nothing to export, or not in this form.
        """
        if session.prediction is None or session.prediction.status is Status.RUNNING:
            raise DeskError(strings.NOTHING_TO_EXPORT)
        what = Export(session.prediction, session.report or Report(), session.draft_id)
        content = self._content(what, form, session)
        state = what.report.state.value if session.report else "no draft"
        self._write(session, "export", {"form": form, "state": state})
        return self._shelf.put(content, reader=reader)

    def _content(self, what: Export, form: str, session: Session) -> bytes:
        texts = {"text": as_text, "markdown": as_markdown, "json": as_json}
        if form in texts:
            return texts[form](what).encode()
        if form == "pdf":
            return as_pdf(what)
        if form == "dicom":
            if not what.has_text:
                raise DeskError(strings.NOTHING_TO_EXPORT)
            try:
                return as_dicom_sr(what, film=Path(session.films[session.drafted].path))
            except StructuredReportError as error:
                raise DeskError(str(error)) from error
        raise DeskError(strings.UNKNOWN_STEP.format(form[:40]))

    def _report(self, session: Session) -> Report:
        if session.report is None:
            raise DeskError(strings.NO_REPORT_YET)
        return session.report

    def _write(self, session: Session, event: str, data: Mapping[str, Any]) -> None:
        if self._audit is not None:
            self._audit.append(event, draft=session.draft_id, data=data)


def _supported(session: Session) -> list[int]:
    """Open sentences without any doubt about them."""
    if session.report is None or session.check is None:
        return []
    pairs = zip(session.report.lines, session.check.sentences, strict=True)
    return [line.key for line, check in pairs if check.verdict is Verdict.SUPPORTED]


def _number(action: Mapping[str, Any], name: str) -> int:
    value = action.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ReportError(f"{name} is {str(value)[:40]!r}, not the number of a sentence")
    return value


def _section(action: Mapping[str, Any]) -> Section:
    try:
        return Section(str(action.get("section")))
    except ValueError as error:
        raise DeskError(strings.UNKNOWN_STEP.format("section")) from error


def _signature(name: str) -> Signature:
    return Signature(
        " ".join(name.split())[:120], datetime.now().astimezone().isoformat(timespec="seconds")
    )
