"""What a reader can do on the page, step by step: open, point, draft, decide, sign, export.

Owns the steps that need the pipeline, the shelf or the audit record; what a decision does to a
draft is in `reading_room.decisions`. Nothing of a study lives anywhere but in the session and on
the reader's shelf. Knows no HTML and no Gradio.
"""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from encoders.base import View
from encoders.image_io import ImageReadError, read_preview, read_raw
from rag.attention import NOWHERE, Attention
from rag.audit import AuditLog, draft_event
from rag.export import Export, as_json, as_markdown, as_text
from rag.export_pdf import as_pdf
from rag.pipeline import ReportPipeline
from rag.report import Report
from rag.schema import Draft, Hit, Status
from rag.structured_report import StructuredReportError, as_dicom_sr
from rag.study import Study
from reading_room import decisions, strings
from reading_room.decisions import Step
from reading_room.film_file import film_file
from reading_room.film_panel import ShownFilm
from reading_room.session import DeskError, Session
from reading_room.shelf import Shelf

MOST_FILMS = 4
LONGEST_INDICATION = 500
FORMATS = {"text": "txt", "markdown": "md", "json": "json", "pdf": "pdf", "dicom": "dcm"}


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
        return _session([self._open(path, reader=reader) for path in paths])

    def glance(self, paths: Sequence[Path], *, reader: str) -> Session | None:
        """The same with fewer pixels, where those of every film can be had much sooner."""
        films = []
        for path in paths[:MOST_FILMS]:
            found = read_preview(path)
            if found is None:
                return None
            content = film_file(found.film, size=(found.rows, found.columns))
            url = f"film/{self._shelf.put(content, reader=reader)}"
            films.append(ShownFilm.of(found.film, path=str(path), url=url))
        return _session(films) if films and len(films) == len(paths) else None

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
            if prediction.hits and session.attention:
                session = replace(session, drawn=prediction.hits)
            elif prediction.hits:
                session = replace(session, plain=prediction.hits)
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
            attention=session.attention,
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

    def attend(self, session: Session, values: Mapping[str, Any]) -> Session:
        """Draw the evidence to a region or a gaze; nothing at all takes that back.

        The draft stays as it is until it is asked for again. What is nearest without the region is
        looked up too, so that the reader sees what it changed.

        Raises:
            DeskError: there is no film, the report is signed, or nothing could be found.
            AttentionError: it is no region.
        """
        if not session.films:
            raise DeskError(strings.NO_FILM)
        if session.report and session.report.signature:
            raise DeskError(strings.SIGNED_IS_SIGNED)
        attention = Attention.from_json(values)
        wanted = [] if session.plain else [NOWHERE]
        if attention:
            wanted.append(attention)
        found = self._nearest(session, wanted)
        plain = session.plain or found[0]
        drawn = found[-1] if attention else ()
        session = replace(session, attention=attention, plain=plain, drawn=drawn)
        if session.draft_id:
            ids = [hit.record.report_id for hit in drawn or plain]
            self._write(session, "attention", {**attention.to_json(), "evidence": ids})
        return session

    def _nearest(self, session: Session, wanted: Sequence[Attention]) -> list[tuple[Hit, ...]]:
        """The evidence that a draft would rest on, with each of these regions."""
        if not wanted:
            return []
        last, found = self.pipeline.evidence(self._study(session), wanted)
        if not found or not all(found):
            raise DeskError(last.reason or strings.NOTHING_FOUND)
        return found

    def act(self, session: Session, action: Mapping[str, Any]) -> Session:
        """One decision about the draft, as in `reading_room.decisions.act`."""
        return self._taken(decisions.act(session, action))

    def sign(self, session: Session, name: str) -> Session:
        """Lock the report under a name."""
        return self._taken(decisions.sign(session, name))

    def addend(self, session: Session, text: str, name: str) -> Session:
        """Add to a signed report."""
        return self._taken(decisions.addend(session, text, name))

    def _taken(self, step: Step) -> Session:
        for event, data in step.events:
            self._write(step.session, event, data)
        return step.session

    def rule_out(self, session: Session, report_id: str) -> Session:
        """Call a report irrelevant, or take that back; it counts when drafted again."""
        if report_id not in {hit.record.report_id for hit in session.evidence}:
            raise DeskError(strings.UNKNOWN_STEP.format("rule out"))
        return replace(session, ruled_out=session.ruled_out ^ {report_id})

    def export(self, session: Session, form: str, *, reader: str) -> str:
        """Put the report on the shelf in one of `FORMATS`; returns its name there.

        Raises:
            DeskError: there is nothing to export, or not in this form.
        """
        if session.prediction is None or session.prediction.status is Status.RUNNING:
            raise DeskError(strings.NOTHING_TO_EXPORT)
        what = Export(session.prediction, session.report or Report(), session.draft_id)
        content = _content(what, form, session)
        state = what.report.state.value if session.report else "no draft"
        self._write(session, "export", {"form": form, "state": state})
        return self._shelf.put(content, reader=reader)

    def _write(self, session: Session, event: str, data: Mapping[str, Any]) -> None:
        if self._audit is not None:
            self._audit.append(event, draft=session.draft_id, data=data)


def _session(films: list[ShownFilm]) -> Session:
    films.sort(key=lambda film: film.view is View.LATERAL)
    return Session(films=tuple(films))


def _content(what: Export, form: str, session: Session) -> bytes:
    texts = {"text": as_text, "markdown": as_markdown, "json": as_json}
    if form in texts:
        return texts[form](what).encode()
    if form == "pdf":
        return as_pdf(what)
    if form != "dicom":
        raise DeskError(strings.UNKNOWN_STEP.format(form[:40]))
    if not what.has_text:
        raise DeskError(strings.NOTHING_TO_EXPORT)
    try:
        return as_dicom_sr(what, film=Path(session.films[session.drafted].path))
    except StructuredReportError as error:
        raise DeskError(str(error)) from error
