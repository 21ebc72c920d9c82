"""The page's components, their layout, and their values for a session."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.exceptions import Error

from rag.localization import MapMeasures
from rag.settings import PageSettings
from reading_room import strings
from reading_room.controller import MAX_INDICATION
from reading_room.draft_panel import draft_html, exports_value, provenance_html
from reading_room.evidence_panel import evidence_html, prior_html
from reading_room.image_panel import viewer_value
from reading_room.session import CurrentSession, Session
from reading_room.templating import render
from reading_room.worklist import Worklist

DRAFT_QUEUE = "drafts"
"""Of drafts from the page and from programs."""

Updates = dict[Any, Any]
"""New values by component, as a Gradio event returns them."""


class PageParts:
    """The components, laid out inside a `gr.Blocks`; no event is connected yet.

    Args:
        settings: of the page.
        worklist: studies of a folder, if the page was started with one.
        attribution: licence line of the collection.
        map_measures: how often the encoder's finding maps point at the right place.
    """

    def __init__(
        self,
        settings: PageSettings,
        worklist: Worklist | None,
        *,
        attribution: str,
        map_measures: MapMeasures,
    ) -> None:
        self._attribution = attribution
        self._map_measures = map_measures
        self.session = gr.State(
            CurrentSession(), time_to_live=settings.delete_uploads_after_seconds
        )
        script_element(
            "keys", render("header.html", worklist=worklist is not None), elem_id="header"
        )
        if worklist:
            self.worklist = script_element(
                "worklist",
                events=("open_study",),
                words={"ages": strings.AGES},
                value=worklist.html(),
            )
        with gr.Row(elem_id="room"):
            with gr.Column(elem_id="image-side"):
                self.viewer = script_element(
                    "viewer",
                    render("viewer.html"),
                    events=("set_region",),
                    words=strings.VIEWER_WORDS,
                    value=[],
                )
                with gr.Row(elem_id="opening"):
                    self.upload = image_field(label=strings.UPLOAD, elem_id="upload", height=88)
                    self.example = gr.Button(
                        strings.EXAMPLE, size="sm", elem_id="example", min_width=90
                    )
            with gr.Column(elem_id="draft-side"):
                with gr.Row(elem_id="asking"):
                    self.indication = text_field(
                        strings.INDICATION, max_length=MAX_INDICATION, elem_id="indication"
                    )
                    self.start = gr.Button(
                        strings.DRAFT_BUTTON, variant="primary", elem_id="draft-it"
                    )
                    self.stop = gr.Button(strings.STOP_BUTTON, elem_id="stop")
                self.progress = gr.HTML("", elem_id="waiting")
                self.draft = script_element(
                    "draft", events=("act",), words=strings.DRAFT_WORDS, value=draft_html(Session())
                )
                gr.HTML(render("dock.html"), elem_id="dock")
                self._lay_out_signing()
            with gr.Column(elem_id="evidence-side"):
                self._lay_out_prior()
                self.evidence = script_element(
                    "evidence",
                    events=("act", "redraft"),
                    value=evidence_html(Session(), attribution=""),
                )
                with gr.Accordion(strings.PROVENANCE, open=False, elem_id="provenance"):
                    self.provenance = gr.HTML()
        self.panels = list(self.updates(CurrentSession()))
        """The components that show the session, but for the viewer."""

    def _lay_out_signing(self) -> None:
        with gr.Column(elem_id="signing"):
            self.state = gr.HTML(render("state.html", report=None), elem_id="state")
            with gr.Row():
                self.signer = text_field(
                    strings.SIGNER, max_length=120, elem_id="signer", min_width=100
                )
                self.sign = gr.Button(strings.SIGN, elem_id="sign", interactive=False, min_width=60)
                self.addendum = text_field(
                    strings.ADDENDUM, max_length=2000, elem_id="addendum", visible=False
                )
                self.add = gr.Button(strings.ADD_ADDENDUM, elem_id="add-addendum", visible=False)
            self.exports = script_element(
                "exports",
                render("exports.html"),
                events=("export",),
                value=exports_value(Session()),
            )

    def _lay_out_prior(self) -> None:
        self.prior = gr.HTML("", elem_id="prior")
        with gr.Accordion(strings.ADD_PRIOR, open=False, elem_id="add-prior"):
            self.prior_files = image_field(label=strings.PRIOR_FILES, elem_id="prior-files")
            self.prior_text = gr.Textbox(
                label=strings.PRIOR_TEXT, lines=2, max_length=50_000, elem_id="prior-text"
            )
            self.prior_date = text_field(strings.PRIOR_DATE, max_length=10, elem_id="prior-date")
            with gr.Row():
                self.compare = gr.Button(
                    strings.USE_PRIOR, size="sm", elem_id="compare", min_width=60
                )
                self.drop_prior = gr.Button(
                    strings.DROP_PRIOR, size="sm", visible=False, min_width=60
                )

    def updates(self, current: CurrentSession) -> Updates:
        """The session, and every panel but the viewer."""
        session, report = current.session, current.session.report
        signed = bool(report and report.signature)
        ready = bool(report and report.lines and not report.open_lines)
        return {
            self.session: current,
            self.draft: draft_html(session, map_measures=self._map_measures),
            self.evidence: evidence_html(session, attribution=self._attribution),
            self.state: render("state.html", report=report),
            self.exports: exports_value(session),
            self.provenance: provenance_html(session.prediction),
            self.prior: prior_html(session),
            self.drop_prior: gr.update(visible=bool(session.prior) and not signed),
            self.sign: gr.update(interactive=ready, visible=not signed),
            self.signer: gr.update(label=strings.ADDENDUM_SIGNER if signed else strings.SIGNER),
            self.addendum: gr.update(visible=signed),
            self.add: gr.update(visible=signed),
        }

    def with_viewer(self, current: CurrentSession) -> Updates:
        """The same, and the viewer."""
        session = current.session
        images = viewer_value(
            session.images,
            region=session.region,
            prior=session.prior_images,
            prior_date=session.prior.date,
        )
        return {**self.updates(current), self.viewer: images}

    def empty_prior_fields(self) -> Updates:
        """The form for a prior, emptied."""
        return {self.prior_files: None, self.prior_text: "", self.prior_date: ""}


def script_element(
    module: str,
    html: str = "${value}",
    *,
    elem_id: str = "",
    events: Sequence[str] = (),
    words: Mapping[str, object] | None = None,
    **settings: Any,
) -> gr.HTML:
    """An element with the script ``static/<module>.js``.

    Args:
        module: its ``mount`` function is called with the element and Gradio's props and functions.
        html: the template; "${value}" is replaced by the value.
        elem_id: by default the module's name.
        events: names it may trigger.
        words: strings for the script, from `reading_room.strings`.
        settings: of `gr.HTML`.
    """
    names = ", ".join(f"'{event}'" for event in events)  # Gradio searches this code for the names
    code = (
        f"/* events: {names} */ "
        f"import(new URL('reading-room/{module}.js', document.baseURI).href).then((m) => "
        f"m.mount(element, {{ props, watch, trigger, words: {json.dumps(words or {})} }}));"
    )
    return gr.HTML(
        html_template=html,
        js_on_load=code,
        apply_default_css=False,
        container=False,
        elem_id=elem_id or module,
        **settings,
    )


def text_field(label: str, **settings: Any) -> gr.Textbox:
    """A one-line text field with its label as placeholder."""
    return gr.Textbox(label=label, placeholder=label, show_label=False, max_lines=1, **settings)


def image_field(**settings: Any) -> gr.File:
    """A field for one or more uploaded files; addresses are refused instead of fetched.

    Not a subclass: Gradio writes a stub file beside the module of every subclass.
    """
    field = gr.File(file_count="multiple", **settings)
    move_to_cache = field.async_move_resource_to_block_cache

    async def move_upload_to_cache(url_or_file_path: Any) -> str | None:
        if "://" in str(url_or_file_path or ""):
            raise Error("Images are uploaded, not fetched from an address.", print_exception=False)
        return await move_to_cache(url_or_file_path)

    field.async_move_resource_to_block_cache = move_upload_to_cache  # type: ignore[method-assign]
    return field
