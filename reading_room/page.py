"""The page: panels side by side, and what each event does.

With `reading_room.components` the only module that knows Gradio's components; what the events mean
is in `reading_room.desk`.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from rag.errors import CxrRagError
from rag.settings import PageSettings
from reading_room import strings
from reading_room.api import Drafter
from reading_room.components import film_field, scripted
from reading_room.desk import FORMATS, LONGEST_INDICATION, Desk, Session
from reading_room.draft_panel import draft_html
from reading_room.evidence_panel import evidence_html
from reading_room.film_panel import viewer_html, viewer_value
from reading_room.help_panel import dock_html, header_html
from reading_room.provenance_panel import provenance_html
from reading_room.sign_panel import exports_html, exports_value, state_html

logger = logging.getLogger(__name__)

Update = dict[Any, Any]
"""New values by component: what a Gradio event may return."""

Settings = dict[str, Any]
"""Keyword arguments of a Gradio event."""

DRAFTING, DECIDING, MAKING = "drafting", "deciding", "making"
"""Queues: drafts wait for the model, decisions for each other, the rest for a processor."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The components that events read or change."""

    session: gr.State
    upload: gr.File
    viewer: gr.HTML
    example: gr.Button
    indication: gr.Textbox
    start: gr.Button
    stop: gr.Button
    waiting: gr.HTML
    draft: gr.HTML
    evidence: gr.HTML
    state: gr.HTML
    signer: gr.Textbox
    sign: gr.Button
    addendum: gr.Textbox
    add: gr.Button
    exports: gr.HTML
    provenance: gr.HTML

    @property
    def shown(self) -> list[Any]:
        """What follows from the session."""
        return [
            *(self.session, self.draft, self.evidence, self.state, self.exports),
            *(self.provenance, self.sign, self.signer, self.addendum, self.add),
        ]


def lay_out(settings: PageSettings) -> Parts:
    """The components, inside a `gr.Blocks`; no event is connected yet."""
    session = gr.State(Session(), time_to_live=settings.delete_uploads_after_seconds)
    scripted("keys", header_html(), elem_id="header")
    with gr.Row(elem_id="room"):
        with gr.Column(elem_id="film-side"):
            viewer = scripted(
                "viewer", viewer_html(), words=strings.VIEWER_WORDS, value=[], elem_id="viewer"
            )
            with gr.Row(elem_id="opening"):
                upload = film_field(
                    label=strings.UPLOAD, file_count="multiple", elem_id="upload", height=88
                )
                example = gr.Button(strings.EXAMPLE, size="sm", elem_id="example", min_width=90)
        with gr.Column(elem_id="draft-side"):
            with gr.Row(elem_id="asking"):
                indication = gr.Textbox(
                    label=strings.INDICATION,
                    placeholder=strings.INDICATION,
                    show_label=False,
                    max_length=LONGEST_INDICATION,
                    elem_id="indication",
                    max_lines=1,
                )
                start = gr.Button(strings.DRAFT_BUTTON, variant="primary", elem_id="draft-it")
                stop = gr.Button(strings.STOP_BUTTON, elem_id="stop")
            waiting = gr.HTML("", elem_id="waiting")
            draft = scripted(
                "draft",
                "${value}",
                events=("act",),
                words={"edit": strings.EDIT, "save": strings.SAVE, "cancel": strings.CANCEL},
                value=draft_html(None),
                elem_id="draft",
            )
            gr.HTML(dock_html(), elem_id="dock")
            with gr.Column(elem_id="signing"):
                state = gr.HTML(state_html(None), elem_id="state")
                with gr.Row():
                    signer = gr.Textbox(
                        label=strings.SIGNER,
                        placeholder=strings.SIGNER,
                        show_label=False,
                        max_length=120,
                        max_lines=1,
                        elem_id="signer",
                        min_width=100,
                    )
                    sign = gr.Button(strings.SIGN, elem_id="sign", interactive=False, min_width=60)
                    addendum = gr.Textbox(
                        label=strings.ADDENDUM,
                        placeholder=strings.ADDENDUM,
                        show_label=False,
                        max_length=2000,
                        max_lines=1,
                        elem_id="addendum",
                        visible=False,
                    )
                    add = gr.Button(strings.ADD_ADDENDUM, elem_id="add-addendum", visible=False)
                exports = scripted(
                    "exports",
                    exports_html(),
                    events=("export",),
                    value=exports_value(ready=False, dicom=False),
                    elem_id="exports",
                )
        with gr.Column(elem_id="evidence-side"):
            evidence = scripted(
                "evidence",
                "${value}",
                events=("act", "again", "rule_out"),
                value=evidence_html(None, attribution=""),
                elem_id="evidence",
            )
            with gr.Accordion(strings.PROVENANCE, open=False, elem_id="provenance"):
                provenance = gr.HTML()
    return Parts(
        session=session,
        upload=upload,
        viewer=viewer,
        example=example,
        indication=indication,
        start=start,
        stop=stop,
        waiting=waiting,
        draft=draft,
        evidence=evidence,
        state=state,
        signer=signer,
        sign=sign,
        addendum=addendum,
        add=add,
        exports=exports,
        provenance=provenance,
    )


