"""Connects the page's events to `reading_room.controller`, and shows the session after each."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import gradio as gr

from demo.phantom import PhantomFinding, write_phantom_dicom
from rag.errors import CxrRagError
from rag.review.reviewed_report import ReviewedReport
from rag.settings import PageSettings
from reading_room import strings
from reading_room.controller import Controller
from reading_room.draft_panel import EXPORT_SUFFIXES, exports_value
from reading_room.image_panel import viewer_value
from reading_room.layout import DRAFT_QUEUE, PageParts, Updates
from reading_room.session import ActionError, CurrentSession, Session, SupersededError
from reading_room.worklist import SCAN_INTERVAL_S, Worklist

logger = logging.getLogger(__name__)


class Events:
    """Event handlers: each takes the current session and returns what changes on the page."""

    def __init__(
        self, controller: Controller, settings: PageSettings, worklist: Worklist | None = None
    ) -> None:
        self._worklist = worklist
        self._controller = controller
        self._drafts_at_once = settings.drafts_at_once
        self._parts = PageParts(
            settings,
            worklist,
            attribution=controller.pipeline.retriever.index.attribution,
            map_measures=controller.pipeline.analyzer.map_measures,
        )

    def connect(self) -> None:
        """Connect every event to its handler, in one of three queues; decisions run in order."""
        parts = self._parts
        limits = {"decisions": 1, "work": 4, DRAFT_QUEUE: self._drafts_at_once}
        progress: dict[str, Any] = {"show_progress": "minimal", "show_progress_on": parts.progress}

        def on(
            trigger: Callable[..., Any],
            handler: Callable[..., Any],
            *inputs: Any,
            outputs: Any = parts.panels,
            queue: str = "work",
            **options: Any,
        ) -> Any:
            return trigger(
                handler,
                [parts.session, *inputs],
                outputs,
                concurrency_id=queue,
                concurrency_limit=limits[queue],
                api_visibility="private",
                **{"show_progress": "hidden", **options},
            )

        with_viewer = [*parts.panels, parts.viewer]
        prior = [parts.prior_files, parts.prior_text, parts.prior_date]
        on(parts.upload.change, self.open_images, parts.upload, outputs=with_viewer)
        on(parts.example.click, self.upload_example, outputs=parts.upload)
        drafts = [
            on(trigger, self.draft, parts.indication, queue=DRAFT_QUEUE, **progress)
            for trigger in (parts.start.click, parts.evidence.redraft)
        ]
        on(parts.stop.click, self.stop, queue="decisions", cancels=drafts)
        for trigger in (parts.draft.act, parts.evidence.act):
            on(trigger, self.act, queue="decisions", trigger_mode="multiple")
        on(parts.viewer.set_region, self.set_region, trigger_mode="always_last", **progress)
        on(parts.sign.click, self.sign, parts.signer, queue="decisions")
        on(parts.add.click, self.add_addendum, parts.signer, parts.addendum, queue="decisions")
        on(parts.exports.export, self.export, outputs=parts.exports)
        on(parts.compare.click, self.set_prior, *prior, outputs=with_viewer)
        on(parts.drop_prior.click, self.drop_prior, outputs=[*with_viewer, *prior])
        if self._worklist:
            outputs = [*with_viewer, *prior, parts.indication]
            on(parts.worklist.open_study, self.open_study, outputs=outputs).success(
                None, js="() => document.dispatchEvent(new CustomEvent('studyopened'))"
            )
            shown = gr.State("")
            tick = gr.Timer(SCAN_INTERVAL_S).tick
            outputs = [shown, parts.worklist]
            on(tick, self.list_studies, shown, outputs=outputs, queue="decisions")

    def open_images(
        self, current: CurrentSession, paths: list[str] | None, request: gr.Request
    ) -> Iterator[Updates]:
        """Open the images of one study, large ones as a preview first.

        After the preview only the viewer changes: the reader may be drafting already.
        """
        images, reader = [Path(path) for path in paths or []], _reader(request)
        with _show_errors():
            preview = self._controller.open_preview(images, reader=reader)
            if preview is not None:
                current.session = preview
                yield self._parts.with_viewer(current)
            session = self._controller.open_images(images, reader=reader)
            if preview is None:
                current.session = session
                yield self._parts.with_viewer(current)
            elif current.session.images is preview.images:  # no other study was opened meanwhile
                yield {self._parts.viewer: viewer_value(session.images)}

    def upload_example(self, _: CurrentSession) -> list[str]:
        """The phantom, as if this reader had uploaded it."""
        uploads = self._controller.file_store.uploads
        path = Path(mkdtemp(prefix="phantom-", dir=uploads)) / "phantom.dcm"
        path.write_bytes(_phantom())
        return [str(path)]

    def draft(self, current: CurrentSession, indication: str) -> Iterator[Updates]:
        """The draft as it grows, until another image or draft replaces it."""
        before = current.session
        with _show_errors():
            try:
                for after in self._controller.draft(before, indication=indication):
                    current.merge(after, before=before)
                    yield self._parts.updates(current)
                    before = after
            except SupersededError:
                yield self._parts.updates(current)  # Gradio empties what a stream never showed

    def stop(self, current: CurrentSession) -> Updates:
        """End a draft; its evidence stays."""
        return self._apply(current, self._controller.stop)

    def act(self, current: CurrentSession, event: gr.EventData) -> Updates:
        """Apply one decision about the draft."""
        return self._apply(current, lambda session: self._controller.act(session, _data(event)))

    def set_region(self, current: CurrentSession, event: gr.EventData) -> Updates:
        """Retrieve evidence for a region."""
        return self._apply(
            current, lambda session: self._controller.set_region(session, _data(event))
        )

    def sign(self, current: CurrentSession, name: str, request: gr.Request) -> Updates:
        """Lock the report, also in the worklist."""

        def sign(session: Session) -> Session:
            other = self._signed_report(session)
            if other and other.signature:
                by = strings.SIGNED_AS.format(other.signature.name, other.signature.at[:10])
                raise ActionError(strings.SIGNED_MEANWHILE.format(by))
            return self._controller.sign(session, name)

        return self._apply(current, sign, save_for=request)

    def add_addendum(
        self, current: CurrentSession, name: str, text: str, request: gr.Request
    ) -> Updates:
        """Add to a signed report, after what others have added to it meanwhile."""

        def add(session: Session) -> Session:
            latest = replace(session, report=self._signed_report(session) or session.report)
            return self._controller.add_addendum(latest, text, name)

        updates = self._apply(current, add, save_for=request)
        return {**updates, self._parts.addendum: gr.update(value="", visible=True)}

    def set_prior(
        self,
        current: CurrentSession,
        files: list[str] | None,
        text: str,
        date: str,
        request: gr.Request,
    ) -> Updates:
        """Compare with an earlier study."""

        def compare(session: Session) -> Session:
            if not files and not text.strip():
                raise ActionError(strings.NO_PRIOR_GIVEN)
            paths, reader = [Path(file) for file in files or []], _reader(request)
            return self._controller.set_prior(session, paths, text=text, date=date, reader=reader)

        return self._apply(current, compare, view=self._parts.with_viewer)

    def drop_prior(self, current: CurrentSession) -> Updates:
        """Remove the prior."""
        updates = self._apply(
            current,
            lambda session: self._controller.set_prior(session, [], reader=""),
            view=self._parts.with_viewer,
        )
        return {**updates, **self._parts.empty_prior_fields()}

    def export(
        self, current: CurrentSession, event: gr.EventData, request: gr.Request
    ) -> dict[str, Any]:
        """Make a file for the browser to download."""
        form = str(_data(event).get("form", ""))
        with _show_errors():
            name = self._controller.export(current.session, form, reader=_reader(request))
        return exports_value(current.session, file=f"export/{name}/report.{EXPORT_SUFFIXES[form]}")

    def open_study(
        self, current: CurrentSession, event: gr.EventData, request: gr.Request
    ) -> Updates:
        """Open a study of the worklist, as this reader left it."""
        worklist, parts, reader = self._worklist, self._parts, _reader(request)
        assert worklist is not None  # noqa: S101 - it sent the event
        with _show_errors():
            study = worklist.find(_data(event).get("study"))
            if study is None:
                raise ActionError(strings.STUDY_GONE)
            worklist.save_session(current.session, reader=reader)
            saved = worklist.saved_session(study.key, reader=reader)
            current.session = self._controller.open_study(study, saved=saved, reader=reader)
            return {
                **parts.with_viewer(current),
                **parts.empty_prior_fields(),
                parts.indication: current.session.indication,
            }

    def list_studies(self, _: CurrentSession, shown: str) -> tuple[Any, Any]:
        """The worklist, if it has changed."""
        assert self._worklist is not None  # noqa: S101 - it sent the event
        html = self._worklist.html()
        return (gr.skip(), gr.skip()) if html == shown else (html, html)

    def _apply(
        self,
        current: CurrentSession,
        action: Callable[[Session], Session],
        *,
        view: Callable[[CurrentSession], Updates] | None = None,
        save_for: gr.Request | None = None,
    ) -> Updates:
        """Take an action, save the session in the worklist if asked; what changes on the page."""
        with _show_errors():
            current.apply(action)
            if self._worklist and save_for:
                self._worklist.save_session(current.session, reader=_reader(save_for))
            return (view or self._parts.updates)(current)

    def _signed_report(self, session: Session) -> ReviewedReport | None:
        """The report of a study of the worklist, if any reader has signed it."""
        return self._worklist.signed_report(session.study_key) if self._worklist else None


@lru_cache(maxsize=1)
def _phantom() -> bytes:
    """Drawn once; it takes some seconds."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "phantom.dcm"
        write_phantom_dicom(path, seed=1, finding=PhantomFinding.LEFT_PLEURAL_EFFUSION)
        return path.read_bytes()


def _data(event: gr.EventData) -> dict[str, Any]:
    """What the browser sent; `reading_room.session` checks it."""
    return event._data if isinstance(event._data, dict) else {}


def _reader(request: gr.Request) -> str:
    return request.username or ""


@contextmanager
def _show_errors() -> Iterator[None]:
    """Show a failure as a sentence on the page, without a traceback in the log."""
    try:
        yield
    except Exception as error:
        message = str(error)
        if not isinstance(error, CxrRagError):
            # the message may quote a header, so only its type is logged and shown
            logger.error("an action failed: %s", type(error).__name__)  # noqa: TRY400
            logger.debug("traceback", exc_info=True)
            message = strings.INTERNAL_ERROR.format(type(error).__name__)
        raise gr.Error(message, title=strings.NOT_DONE, print_exception=False) from error
