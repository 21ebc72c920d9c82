"""Connects the page's events to `reading_room.controller` and renders the resulting session."""

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr

from rag.errors import CxrRagError
from rag.settings import PageSettings
from reading_room import strings
from reading_room.controller import Controller
from reading_room.draft_panel import FORMATS, draft_html, exports_value, provenance_html, state_html
from reading_room.evidence_panel import evidence_html, prior_html, rank_changes
from reading_room.image_panel import viewer_value
from reading_room.layout import DRAFTING, PageParts
from reading_room.session import ControllerError, Session
from reading_room.worklist import LOOK_SECONDS, Worklist

logger = logging.getLogger(__name__)

Update = dict[Any, Any]
"""New values by component: what a Gradio event may return."""

EventOptions = dict[str, Any]
"""Keyword arguments of a Gradio event."""

DECIDING, MAKING = "deciding", "making"
"""Queues beside that of drafts: decisions wait for each other."""


class Events:
    """Event handlers: each takes a session and returns what changes on the page.

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
        self._attribution = controller.pipeline.retriever.store.attribution
        self._map_measures = controller.pipeline.analyzer.map_measures

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
        parts.upload.change(self.open, parts.upload, to_show, **making, **quiet)
        parts.example.click(lambda: [str(example())], None, parts.upload, **making, **quiet)
        runs = [
            trigger(self.draft, [session, parts.indication], parts.shown, **drafting, **_PRIVATE)
            for trigger in (parts.start.click, parts.evidence.redraft)
        ]
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
        given = [parts.prior_files, parts.prior_text, parts.prior_date]
        parts.compare.click(self.set_prior, [session, *given], to_show, **making, **quiet)
        dropped = [*to_show, *given]
        parts.drop_prior.click(self.drop_prior, session, dropped, **making, **quiet)
        if self._worklist:
            opened = [*to_show, *given, parts.indication, parts.worklist]
            parts.worklist.open_study(self.open_study, session, opened, **making, **quiet)
            shown = gr.State("")
            gr.Timer(LOOK_SECONDS).tick(
                self.list_studies, shown, [shown, parts.worklist], **deciding, **quiet
            )

    def open(self, paths: list[str] | None, request: gr.Request) -> Iterator[Update]:
        """Open the images of one study; large ones as a preview first, where that is quick.

        After the preview only the viewer changes: the reader may be drafting already.
        """
        images, reader = [Path(path) for path in paths or []], _reader(request)
        viewer = self._parts.viewer
        with _show_errors():
            first = self._controller.preview(images, reader=reader)
            if first is not None:
                shown = viewer_value(first.images, drafted=first.drafted)
                yield {**self._views(first), viewer: shown}
            session = self._controller.open_images(images, reader=reader)
            shown = viewer_value(session.images, drafted=session.drafted)
            yield {viewer: shown} if first else {**self._views(session), viewer: shown}

    def open_study(
        self, session: Session, event: gr.EventData, request: gr.Request
    ) -> Iterator[Update]:
        """A study of the worklist, as it was left; one without a draft is drafted now."""
        worklist, parts, reader = self._worklist, self._parts, _reader(request)
        assert worklist is not None  # noqa: S101 - it has sent the event
        with _show_errors():
            study = worklist.find(_data(event).get("study"))
            if study is None:
                raise ControllerError(strings.STUDY_GONE)
            worklist.keep(session, reader=reader)
            kept = worklist.kept(study.key, reader=reader)
            session = self._controller.open_study(study, kept=kept, reader=reader)
            yield {
                **self._all(session),
                **self._no_prior_given(),
                parts.indication: session.indication,
                parts.worklist: worklist.html(opened=uuid.uuid4().hex),
            }
            if session.prediction is None:
                for step in self._controller.draft(session, indication=session.indication):
                    yield self._views(step)

    def set_prior(
        self,
        session: Session,
        files: list[str] | None,
        text: str,
        date: str,
        request: gr.Request,
    ) -> Update:
        """Compare with an earlier study."""
        with _show_errors():
            if not files and not text.strip():
                raise ControllerError(strings.NO_PRIOR_GIVEN)
            paths = [Path(file) for file in files or []]
            reader = _reader(request)
            return self._all(
                self._controller.set_prior(session, paths, text=text, date=date, reader=reader)
            )

    def drop_prior(self, session: Session, request: gr.Request) -> Update:
        """Compare with nothing."""
        with _show_errors():
            without = self._controller.set_prior(session, [], reader=_reader(request))
            return {**self._all(without), **self._no_prior_given()}

    def _all(self, session: Session) -> Update:
        """Every panel, and the viewer."""
        shown = viewer_value(
            session.images,
            drafted=session.drafted,
            prior=session.prior_images,
            prior_date=session.prior.date,
        )
        return {**self._views(session), self._parts.viewer: shown}

    def _no_prior_given(self) -> Update:
        parts = self._parts
        return {parts.prior_files: None, parts.prior_text: "", parts.prior_date: ""}

    def list_studies(self, shown: str) -> tuple[Any, Any]:
        """The worklist, where it has changed."""
        assert self._worklist is not None  # noqa: S101 - it has sent the event
        html = self._worklist.html()
        return (gr.skip(), gr.skip()) if html == shown else (html, html)

    def draft(self, session: Session, indication: str) -> Iterator[Update]:
        """The draft as it grows."""
        with _show_errors():
            for step in self._controller.draft(session, indication=indication):
                yield self._views(step)

    def add_addendum(self, session: Session, name: str, text: str) -> Update:
        """Add to a signed report."""
        shown = self._on(self._controller.add_addendum)(session, text, name)
        return {**shown, self._parts.addendum: gr.Textbox(value="", visible=True)}

    def export(self, session: Session, event: gr.EventData, request: gr.Request) -> Any:
        """Make a file for the browser to download."""
        form = str(_data(event).get("form", ""))
        with _show_errors():
            name = self._controller.export(session, form, reader=_reader(request))
        file = f"export/{name}/report.{FORMATS[form]}"
        return _exports(session, file=file, number=hash(name))

    def sign(self, session: Session, name: str, request: gr.Request) -> Update:
        """Lock the report; the worklist hears of it."""
        with _show_errors():
            signed = self._controller.sign(session, name)
            if self._worklist:
                self._worklist.keep(signed, reader=_reader(request))
            return self._views(signed)

    def _on(self, step: Callable[..., Session]) -> Callable[..., Update]:
        """An event whose inputs are those of the step."""

        def handle(*inputs: Any) -> Update:
            with _show_errors():
                return self._views(step(*inputs))

        return handle

    def _on_data(self, step: Callable[[Session, dict[str, Any]], Session]) -> Callable[..., Update]:
        """An event that brings data from the browser."""

        def handle(session: Session, event: gr.EventData) -> Update:
            return self._on(step)(session, _data(event))

        return handle

    def _views(self, session: Session) -> Update:
        """The session, and every panel that shows it."""
        parts, report, shown = self._parts, session.report, session.shown
        drafted = session.prediction and shown
        signed = report is not None and report.signature is not None
        return {
            parts.session: session,
            parts.draft: draft_html(
                drafted, report, session.check, map_measures=self._map_measures
            ),
            parts.evidence: evidence_html(
                shown,
                report,
                attribution=self._attribution,
                ruled_out=session.ruled_out,
                changes=rank_changes(session),
            ),
            parts.state: state_html(report),
            parts.exports: _exports(session),
            parts.provenance: provenance_html(session.prediction),
            parts.prior: prior_html(session),
            parts.drop_prior: gr.Button(visible=bool(session.prior) and not signed),
            parts.sign: gr.Button(interactive=_can_sign(session), visible=not signed),
            parts.signer: gr.Textbox(label=strings.ADDED_BY if signed else strings.SIGNER),
            parts.addendum: gr.Textbox(visible=signed),
            parts.add: gr.Button(visible=signed),
        }


_PRIVATE: EventOptions = {"api_visibility": "private"}


def _can_sign(session: Session) -> bool:
    report = session.report
    return bool(report and report.lines and not report.open_lines and not report.signature)


def _exports(session: Session, *, file: str = "", number: int = 0) -> dict[str, Any]:
    dicom = bool(session.images) and session.images[session.drafted].dicom
    return exports_value(ready=session.report is not None, dicom=dicom, file=file, number=number)


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
