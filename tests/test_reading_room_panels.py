"""Panels as pure functions: what is shown, what is marked, and that nothing is injected."""

from dataclasses import replace

import numpy as np
from made_up_reports import made_up_hits

from encoders.base import CxrImage
from rag.export import as_text
from rag.prediction import Prediction
from rag.schema import NOTICE, Draft, DraftSentence, Status
from reading_room.draft_panel import draft_html
from reading_room.evidence_panel import evidence_html
from reading_room.film_panel import film_picture
from reading_room.provenance_panel import provenance_html

PREDICTION = Prediction(
    file="film.dcm",
    status=Status.OK,
    draft=Draft((DraftSentence("The heart is enlarged.", ("R1",)),), ()),
    hits=tuple(made_up_hits("R1", "R3")),
    encoder_id="enc",
    index_id="idx",
    llm="model",
    prompt="select_v1",
    prompt_hash="abc",
    messages=(("user", "<b>hi</b>"),),
    seconds={"read": 0.5},
)


def test_each_citation_leads_to_a_card_on_the_page() -> None:
    assert 'href="#report-R1"' in draft_html(PREDICTION)
    assert 'id="report-R1"' in evidence_html(PREDICTION, attribution="")


def test_the_quoted_sentence_is_marked_in_its_report_only() -> None:
    html = evidence_html(PREDICTION, attribution="")
    assert html.count("<mark>") == 1
    assert "<mark>The heart is enlarged.</mark> The lungs are clear." in html
    assert "cited by F1" in html
    assert "not cited" in html


def test_a_failure_shows_its_reason_and_keeps_the_evidence() -> None:
    failed = replace(PREDICTION, status=Status.FAILED, error="LlmUnavailableError", reason="no <x>")
    html = draft_html(failed)
    assert "LlmUnavailableError" in html
    assert "no &lt;x&gt;" in html
    assert "report-R3" in evidence_html(failed, attribution="")


def test_text_of_reports_and_models_is_escaped() -> None:
    nasty = DraftSentence("<script>alert(1)</script>", ('"><img>',))
    html = draft_html(replace(PREDICTION, draft=Draft((nasty,), ())))
    assert "<script>" not in html
    assert "<img>" not in html
    assert "<b>hi</b>" not in provenance_html(PREDICTION)
    assert "<i>" not in evidence_html(PREDICTION, attribution="<i>")


def test_empty_page_says_what_will_appear() -> None:
    assert "hint" in draft_html(None)
    assert "hint" in evidence_html(None, attribution="x")
    assert provenance_html(None) == ""


def test_picture_is_grey_and_bounded() -> None:
    film = CxrImage(
        pixels=np.linspace(0, 1, 3000 * 2, dtype=np.float32).reshape(3000, 2), source_sha256=""
    )
    picture = film_picture(film)
    assert picture.mode == "L"
    assert max(picture.size) <= 1600


def test_text_export_carries_the_notice_citations_and_evidence() -> None:
    text = as_text(PREDICTION)
    assert text.count(NOTICE) == 2
    assert "The heart is enlarged. [R1]" in text
    assert "[R3] 0.700" in text
    failed = as_text(replace(PREDICTION, status=Status.FAILED, reason="because"))
    assert "because" in failed
