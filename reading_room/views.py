"""What the components show of a session: new values for them, as a Gradio event returns."""

from typing import Any

import gradio as gr

from rag.localization import Measures
from reading_room import strings
from reading_room.current import Current
from reading_room.draft_panel import draft_html, exports_value, provenance_html, state_html
from reading_room.evidence_panel import evidence_html, prior_html, rank_changes
from reading_room.image_panel import viewer_value
from reading_room.layout import PageParts
from reading_room.session import Session

Update = dict[Any, Any]
"""New values by component: what a Gradio event may return."""


class Views:
    """Renders sessions into the components.

    Args:
        parts: the components.
        attribution: licence line of the collection.
        map_measures: how often the encoder's finding maps point at the right place.
    """

    def __init__(self, parts: PageParts, *, attribution: str, map_measures: Measures) -> None:
        self._parts = parts
        self._attribution = attribution
        self._map_measures = map_measures

    def of(self, current: Current) -> Update:
        """The session, and every panel that shows it."""
        session, parts = current.session, self._parts
        report, shown = session.report, session.shown
        drafted = session.prediction and shown
        signed = report is not None and report.signature is not None
        return {
            parts.session: current,
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
            parts.exports: exports(session),
            parts.provenance: provenance_html(session.prediction),
            parts.prior: prior_html(session),
            parts.drop_prior: gr.Button(visible=bool(session.prior) and not signed),
            parts.sign: gr.Button(interactive=_can_sign(session), visible=not signed),
            parts.signer: gr.Textbox(label=strings.ADDED_BY if signed else strings.SIGNER),
            parts.addendum: gr.Textbox(visible=signed),
            parts.add: gr.Button(visible=signed),
        }

    def with_viewer(self, current: Current) -> Update:
        """Every panel, and the viewer."""
        session = current.session
        shown = viewer_value(
            session.images,
            drafted=session.drafted,
            region=session.region,
            prior=session.prior_images,
            prior_date=session.prior.date,
        )
        return {**self.of(current), self._parts.viewer: shown}

    def no_prior_given(self) -> Update:
        """The fields for a prior, emptied."""
        parts = self._parts
        return {parts.prior_files: None, parts.prior_text: "", parts.prior_date: ""}


def _can_sign(session: Session) -> bool:
    report = session.report
    return bool(report and report.lines and not report.open_lines and not report.signature)


def exports(session: Session, *, file: str = "", number: int = 0) -> dict[str, Any]:
    """The value of the export buttons, and with it a file to be downloaded."""
    dicom = bool(session.images) and session.images[session.drafted].dicom
    return exports_value(ready=session.report is not None, dicom=dicom, file=file, number=number)
