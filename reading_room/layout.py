"""The page's components and their layout; `reading_room.events` connects them."""

from pathlib import Path
from typing import Any

import gradio as gr

from rag.region import ReaderRegion, RegionError
from rag.settings import PageSettings
from reading_room import strings
from reading_room.api import DraftService
from reading_room.components import image_field, scripted, text_field
from reading_room.controller import MAX_INDICATION
from reading_room.draft_panel import draft_html
from reading_room.evidence_panel import evidence_html
from reading_room.session import Session
from reading_room.sign_panel import exports_value, state_html
from reading_room.templating import render

DRAFTING = "drafting"
"""The queue of drafts, from the page and from programs."""


class PageParts:
    """The components, laid out inside a `gr.Blocks`; no event is connected yet."""

    def __init__(self, settings: PageSettings) -> None:
        self.session = gr.State(Session(), time_to_live=settings.delete_uploads_after_seconds)
        scripted("keys", render("header.html"), elem_id="header")
        with gr.Row(elem_id="room"):
            with gr.Column(elem_id="image-side"):
                self.viewer = scripted(
                    "viewer",
                    render("viewer.html"),
                    events=("set_region",),
                    words=strings.VIEWER_WORDS,
                    value=[],
                    elem_id="viewer",
                )
                with gr.Row(elem_id="opening"):
                    self.upload = image_field(
                        label=strings.UPLOAD, file_count="multiple", elem_id="upload", height=88
                    )
                    self.example = gr.Button(
                        strings.EXAMPLE, size="sm", elem_id="example", min_width=90
                    )
            with gr.Column(elem_id="draft-side"):
                with gr.Row(elem_id="asking"):
                    self.indication = text_field(
                        strings.INDICATION,
                        max_length=MAX_INDICATION,
                        elem_id="indication",
                    )
                    self.start = gr.Button(
                        strings.DRAFT_BUTTON, variant="primary", elem_id="draft-it"
                    )
                    self.stop = gr.Button(strings.STOP_BUTTON, elem_id="stop")
                self.waiting = gr.HTML("", elem_id="waiting")
                self.draft = scripted(
                    "draft",
                    "${value}",
                    events=("act",),
                    words={"edit": strings.EDIT, "save": strings.SAVE, "cancel": strings.CANCEL},
                    value=draft_html(None),
                    elem_id="draft",
                )
                gr.HTML(render("dock.html"), elem_id="dock")
                with gr.Column(elem_id="signing"):
                    self.state = gr.HTML(state_html(None), elem_id="state")
                    with gr.Row():
                        self.signer = text_field(
                            strings.SIGNER,
                            max_length=120,
                            elem_id="signer",
                            min_width=100,
                        )
                        self.sign = gr.Button(
                            strings.SIGN, elem_id="sign", interactive=False, min_width=60
                        )
                        self.addendum = text_field(
                            strings.ADDENDUM,
                            max_length=2000,
                            elem_id="addendum",
                            visible=False,
                        )
                        self.add = gr.Button(
                            strings.ADD_ADDENDUM, elem_id="add-addendum", visible=False
                        )
                    self.exports = scripted(
                        "exports",
                        render("exports.html"),
                        events=("export",),
                        value=exports_value(ready=False, dicom=False),
                        elem_id="exports",
                    )
            with gr.Column(elem_id="evidence-side"):
                self.evidence = scripted(
                    "evidence",
                    "${value}",
                    events=("act", "redraft", "rule_out"),
                    value=evidence_html(None, attribution=""),
                    elem_id="evidence",
                )
                with gr.Accordion(strings.PROVENANCE, open=False, elem_id="provenance"):
                    self.provenance = gr.HTML()

    @property
    def shown(self) -> list[Any]:
        """The components that show the session."""
        return [
            *(self.session, self.draft, self.evidence, self.state, self.exports),
            *(self.provenance, self.sign, self.signer, self.addendum, self.add),
        ]


def add_client_api(drafts: DraftService, settings: PageSettings) -> None:
    """``/draft`` for `gradio_client`: the same as ``POST /api/draft``, without visible parts."""
    images = image_field(label="images", file_count="multiple", visible=False)
    indication = gr.Textbox("", label="indication", max_length=MAX_INDICATION, visible=False)
    region = gr.JSON({}, label="region", visible=False)
    prediction = gr.JSON(label="prediction", visible=False)

    def draft(
        images: list[str] | None, indication: str = "", region: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """A draft of one study, or why there is none: docs/predictions.md."""
        try:
            where = ReaderRegion.from_json(region or {})
        except RegionError as error:
            raise gr.Error(str(error), print_exception=False) from error
        contents = [Path(image).read_bytes() for image in images or []]
        return drafts.draft(contents, indication, where)[1]

    gr.Button(visible=False).click(
        draft,
        [images, indication, region],
        prediction,
        api_name="draft",
        concurrency_id=DRAFTING,
        concurrency_limit=settings.drafts_at_once,
    )
