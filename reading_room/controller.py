"""What a reader can do on the page: open images, mark a region, draft, review, sign, export.

These actions need the pipeline, the file store or the audit record; what a decision makes of a
draft is in `reading_room.session`. All state of a study is in its session or the file store.
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
from reading_room.image_opener import MAX_IMAGES, ImageOpener
from reading_room.listed_study import ListedStudy, StudyState
from reading_room.session import ActionError, Session, act

MAX_INDICATION = 500
"""Characters."""
_EMPTY_REPORT = ReviewedReport()


class Controller(ImageOpener):
    """The actions, shared by all readers; holds no reader's data. Without `audit`, no record."""

    def __init__(
        self, pipeline: ReportPipeline, *, file_store: FileStore, audit: AuditLog | None
    ) -> None:
        super().__init__(file_store)
        self.pipeline = pipeline
        self._audit = audit

    def open_study(
        self, study: ListedStudy, *, saved: Session | None = None, reader: str
    ) -> Session:
        """A session with a study of the worklist: as it was `saved`, or as it was drafted ahead.

        Raises:
            ActionError: an image cannot be read.
        """
        opened = self.open_images(study.images[:MAX_IMAGES], reader=reader)
        if saved:
            session = replace(saved, images=opened.images)
            return self.open_prior(session, saved.prior, reader=reader)
        session = replace(opened, study_key=study.key, indication=study.study.indication)
        session = self.open_prior(session, study.prior, reader=reader)
        if study.state is StudyState.WAITING:
            return session
        if study.prediction is None:  # signed before this page was started
            first, *others = session.images
            first = replace(first, warnings=(*first.warnings, study.signed))
            return replace(session, images=(first, *others))
        return self._finish_draft(
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
        """Compare with an earlier study of the patient; without files and text, with none.

        The draft changes only when it is drafted again.

        Raises:
            ActionError: there is no image, the report is signed, or the prior is another
                patient's or cannot be used.
        """
        _require_unsigned(session)
        sources: list[Path | bytes] = [*files, *([text.encode()] if text.strip() else [])]
        if not sources:
            return replace(session, prior=NO_PRIOR, prior_images=(), prior_evidence=None)
        prior = Prior(date=date.strip(), files=tuple(sources))
        session = self.open_prior(session, prior, reader=reader)
        prediction = self.pipeline.prepare(self._study(session)).prediction
        if prediction.prior is None:
            raise ActionError(prediction.reason)
        return replace(session, prior_evidence=prediction.prior)

    def draft(self, session: Session, *, indication: str = "") -> Iterator[Session]:
        """The session each time the draft has grown; the last one has the report to review.

        Raises:
            ActionError: there is no image, or the report is signed.
        """
        _require_unsigned(session)
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
            # later predictions also have reports that the drafter cites but that rank lower
            retrieved = retrieved or prediction.hits
            prior_evidence = prediction.prior or session.prior_evidence
            session = replace(session, prediction=prediction, prior_evidence=prior_evidence)
            if session.region:
                session = replace(session, region_hits=retrieved or session.region_hits)
            else:
                session = replace(session, image_hits=retrieved or session.image_hits)
            if prediction.status is Status.RUNNING:
                yield session
        yield self._finish_draft(session)

    def _study(self, session: Session) -> Study:
        first = session.images[0]
        others = [Path(image.path) for image in session.images if image.path != first.path]
        return Study(
            Path(first.path),
            name=f"image {first.sha256[:12]}",  # a file name may contain the patient's
            other_views=tuple(others),
            indication=session.indication,
            exclude=Exclusions(reports=session.ruled_out),
            region=session.region,
            prior=session.prior,
        )

    def _finish_draft(self, session: Session) -> Session:
        """Record the draft; it is open for review from here on."""
        prediction = session.prediction
        assert prediction is not None  # noqa: S101 - a stream ends with a prediction
        can_be_reviewed = prediction.status is Status.OK or bool(prediction.hits)
        event = draft_event(
            prediction,
            images=[image.sha256 for image in session.images],
            indication=session.indication,
            ruled_out=sorted(session.ruled_out),
        )
        self.record(session.draft_id, "draft", event)
        return replace(
            session,
            report=ReviewedReport.from_draft(prediction.draft) if can_be_reviewed else None,
            check=prediction.check,
            prior_evidence=prediction.prior or session.prior_evidence,
            shown_at=time.monotonic(),
        )

    def stop(self, session: Session) -> Session:
        """End a running draft; its evidence stays usable."""
        prediction = session.prediction
        if prediction is None or prediction.status is not Status.RUNNING:
            return session
        prediction = replace(
            prediction, status=Status.FAILED, error="Stopped", reason=strings.STOPPED, draft=Draft()
        )
        return self._finish_draft(replace(session, prediction=prediction))

    def set_region(self, session: Session, values: Mapping[str, Any]) -> Session:
        """Retrieve evidence for a region or fixations; an empty value clears the region.

        The draft changes only when it is drafted again. The evidence for the whole image is
        retrieved too, to show what the region changed.

        Raises:
            ActionError: there is no image, the report is signed, or no report was found.
            RegionError: not a valid region.
        """
        _require_unsigned(session)
        region = ReaderRegion.from_json(values)
        queries = [] if session.image_hits else [NO_REGION]
        if region:
            queries.append(region)
        try:
            results = self.pipeline.search_regions(self._study(session), queries) if queries else []
        except (CxrRagError, ImageReadError) as error:
            raise ActionError(str(error)) from error
        if not all(hits for hits, _ in results):
            raise ActionError(strings.NOTHING_FOUND)
        session = replace(
            session,
            region=region,
            image_hits=session.image_hits or results[0][0],
            region_hits=results[-1][0] if region else session.region_hits,
            region_finding=results[-1][1] if region else "",
        )
        if session.draft_id:
            ids = [hit.record.report_id for hit in session.current_hits]
            self.record(session.draft_id, "region", {**region.to_json(), "evidence": ids})
        return session

    def act(self, session: Session, action: Mapping[str, Any]) -> Session:
        """Apply and record one decision, as in `reading_room.session.act`."""
        after = act(session, action)
        seconds = round(time.monotonic() - session.shown_at, 2)
        for change in line_changes(session.report or _EMPTY_REPORT, after.report or _EMPTY_REPORT):
            self.record(after.draft_id, "edit", {**asdict(change), "seconds": seconds})
        return after

    def sign(self, session: Session, name: str) -> Session:
        """Lock the report under a name."""
        report = _require_report(session).sign(_signature(name))
        sentences = [line.text for line in report.lines]
        self.record(session.draft_id, "sign", {"name": name.strip(), "sentences": sentences})
        return replace(session, report=report)

    def add_addendum(self, session: Session, text: str, name: str) -> Session:
        """Add to a signed report."""
        report = _require_report(session).add_addendum(text, _signature(name))
        added = report.addenda[-1]
        data = {"name": added.signature.name, "text": added.text}
        self.record(session.draft_id, "addendum", data)
        return replace(session, report=report)

    def export(self, session: Session, form: str, *, reader: str) -> str:
        """Store the report in one of `strings.EXPORTS`; returns its name in the file store.

        Raises:
            ActionError: there is nothing to export, or not in this form.
        """
        if session.prediction is None or session.prediction.status is Status.RUNNING:
            raise ActionError(strings.NOTHING_TO_EXPORT)
        export = Export(session.prediction, session.report or _EMPTY_REPORT, session.draft_id)
        content = export_content(export, form, session)
        state = export.report.state.value if session.report else "no draft"
        self.record(session.draft_id, "export", {"form": form, "state": state})
        return self.file_store.put(content, reader=reader)

    def record(self, draft_id: str, event: str, data: Mapping[str, Any]) -> None:
        """Append to the audit record, if one is kept.

        Raises:
            AuditError: it cannot be written; the action must fail.
        """
        if self._audit is not None:
            self._audit.append(event, draft=draft_id, data=data)


def _require_unsigned(session: Session) -> None:
    if not session.images:
        raise ActionError(strings.NO_IMAGE)
    if session.report and session.report.signature:
        raise ActionError(strings.ALREADY_SIGNED)


def _require_report(session: Session) -> ReviewedReport:
    if session.report is None:
        raise ActionError(strings.NO_REPORT_YET)
    return session.report


def _signature(name: str) -> Signature:
    at = datetime.now().astimezone().isoformat(timespec="seconds")
    return Signature(" ".join(name.split())[:120], at)
