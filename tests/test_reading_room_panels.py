"""The panels as pure functions: what is shown and marked, and that it is escaped."""

import json
import re
from dataclasses import replace
from html import unescape

import numpy as np
from support.made_up_reports import made_up_hits

from encoders.base import View
from rag.change import PriorEvidence
from rag.export.text import as_text
from rag.grounding import Verdict, check_draft
from rag.localization import MapMeasure
from rag.prediction import Prediction
from rag.priors import Prior
from rag.review.reviewed_report import ReviewedReport, Signature
from rag.schema import (
    NOTICE,
    PRIOR,
    Draft,
    DraftSentence,
    PredictedFindings,
    Section,
    Status,
)
from rag.study import ReaderRegion
from reading_room import strings
from reading_room.draft_panel import draft_html, provenance_html
from reading_room.evidence_panel import evidence_html, prior_html, rank_move, rank_summary
from reading_room.image_panel import ShownImage, viewer_value
from reading_room.session import Session
from reading_room.templating import render

PREDICTION = Prediction(
    file="image.dcm",
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
DRAFTED = Session(prediction=PREDICTION)


def test_each_citation_links_to_its_report_card() -> None:
    assert 'href="#report-R1"' in draft_html(DRAFTED)
    assert 'id="report-R1"' in evidence_html(DRAFTED, attribution="")


def test_a_quoted_sentence_is_marked_only_in_its_report() -> None:
    html = evidence_html(DRAFTED, attribution="")
    assert html.count("<mark") == 1
    assert ">The heart is enlarged.</mark> <span" in html
    assert "cited by F1" in html
    assert "not cited" in html


def test_only_stated_findings_have_regions() -> None:
    sentences = ("Small left pleural effusion.", "No pleural effusion.", "The heart is normal.")
    draft = Draft(tuple(DraftSentence(text, ("R1",)) for text in sentences), ())
    maps = {"Effusion": np.pad(np.full((2, 2), 3.0, np.float32), 6, constant_values=-6)}
    measures = {"Effusion": MapMeasure(82, 123)}
    drafted = Session(prediction=replace(PREDICTION, draft=draft, maps=maps))
    html = draft_html(drafted, map_measures=measures)
    attributes = re.findall(r'data-regions="(.*?)"', html)
    regions = [json.loads(unescape(attribute)) for attribute in attributes]
    assert [len(found) for found in regions] == [1, 0, 0]
    assert "experimental" in regions[0][0]["words"]
    assert "82 %" in regions[0][0]["words"]
    assert "has not been measured" in draft_html(drafted)


def test_a_failure_shows_its_reason_and_keeps_the_evidence() -> None:
    error = "LlmUnavailableError"
    failed = Session(
        prediction=replace(PREDICTION, status=Status.FAILED, error=error, reason="no <x>")
    )
    html = draft_html(failed)
    assert "LlmUnavailableError" in html
    assert "no &lt;x&gt;" in html
    assert "report-R3" in evidence_html(failed, attribution="")


def test_text_from_reports_and_models_is_escaped() -> None:
    malicious = DraftSentence("<script>alert(1)</script>", ('"><img>',))
    html = draft_html(Session(prediction=replace(PREDICTION, draft=Draft((malicious,), ()))))
    assert "<script>" not in html
    assert "<img>" not in html
    assert "<b>hi</b>" not in provenance_html(PREDICTION)
    assert "<i>" not in evidence_html(DRAFTED, attribution="<i>")


def test_the_empty_page_says_what_will_appear() -> None:
    assert "hint" in draft_html(Session())
    assert "hint" in evidence_html(Session(), attribution="x")
    assert provenance_html(None) == ""


def test_an_unsupported_sentence_has_a_sign_and_a_word() -> None:
    draft = Draft((DraftSentence("The nasogastric tube ends in the stomach.", ("R1",)),), ())
    check = check_draft(draft, PREDICTION.hits)
    found, report = replace(PREDICTION, draft=draft), ReviewedReport.from_draft(draft)
    html = draft_html(Session(prediction=found, report=report, check=check))
    assert 'class="line unsupported open"' in html
    assert '<span class="word">unsupported</span>' in html
    assert "no cited report says this about the enteric tube" in html


def test_the_page_and_the_text_export_mark_a_sentence_in_the_same_words() -> None:
    denied = DraftSentence("There is no pleural effusion.", ("R1",))
    draft = Draft((denied, DraftSentence("The heart is enlarged.", ("R1",))))
    labels = {"Pleural Effusion": 0.06, "Cardiomegaly": 0.01}
    predicted = PredictedFindings(labels, threshold=0.3)
    check = check_draft(draft, PREDICTION.hits, image_labels=labels)
    found = replace(PREDICTION, draft=draft, predicted=predicted, check=check)
    report = ReviewedReport.from_draft(draft)
    html = unescape(draft_html(Session(prediction=found, report=report, check=check)))
    text = as_text(found)
    for mark in (
        "image: likely (pleural effusion probability 0.06)",
        "image: UNLIKELY (cardiomegaly probability 0.01)",
    ):
        assert mark in html
        assert f"({mark})" in text
    assert f">{Verdict.CONTRADICTED_BY_IMAGE}</span>" in html
    assert f"({Verdict.CONTRADICTED_BY_IMAGE.upper()})" in text


def test_a_sentence_citing_the_prior_links_to_it() -> None:
    evidence = PriorEvidence(report="The heart is normal. <No> effusion.", days_before=9)
    draft = Draft((DraftSentence("The heart is enlarged, new since the prior study.", (PRIOR,)),))
    found = replace(PREDICTION, draft=draft, prior=evidence)
    report, check = ReviewedReport.from_draft(draft), check_draft(draft, found.hits)
    html = draft_html(Session(prediction=found, report=report, check=check))
    assert 'href="#report-prior"' in html
    assert ">prior</a>" in html
    assert "The heart is normal." in html
    session = Session(
        prediction=found, prior=Prior("The heart is normal."), prior_evidence=evidence
    )
    panel = prior_html(session)
    assert 'id="report-prior"' in panel
    assert "&lt;No&gt;" in panel
    assert "9 days earlier" in panel
    assert strings.NO_CHANGES in prior_html(
        replace(session, prior_evidence=None)
    )  # not compared yet
    assert prior_html(Session(prediction=PREDICTION)) == ""


def test_a_signed_report_offers_no_actions() -> None:
    report = (
        ReviewedReport.from_draft(PREDICTION.draft)
        .accept([0])
        .sign(Signature("Roe", "2026-01-02T03:04:05Z"))
    )
    check = check_draft(report.as_draft(), PREDICTION.hits)
    html = draft_html(replace(DRAFTED, report=report, check=check))
    assert "data-op" not in html
    assert "data-add" not in html
    evidence = evidence_html(replace(DRAFTED, report=report), attribution="")
    assert "data-use" not in evidence
    assert "data-act" not in evidence


def test_every_section_offers_its_normal_phrases() -> None:
    report = ReviewedReport.from_draft(PREDICTION.draft)
    check = check_draft(report.as_draft(), PREDICTION.hits)
    html = draft_html(replace(DRAFTED, report=report, check=check))
    for section in Section:
        assert strings.PHRASES[section]
        for phrase in strings.PHRASES[section]:
            assert f"<option>{phrase}</option>" in html


def test_a_report_ruled_out_is_marked_and_can_be_excluded_from_the_next_draft() -> None:
    html = evidence_html(replace(DRAFTED, ruled_out=frozenset({"R3"})), attribution="")
    assert 'class="card ruled-out" id="report-R3"' in html
    assert html.count('aria-pressed="true"') == 1
    assert strings.REDRAFT_WITHOUT.format(1) in html


def test_an_image_is_named_by_its_view_never_by_its_file() -> None:
    path = "/uploads/DOE^JANE.dcm"
    image = ShownImage(path, "image/x", sha256="0", view=View.LATERAL, has_spacing=False)
    (shown,) = viewer_value((image,))
    assert shown["name"] == strings.LATERAL
    assert shown["spacing_note"] == strings.NO_SPACING
    assert "JANE" not in str(shown)


def test_every_viewer_tool_has_a_name_and_a_key() -> None:
    html = render("viewer.html")
    buttons = html.count("<button")
    assert buttons == sum(
        map(len, (strings.TOOLS, strings.PRESETS, strings.SWITCHES, strings.ACTIONS))
    )
    assert html.count("aria-keyshortcuts=") == buttons
    assert html.count("aria-label=") >= buttons


def test_the_text_export_has_notice_citations_and_evidence() -> None:
    text = as_text(PREDICTION)
    assert text.count(NOTICE) == 2
    assert "The heart is enlarged. [R1]" in text
    assert "[R3] 0.700" in text
    failed = as_text(replace(PREDICTION, status=Status.FAILED, reason="because", draft=Draft()))
    assert "because" in failed
    assert "stand as drafted" not in failed


def test_sentences_that_contradict_each_other_are_marked() -> None:
    report = ReviewedReport.from_draft(PREDICTION.draft).add(
        Section.IMPRESSION, "Heart size is normal."
    )
    check = check_draft(report.as_draft(), PREDICTION.hits)
    html = draft_html(replace(DRAFTED, report=report, check=check))
    assert strings.CONTRADICTS.format("I1") in html
    assert strings.CONTRADICTS.format("F1") in html
    assert "contradicts" not in draft_html(
        replace(DRAFTED, report=ReviewedReport.from_draft(PREDICTION.draft))
    )


def test_every_card_shows_how_the_region_moved_it() -> None:
    session = replace(
        DRAFTED,
        image_hits=tuple(made_up_hits("R1", "R2")),
        region_hits=tuple(made_up_hits("R3", "R2")),
        region=ReaderRegion(boxes=((0.1, 0.1, 0.3, 0.3),)),
    )
    html = evidence_html(session, attribution="")
    assert 'class="card new" id="report-R3"' in html
    assert 'class="card same" id="report-R2"' in html
    assert html.index(strings.NO_LONGER_RETRIEVED) < html.index('id="report-R1"')
    assert strings.RANK_CHANGES.format(1, 1, 0) in html
    assert strings.DRAFT_WITH_REGION in html
    assert "experimental" in html
    without = replace(DRAFTED, image_hits=tuple(made_up_hits("R1", "R3")))
    assert evidence_html(without, attribution="") == evidence_html(DRAFTED, attribution="")


def test_a_moved_report_shows_its_previous_rank() -> None:
    session = Session(
        image_hits=tuple(made_up_hits("R1", "R2", "R3")),
        region_hits=tuple(made_up_hits("R3", "R1", "R2")),
        region=ReaderRegion(boxes=((0.1, 0.1, 0.3, 0.3),)),
    )
    assert rank_move(session, "R3") == ("up", strings.MOVED.format("↑", 3))
    assert rank_move(session, "R1") == ("down", strings.MOVED.format("↓", 1))
    assert rank_summary(session) == strings.RANK_CHANGES.format(0, 0, 3)
    steered = rank_summary(replace(session, region_finding="effusion"))
    assert steered == strings.STEERED_TO.format("effusion") + rank_summary(session)
