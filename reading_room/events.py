"""Connects the page's events to `reading_room.controller` and renders the resulting session."""

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from rag.errors import CxrRagError
from rag.review.reviewed_report import ReviewedReport
from rag.settings import PageSettings
from reading_room import strings
from reading_room.controller import Controller
from reading_room.current import Current, SupersededError
from reading_room.draft_panel import FORMATS
from reading_room.image_panel import viewer_value
from reading_room.layout import DRAFTING, PageParts
from reading_room.opening import StudyState
from reading_room.session import ControllerError, Session
from reading_room.views import Update, Views, exports
from reading_room.worklist import LOOK_SECONDS, Worklist

logger = logging.getLogger(__name__)

EventOptions = dict[str, Any]
"""Keyword arguments of a Gradio event."""

DECIDING, MAKING = "deciding", "making"
"""Queues beside that of drafts: decisions wait for each other."""


class Events:
    """Event handlers: each takes the current session and returns what changes on the page.

    Args:
        controller: the steps themselves.
        parts: the components.
        worklist: studies of a folder; None where the page was started without one.
    """

    def __init__(
        self, controller: Controller, parts: PageParts, worklist: Worklist | None = None
    ) -> None:
        self._worklist = worklist
        self._controller = controller
        self._parts = parts
        self._views = Views(
            parts,
            attribution=controller.pipeline.retriever.store.attribution,
            map_measures=controller.pipeline.analyzer.map_measures,
        )

    def connect(self, settings: PageSettings, example: Callable[[], Path]) -> None:
        """Connect every event; `example` makes the synthetic example image."""
        parts, session = self._parts, self._parts.session
        deciding: EventOptions = {"concurrency_id": DECIDING, "concurrency_limit": 1}
        making: EventOptions = {"concurrency_id": MAKING, "concurrency_limit": 4}
        drafting: EventOptions = {
            "concurrency_id": DRAFTING,
            "concurrency_limit": settings.drafts_at_once,
            "show_progress": "minimal",
            "show_progress_on": parts.waiting,
        }
        quiet: EventOptions = {"show_progress": "hidden", "api_visibility": "private"}
        to_show = [*parts.shown, parts.viewer]
        given = [parts.prior_files, parts.prior_text, parts.prior_date]
        parts.upload.change(self.open, [session, parts.upload], to_show, **making, **quiet)
        parts.example.click(lambda: [str(example())], None, parts.upload, **making, **quiet)
        runs = [
            trigger(self.draft, [session, parts.indication], parts.shown, **drafting, **_PRIVATE)
            for trigger in (parts.start.click, parts.evidence.redraft)
        ]
        if self._worklist:
            opened = [*to_show, *given, parts.indication, parts.worklist]
            opening = parts.worklist.open_study(self.open_study, session, opened, **making, **quiet)
            runs.append(
                opening.success(
                    self.draft_opened,
                    session,
                    parts.shown,
                    trigger_mode="multiple",
                    **drafting,
                    **_PRIVATE,
                )
            )
            shown = gr.State("")
            gr.Timer(LOOK_SECONDS).tick(
                self.list_studies, shown, [shown, parts.worklist], **deciding, **quiet
            )
        steps = self._controller
        parts.stop.click(
            self._on(steps.stop), session, parts.shown, cancels=runs, **deciding, **quiet
        )
        decide = self._on_data(steps.act)
        for trigger in (parts.draft.act, parts.evidence.act):
            trigger(decide, session, parts.shown, trigger_mode="multiple", **deciding, **quiet)
        parts.viewer.set_region(
            self._on_data(steps.set_region),
            session,
            parts.shown,
            trigger_mode="always_last",
            show_progress="minimal",
            show_progress_on=parts.waiting,
            **making,
            **_PRIVATE,
        )
        rule_out = self._on_data(lambda session, data: steps.rule_out(session, data.get("report")))
        parts.evidence.rule_out(rule_out, session, parts.shown, **deciding, **quiet)
        signing = [session, parts.signer]
        parts.sign.click(self.sign, signing, parts.shown, **deciding, **quiet)
        parts.add.click(
            self.add_addendum, [*signing, parts.addendum], parts.shown, **deciding, **quiet
        )
        parts.exports.export(self.export, session, parts.exports, **making, **quiet)
        parts.compare.click(self.set_prior, [session, *given], to_show, **making, **quiet)
        dropped = [*to_show, *given]
        parts.drop_prior.click(self.drop_prior, session, dropped, **making, **quiet)

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
                yield self._views.with_viewer(current)
            session = self._controller.open_images(images, reader=reader)
            if first is None:
                current.session = session
                yield self._views.with_viewer(current)
            elif current.session.images is first.images:  # no other study was opened meanwhile
                yield {self._parts.viewer: viewer_value(session.images, drafted=session.drafted)}

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
                **self._views.with_viewer(current),
                **self._views.no_prior_given(),
                parts.indication: current.session.indication,
                parts.worklist: worklist.html(opened=uuid.uuid4().hex),
            }

    def draft_opened(self, current: Current) -> Iterator[Update]:
        """Draft a study that was opened before its turn."""
        session, worklist = current.session, self._worklist
        study = worklist.find(session.study) if worklist else None
        yield self._views.of(current)
        if session.prediction is None and study is not None and study.state is StudyState.WAITING:
            yield from self.draft(current, session.indication)

    def set_prior(
        self,
        current: Current,
        files: list[str] | None,
        text: str,
        date: str,
        request: gr.Request,
    ) -> Update:
        """Compare with an earlier study."""
        with _show_errors():
            if not files and not text.strip():
                raise ControllerError(strings.NO_PRIOR_GIVEN)
            paths, reader = [Path(file) for file in files or []], _reader(request)
            current.apply(
                lambda session: self._controller.set_prior(
                    session, paths, text=text, date=date, reader=reader
                )
            )
            return self._views.with_viewer(current)

    def drop_prior(self, current: Current, request: gr.Request) -> Update:
        """Compare with nothing."""
        with _show_errors():
            reader = _reader(request)
            current.apply(lambda session: self._controller.set_prior(session, [], reader=reader))
            return {**self._views.with_viewer(current), **self._views.no_prior_given()}

    def list_studies(self, shown: str) -> tuple[Any, Any]:
        """The worklist, where it has changed."""
        assert self._worklist is not None  # noqa: S101 - it has sent the event
        html = self._worklist.html()
        return (gr.skip(), gr.skip()) if html == shown else (html, html)

    def draft(self, current: Current, indication: str) -> Iterator[Update]:
        """The draft as it grows, until another image or draft takes its place."""
        before = current.session
        with _show_errors():
            try:
                for step in self._controller.draft(before, indication=indication):
                    current.put(step, before=before)
                    yield self._views.of(current)
                    before = step
            except SupersededError:
                yield self._views.of(current)  # Gradio empties what a stream never showed

    def sign(self, current: Current, name: str, request: gr.Request) -> Update:
        """Lock the report; the worklist hears of it."""
        with _show_errors():
            signed = self._signed(current.session)
            if signed and signed.signature:
                by = strings.SIGNED_AS.format(signed.signature.name, signed.signature.at[:10])
                raise ControllerError(strings.SIGNED_MEANWHILE.format(by))
            current.apply(lambda session: self._controller.sign(session, name))
            return self._kept(current, request)

    def add_addendum(self, current: Current, name: str, text: str, request: gr.Request) -> Update:
        """Add to a signed report, behind what others have added to it meanwhile."""

        def added(session: Session) -> Session:
            latest = replace(session, report=self._signed(session) or session.report)
            return self._controller.add_addendum(latest, text, name)

        with _show_errors():
            current.apply(added)
            shown = self._kept(current, request)
            return {**shown, self._parts.addendum: gr.Textbox(value="", visible=True)}

    def _signed(self, session: Session) -> ReviewedReport | None:
        """The signed report of a study of the worklist, by whomever."""
        return self._worklist.signed(session.study) if self._worklist else None

    def _kept(self, current: Current, request: gr.Request) -> Update:
        if self._worklist:
            self._worklist.keep(current.session, reader=_reader(request))
        return self._views.of(current)

    def export(self, current: Current, event: gr.EventData, request: gr.Request) -> Any:
        """Make a file for the browser to download."""
        session, form = current.session, str(_data(event).get("form", ""))
        with _show_errors():
            name = self._controller.export(session, form, reader=_reader(request))
        file = f"export/{name}/report.{FORMATS[form]}"
        return exports(session, file=file, number=hash(name))

    def _on(self, step: Callable[..., Session]) -> Callable[..., Update]:
        """An event whose inputs are those of the step."""

        def handle(current: Current, *inputs: Any) -> Update:
            with _show_errors():
                current.apply(lambda session: step(session, *inputs))
                return self._views.of(current)

        return handle

    def _on_data(self, step: Callable[[Session, dict[str, Any]], Session]) -> Callable[..., Update]:
        """An event that brings data from the browser."""

        def handle(current: Current, event: gr.EventData) -> Update:
            return self._on(step)(current, _data(event))

        return handle


_PRIVATE: EventOptions = {"api_visibility": "private"}


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
        raise gr.Error(str(error), title=strings.NOT_DONE, print_exception=False) from error
    except Exception as error:
        # Gradio would show nothing; the message may quote a header, so only its type is logged
        logger.error("a step failed: %s", type(error).__name__)  # noqa: TRY400
        logger.debug("traceback", exc_info=True)
        text = strings.INTERNAL_ERROR.format(type(error).__name__)
        raise gr.Error(text, title=strings.NOT_DONE, print_exception=False) from error