def offer_to_programs(drafter: Drafter, settings: PageSettings) -> None:
    """``/draft`` for `gradio_client`: the same as ``POST /api/draft``; nothing of it is seen."""
    films = film_field(label="films", file_count="multiple", visible=False)
    indication = gr.Textbox(label="indication", max_length=LONGEST_INDICATION, visible=False)
    prediction = gr.JSON(label="prediction", visible=False)

    def draft(films: list[str] | None, indication: str = "") -> dict[str, Any]:
        """A draft of one study, or why there is none: docs/predictions.md."""
        return drafter.draft([Path(film).read_bytes() for film in films or []], indication)[1]

    gr.Button(visible=False).click(
        draft,
        [films, indication],
        prediction,
        api_name="draft",
        concurrency_id=DRAFTING,
        concurrency_limit=settings.drafts_at_once,
    )


class Events:
    """What each event does to a session, and what of it is shown.

    Args:
        desk: the steps themselves.
        parts: the components.
    """

    def __init__(self, desk: Desk, parts: Parts) -> None:
        self._desk = desk
        self._parts = parts
        self._attribution = desk.pipeline.retriever.store.attribution

    def connect(self, settings: PageSettings, example: Callable[[], Path]) -> None:
        """Connect every event; `example` makes a film for a reader who has none at hand."""
        parts, session = self._parts, self._parts.session
        deciding: Settings = {"concurrency_id": DECIDING, "concurrency_limit": 1}
        making: Settings = {"concurrency_id": MAKING, "concurrency_limit": 4}
        drafting: Settings = {
            "concurrency_id": DRAFTING,
            "concurrency_limit": settings.drafts_at_once,
            "show_progress": "minimal",
            "show_progress_on": parts.waiting,
        }
        quiet: Settings = {"show_progress": "hidden", "api_visibility": "private"}
        to_show = [*parts.shown, parts.viewer]
        parts.upload.change(self.open, parts.upload, to_show, **making, **quiet)
        parts.example.click(lambda: [str(example())], None, parts.upload, **making, **quiet)
        runs = [
            trigger(self.draft, [session, parts.indication], parts.shown, **drafting, **_PRIVATE)
            for trigger in (parts.start.click, parts.evidence.again)
        ]
        parts.stop.click(self.stop, session, parts.shown, cancels=runs, **deciding, **quiet)
        for trigger in (parts.draft.act, parts.evidence.act):
            trigger(self.act, session, parts.shown, trigger_mode="multiple", **deciding, **quiet)
        parts.evidence.rule_out(self.rule_out, session, parts.shown, **deciding, **quiet)
        signing = [session, parts.signer]
        parts.sign.click(self.sign, signing, parts.shown, **deciding, **quiet)
        parts.add.click(self.addend, [*signing, parts.addendum], parts.shown, **deciding, **quiet)
        parts.exports.export(self.export, session, parts.exports, **making, **quiet)

    def open(self, paths: list[str] | None, request: gr.Request) -> Update:
        """The films of one study, or none."""
        with _telling():
            session = self._desk.open_films(
                [Path(path) for path in paths or []], reader=_reader(request)
            )
        shown = viewer_value(session.films, drafted=session.drafted)
        return {**self._views(session), self._parts.viewer: shown}

    def draft(self, session: Session, indication: str) -> Iterator[Update]:
        """The draft as it grows."""
        with _telling():
            for step in self._desk.draft(session, indication=indication):
                yield self._views(step)

    def stop(self, session: Session) -> Update:
        """What is left when the reader has stopped a draft."""
        return self._step(lambda: self._desk.stopped(session))

    def act(self, session: Session, event: gr.EventData) -> Update:
        """One decision on a sentence."""
        return self._step(lambda: self._desk.act(session, _data(event)))

    def rule_out(self, session: Session, event: gr.EventData) -> Update:
        """A report is irrelevant, or is not after all."""
        report_id = str(_data(event).get("report", ""))
        return self._step(lambda: self._desk.rule_out(session, report_id))

    def sign(self, session: Session, name: str) -> Update:
        """Lock the report."""
        return self._step(lambda: self._desk.sign(session, name))

    def addend(self, session: Session, name: str, text: str) -> Update:
        """Add to a signed report."""
        parts = self._parts
        shown = self._step(lambda: self._desk.addend(session, text, name))
        return {**shown, parts.addendum: gr.Textbox(value="", visible=True)}

    def export(self, session: Session, event: gr.EventData, request: gr.Request) -> Any:
        """Make a file and tell the page where it is."""
        form = str(_data(event).get("form", ""))
        with _telling():
            name = self._desk.export(session, form, reader=_reader(request))
        file = f"export/{name}/report.{FORMATS[form]}"
        return _exports(session, file=file, number=hash(name))

    def _step(self, step: Callable[[], Session]) -> Update:
        with _telling():
            return self._views(step())

    def _views(self, session: Session) -> Update:
        """The session, and all that is shown of it."""
        parts, found, report = self._parts, session.prediction, session.report
        signed = report is not None and report.signature is not None
        return {
            parts.session: session,
            parts.draft: draft_html(found, report, session.check, phrases=strings.PHRASES),
            parts.evidence: evidence_html(
                found, report, attribution=self._attribution, ruled_out=session.ruled_out
            ),
            parts.state: state_html(report),
            parts.exports: _exports(session),
            parts.provenance: provenance_html(found),
            parts.sign: gr.Button(interactive=_can_sign(session), visible=not signed),
            parts.signer: gr.Textbox(label=strings.ADDED_BY if signed else strings.SIGNER),
            parts.addendum: gr.Textbox(visible=signed),
            parts.add: gr.Button(visible=signed),
        }


