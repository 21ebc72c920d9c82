"""What a reader can do on the page: open images, mark a region, draft, decide, sign, export.

The steps that need the pipeline, the file store or the audit record; what a decision does to a
draft is in `reading_room.session`. What belongs to a study is in its session or the file store.
"""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from encoders.images.raw_image import ImageReadError
from rag.errors import CxrRagError
from rag.export.text import Export
from rag.index import Exclusions
from rag.pipeline import ReportPipeline
from rag.priors import NO_PRIOR, Prior
from rag.review.audit import AuditLog, draft_event
from rag.review.reviewed_report import ReviewedReport, Signature, line_changes
from rag.schema import Draft, Hit, Status
from rag.study import NO_REGION, ReaderRegion, Study
from reading_room import strings
from reading_room.draft_panel import export_content
from reading_room.file_store import FileStore
from reading_room.listed_study import ListedStudy, StudyState
from reading_room.opening import MAX_IMAGES, Opener
from reading_room.session import ControllerError, Session, act

MAX_INDICATION = 500
NO_REPORT = ReviewedReport()


class Controller(Opener):
    """The steps, shared by all readers; holds no reader's data. Without `audit` keeps no record."""

    def __init__(
        self, pipeline: ReportPipeline, *, file_store: FileStore, audit: AuditLog | None
    ) -> None:
        super().__init__(file_store)
        self.pipeline = pipeline
        self._audit = audit

    def open_study(
        self, study: ListedStudy, *, kept: Session | None = None, reader: str
    ) -> Session:
        """A session with a study of the worklist: as it was `kept`, or as it was drafted ahead.

        Raises:
            ControllerError: an image cannot be read.
        """
        opened = self.open_images(study.images[:MAX_IMAGES], reader=reader)
        if kept:
            session = replace(kept, images=opened.images)
            return self.open_prior(session, kept.prior, reader=reader)
        session = replace(opened, study=study.key, indication=study.study.indication)
        session = self.open_prior(session, study.prior, reader=reader)
        if study.state is StudyState.WAITING:
            return session
        if study.prediction is None:  # signed before this page was started
            first, *others = session.images
            first = replace(first, warnings=(*first.warnings, study.signed))
            return replace(session, images=(first, *others))
        return self._finished(
            replace(session, prediction=study.prediction, draft_id=uuid.uuid4().hex)
        )

    def set_prior(
        self,
        session: Session,
        files: Sequence[Path],
        *,
        text: str = "",
        date: str = "",
        reader: str,
    ) -> Session:
        """Compare with an earlier study of the patient; without anything given, with none.

        The draft stays as it is until it is drafted again.

        Raises:
            ControllerError: there is no image, the report is signed, or the prior is another
                patient's or cannot be used.
        """
        _must_be_open(session)
        sources: list[Path | bytes] = [*files, *([text.encode()] if text.strip() else [])]
        if not sources:
            return replace(session, prior=NO_PRIOR, prior_images=(), compared=None)
        prior = Prior(date=date.strip(), files=tuple(sources))
        session = self.open_prior(session, prior, reader=reader)
        found = self.pipeline.prepare(self._study(session)).prediction
        if found.prior is None:
            raise ControllerError(found.reason)
        return replace(session, compared=found.prior)

    def draft(self, session: Session, *, indication: str = "") -> Iterator[Session]:
        """The session each time the draft has grown; the last one has the report to review.

        Raises:
            ControllerError: there is no image, or the report is signed.
        """
        _must_be_open(session)
        session = replace(
            session,
            indication=" ".join(indication.split())[:MAX_INDICATION],
            prediction=None,
            report=None,
            check=None,
            history=(),
            draft_id=uuid.uuid4().hex,
        )
        retrieved: tuple[Hit, ...] = ()
        for prediction in self.pipeline.stream(self._study(session)):
            # the drafter adds what it cites from further away
            retrieved = retrieved or prediction.hits
            compared = prediction.prior or session.compared
            session = replace(session, prediction=prediction, compared=compared)
            if session.region:
                session = replace(session, region_hits=retrieved or session.region_hits)
            else:
                session = replace(session, image_hits=retrieved or session.image_hits)
            if prediction.status is Status.RUNNING:
                yield session
        yield self._finished(session)

    def _study(self, session: Session) -> Study:
        first = session.images[0]
        others = [Path(each.path) for each in session.images if each.path != first.path]
        return Study(
            Path(first.path),
            name=f"image {first.sha256[:12]}",  # the file's name may be a person's
            other_views=tuple(others),
            indication=session.indication,
            exclude=Exclusions(reports=session.ruled_out),
            region=session.region,
            prior=session.prior,
        )

    def _finished(self, session: Session) -> Session:
        found = session.prediction
        assert found is not None  # noqa: S101 - a stream ends with a prediction
        usable = found.status is Status.OK or bool(found.hits)
        event = draft_event(
            found,
            images=[image.sha256 for image in session.images],
            indication=session.indication,
            ruled_out=sorted(session.ruled_out),
        )
        self.write(session.draft_id, "draft", event)
        return replace(
            session,
            report=ReviewedReport.from_draft(found.draft) if usable else None,
            check=found.check,
            compared=found.prior or session.compared,
            shown_at=time.monotonic(),
        )

    def stop(self, session: Session) -> Session:
        """A draft that the reader stopped: its evidence stays, to compose from."""
        found = session.prediction
        if found is None or found.status is not Status.RUNNING:
            return session
        found = replace(
            found, status=Status.FAILED, error="Stopped", reason=strings.STOPPED, draft=Draft()
        )
        return self._finished(replace(session, prediction=found))

    def set_region(self, session: Session, values: Mapping[str, Any]) -> Session:
        """Retrieve evidence for a region or a gaze; an empty value clears the region.

        The draft stays as it is until it is drafted again. The evidence for the whole image is
        retrieved too, so that the reader sees what the region changed.

        Raises:
            ControllerError: there is no image, the report is signed, or nothing could be found.
            RegionError: not a valid region.
        """
        _must_be_open(session)
        region = ReaderRegion.from_json(values)
        wanted = [] if session.image_hits else [NO_REGION]
        if region:
            wanted.append(region)
        try:
            found = self.pipeline.search_regions(self._study(session), wanted) if wanted else []
        except (CxrRagError, ImageReadError) as error:
            raise ControllerError(str(error)) from error
        if not all(hits for hits, _ in found):
            raise ControllerError(strings.NOTHING_FOUND)
        session = replace(
            session,
            region=region,
            image_hits=session.image_hits or found[0][0],
            region_hits=found[-1][0] if region else session.region_hits,
            region_finding=found[-1][1] if region else "",
        )
        if session.draft_id:
            ids = [hit.record.report_id for hit in session.current_hits]
            self.write(session.draft_id, "region", {**region.to_json(), "evidence": ids})
        return session

    def act(self, session: Session, action: Mapping[str, Any]) -> Session:
        """One decision about the draft, as in `reading_room.session.act`."""
        after = act(session, action)
        seconds = round(time.monotonic() - session.shown_at, 2)
        for change in line_changes(session.report or NO_REPORT, after.report or NO_REPORT):
            self.write(after.draft_id, "edit", {**asdict(change), "seconds": seconds})
        return after

    def sign(self, session: Session, name: str) -> Session:
        """Lock the report under a name."""
        report = _report(session).sign(_signature(name))
        sentences = [line.text for line in report.lines]
        self.write(session.draft_id, "sign", {"name": name.strip(), "sentences": sentences})
        return replace(session, report=report)

    def add_addendum(self, session: Session, text: str, name: str) -> Session:
        """Add to a signed report."""
        report = _report(session).add_addendum(text, _signature(name))
        added = report.addenda[-1]
        data = {"name": added.signature.name, "text": added.text}
        self.write(session.draft_id, "addendum", data)
        return replace(session, report=report)

    def export(self, session: Session, form: str, *, reader: str) -> str:
        """Store the report in one of `strings.EXPORTS`; returns its name in the file store.

        Raises:
            ControllerError: there is nothing to export, or not in this form.
        """
        if session.prediction is None or session.prediction.status is Status.RUNNING:
            raise ControllerError(strings.NOTHING_TO_EXPORT)
        what = Export(session.prediction, session.report or NO_REPORT, session.draft_id)
        content = export_content(what, form, session)
        state = what.report.state.value if session.report else "no draft"
        self.write(session.draft_id, "export", {"form": form, "state": state})
        return self.file_store.put(content, reader=reader)

    def write(self, draft_id: str, event: str, data: Mapping[str, Any]) -> None:
        """Append to the audit record, where one is kept.

        Raises:
            AuditError: it cannot be written; nothing must go on as if it had been.
        """
        if self._audit is not None:
            self._audit.append(event, draft=draft_id, data=data)


def _must_be_open(session: Session) -> None:
    if not session.images:
        raise ControllerError(strings.NO_IMAGE)
    if session.report and session.report.signature:
        raise ControllerError(strings.SIGNED_IS_SIGNED)


def _report(session: Session) -> ReviewedReport:
    if session.report is None:
        raise ControllerError(strings.NO_REPORT_YET)
    return session.report


def _signature(name: str) -> Signature:
    at = datetime.now().astimezone().isoformat(timespec="seconds")
    return Signature(" ".join(name.split())[:120], at)
