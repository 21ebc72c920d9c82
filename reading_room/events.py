"""Connects the page's events to `reading_room.controller` and shows the resulting session."""

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
from reading_room.draft_panel import FORMATS, exports_value
from reading_room.image_panel import viewer_value
from reading_room.layout import DRAFTING, PageParts, Update
from reading_room.session import ControllerError, Current, Session, SupersededError
from reading_room.worklist import LOOK_SECONDS, Worklist

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
        """Connect every event; each waits in a queue, decisions for each other."""
        parts = self._parts
        limits = {"deciding": 1, "making": 4, DRAFTING: self._drafts_at_once}
        waiting: dict[str, Any] = {"show_progress": "minimal", "show_progress_on": parts.waiting}

        def on(
            trigger: Callable[..., Any],
            handler: Callable[..., Any],
            *inputs: Any,
            outputs: Any = parts.shown,
            queue: str = "making",
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

        with_viewer = [*parts.shown, parts.viewer]
        prior = [parts.prior_files, parts.prior_text, parts.prior_date]
        on(parts.upload.change, self.open, parts.upload, outputs=with_viewer)
        on(parts.example.click, self.example, outputs=parts.upload)
        drafts = [
            on(trigger, self.draft, parts.indication, queue=DRAFTING, **waiting)
            for trigger in (parts.start.click, parts.evidence.redraft)
        ]
        on(parts.stop.click, self.stop, queue="deciding", cancels=drafts)
        for trigger in (parts.draft.act, parts.evidence.act):
            on(trigger, self.act, queue="deciding", trigger_mode="multiple")
        on(parts.viewer.set_region, self.set_region, trigger_mode="always_last", **waiting)
        on(parts.sign.click, self.sign, parts.signer, queue="deciding")
        on(parts.add.click, self.add_addendum, parts.signer, parts.addendum, queue="deciding")
        on(parts.exports.export, self.export, outputs=parts.exports)
        on(parts.compare.click, self.set_prior, *prior, outputs=with_viewer)
        on(parts.drop_prior.click, self.drop_prior, outputs=[*with_viewer, *prior])
        if self._worklist:
            opened = [*with_viewer, *prior, parts.indication]
            on(parts.worklist.open_study, self.open_study, outputs=opened).success(
                None, js="() => document.dispatchEvent(new CustomEvent('studyopened'))"
            )
            shown = gr.State("")
            tick = gr.Timer(LOOK_SECONDS).tick
            on(tick, self.list_studies, shown, outputs=[shown, parts.worklist], queue="deciding")

    def open(
        self, current: Current, paths: list[str] | None, request: gr.Request
    ) -> Iterator[Update]:
        """Open the images of one study; large ones as a preview first, where that is quick.

        After the preview only the viewer changes: the reader may be drafting already.
        """
        images, reader = [Path(path) for path in paths or []], _reader(request)
        with _show_errors():
            first = self._controller.preview(images, reader=reader)
            if first is not None:
                current.session = first
                yield self._parts.with_viewer(current)
            session = self._controller.open_images(images, reader=reader)
            if first is None:
                current.session = session
                yield self._parts.with_viewer(current)
            elif current.session.images is first.images:  # no other study was opened meanwhile
                yield {self._parts.viewer: viewer_value(session.images)}

    def example(self, _: Current) -> list[str]:
        """The phantom as an upload of this reader's own."""
        uploads = self._controller.file_store.uploads
        path = Path(mkdtemp(prefix="phantom-", dir=uploads)) / "phantom.dcm"
        path.write_bytes(_phantom())
        return [str(path)]

    def draft(self, current: Current, indication: str) -> Iterator[Update]:
        """The draft as it grows, until another image or draft takes its place."""
        before = current.session
        with _show_errors():
            try:
                for step in self._controller.draft(before, indication=indication):
                    current.put(step, before=before)
                    yield self._parts.of(current)
                    before = step
            except SupersededError:
                yield self._parts.of(current)  # Gradio empties what a stream never showed

    def stop(self, current: Current) -> Update:
        """End a draft with the evidence that was found."""
        return self._after(current, self._controller.stop)

    def act(self, current: Current, event: gr.EventData) -> Update:
        """One decision."""
        return self._after(current, lambda session: self._controller.act(session, _data(event)))

    def set_region(self, current: Current, event: gr.EventData) -> Update:
        """Search for a region."""
        return self._after(
            current, lambda session: self._controller.set_region(session, _data(event))
        )

    def sign(self, current: Current, name: str, request: gr.Request) -> Update:
        """Lock the report; the worklist hears of it."""

        def signed(session: Session) -> Session:
            other = self._signed(session)
            if other and other.signature:
                by = strings.SIGNED_AS.format(other.signature.name, other.signature.at[:10])
                raise ControllerError(strings.SIGNED_MEANWHILE.format(by))
            return self._controller.sign(session, name)

        return self._after(current, signed, kept_for=request)

    def add_addendum(self, current: Current, name: str, text: str, request: gr.Request) -> Update:
        """Add to a signed report, behind what others have added to it meanwhile."""

        def added(session: Session) -> Session:
            latest = replace(session, report=self._signed(session) or session.report)
            return self._controller.add_addendum(latest, text, name)

        shown = self._after(current, added, kept_for=request)
        return {**shown, self._parts.addendum: gr.update(value="", visible=True)}

    def set_prior(
        self,
        current: Current,
        files: list[str] | None,
        text: str,
        date: str,
        request: gr.Request,
    ) -> Update:
        """Compare with an earlier study."""

        def compared(session: Session) -> Session:
            if not files and not text.strip():
                raise ControllerError(strings.NO_PRIOR_GIVEN)
            paths, reader = [Path(file) for file in files or []], _reader(request)
            return self._controller.set_prior(session, paths, text=text, date=date, reader=reader)

        return self._after(current, compared, view=self._parts.with_viewer)

    def drop_prior(self, current: Current) -> Update:
        """Compare with nothing."""
        shown = self._after(
            current,
            lambda session: self._controller.set_prior(session, [], reader=""),
            view=self._parts.with_viewer,
        )
        return {**shown, **self._parts.no_prior_given()}

    def export(self, current: Current, event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        """Make a file for the browser to download."""
        form = str(_data(event).get("form", ""))
        with _show_errors():
            name = self._controller.export(current.session, form, reader=_reader(request))
        return exports_value(current.session, file=f"export/{name}/report.{FORMATS[form]}")

    def open_study(self, current: Current, event: gr.EventData, request: gr.Request) -> Update:
        """A study of the worklist, as it was left."""
        worklist, parts, reader = self._worklist, self._parts, _reader(request)
        assert worklist is not None  # noqa: S101 - it has sent the event
        with _show_errors():
            study = worklist.find(_data(event).get("study"))
            if study is None:
                raise ControllerError(strings.STUDY_GONE)
            worklist.keep(current.session, reader=reader)
            kept = worklist.kept(study.key, reader=reader)
            current.session = self._controller.open_study(study, kept=kept, reader=reader)
            return {
                **parts.with_viewer(current),
                **parts.no_prior_given(),
                parts.indication: current.session.indication,
            }

    def list_studies(self, _: Current, shown: str) -> tuple[Any, Any]:
        """The worklist, where it has changed."""
        assert self._worklist is not None  # noqa: S101 - it has sent the event
        html = self._worklist.html()
        return (gr.skip(), gr.skip()) if html == shown else (html, html)

    def _after(
        self,
        current: Current,
        step: Callable[[Session], Session],
        *,
        view: Callable[[Current], Update] | None = None,
        kept_for: gr.Request | None = None,
    ) -> Update:
        """What changes on the page with a step; the worklist keeps it for who signed."""
        with _show_errors():
            current.apply(step)
            if self._worklist and kept_for:
                self._worklist.keep(current.session, reader=_reader(kept_for))
            return (view or self._parts.of)(current)

    def _signed(self, session: Session) -> ReviewedReport | None:
        """The signed report of a study of the worklist, by whomever."""
        return self._worklist.signed(session.study) if self._worklist else None


@lru_cache(maxsize=1)
def _phantom() -> bytes:
    """Drawn once, which takes some seconds."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "phantom.dcm"
        write_phantom_dicom(path, seed=1, finding=PhantomFinding.LEFT_PLEURAL_EFFUSION)
        return path.read_bytes()


def _data(event: gr.EventData) -> dict[str, Any]:
    """What the browser sent: unchecked until `reading_room.controller` reads it."""
    return event._data if isinstance(event._data, dict) else {}


def _reader(request: gr.Request) -> str:
    return request.username or ""


@contextmanager
def _show_errors() -> Iterator[None]:
    """Show a failure as a sentence on the page, without a traceback in the log."""
    try:
        yield
    except CxrRagError as error:
        text = str(error)
        raise gr.Error(text, title=strings.NOT_DONE, print_exception=False) from error
    except Exception as error:
        # Gradio would show nothing; the message may quote a header, so only its type is logged
        logger.error("a step failed: %s", type(error).__name__)  # noqa: TRY400
        logger.debug("traceback", exc_info=True)
        text = strings.INTERNAL_ERROR.format(type(error).__name__)
        raise gr.Error(text, title=strings.NOT_DONE, print_exception=False) from error