_PRIVATE: Settings = {"api_visibility": "private"}


def _can_sign(session: Session) -> bool:
    report = session.report
    return bool(report and report.lines and not report.open_lines and not report.signature)


def _exports(session: Session, *, file: str = "", number: int = 0) -> dict[str, Any]:
    dicom = bool(session.films) and session.films[session.drafted].dicom
    ready = session.report is not None
    return exports_value(ready=ready, dicom=dicom, file=file, number=number)


def _data(event: gr.EventData) -> dict[str, Any]:
    """What the browser sent along: anything, until `reading_room.desk` has looked at it."""
    return event._data if isinstance(event._data, dict) else {}


def _reader(request: gr.Request) -> str:
    return request.username or ""


@contextmanager
def _telling() -> Iterator[None]:
    """A failure as a sentence on the page, without a traceback in the log."""
    try:
        yield
    except CxrRagError as error:
        raise gr.Error(str(error), title=strings.NOT_DONE, print_exception=False) from error
    except Exception as error:
        # the page's border: Gradio would show nothing at all; an error's words may quote a header
        logger.error("a step failed: %s", type(error).__name__)  # noqa: TRY400 - as said
        logger.debug("as follows", exc_info=True)
        text = strings.OUR_FAULT.format(type(error).__name__)
        raise gr.Error(text, title=strings.NOT_DONE, print_exception=False) from error
