"""Silence where there is no ground, and only there."""

import pytest
from made_up_reports import made_up_hits

from rag.predicted_findings import NO_PREDICTION, PredictedFindings
from rag.screening.abstention import confidence_of, disagreement, no_ground
from rag.settings import AbstentionSettings

LIMITS = AbstentionSettings(similarity=0.3, certainty=0.2, disagreement=0.6)
HITS = made_up_hits("R1", "R3")
SURE = PredictedFindings({"Cardiomegaly": 0.5}, ("Cardiomegaly",))


def test_a_image_with_near_reports_and_a_likely_label_is_drafted() -> None:
    assert no_ground(HITS, SURE, LIMITS) is None


def test_without_labels_only_the_reports_are_judged() -> None:
    assert no_ground(HITS, NO_PREDICTION, LIMITS) is None
    assert confidence_of(NO_PREDICTION) is None


def test_nothing_to_draft_from() -> None:
    assert no_ground([], SURE, LIMITS) == "no report is left to draft from"


def test_nothing_similar_names_both_numbers() -> None:
    nearest = max(hit.similarity for hit in HITS)
    limits = AbstentionSettings(similarity=nearest + 0.05)
    reason = no_ground(HITS, SURE, limits)
    assert reason
    assert f"{nearest:.2f}" in reason
    assert f"{nearest + 0.05:.2f}" in reason


def test_labels_that_commit_to_nothing() -> None:
    reason = no_ground(HITS, PredictedFindings({"No Finding": 0.1, "Edema": 0.05}), LIMITS)
    assert reason
    assert "commit to nothing" in reason


def test_reports_that_contradict_the_labels() -> None:
    predicted = PredictedFindings({"Cardiomegaly": 0.01, "Pneumothorax": 0.98}, ("Pneumothorax",))
    hits = made_up_hits("R1", "R1")  # both state an enlarged heart
    assert disagreement(hits, predicted) == pytest.approx((0.99 + 0.98) / 2)
    reason = no_ground(hits, predicted, LIMITS)
    assert reason
    assert "contradict" in reason


def test_agreement_is_no_distance() -> None:
    hits = made_up_hits("R1", "R1")
    assert disagreement(hits, PredictedFindings({"Cardiomegaly": 1.0}, ("Cardiomegaly",))) == 0
    assert disagreement(hits, NO_PREDICTION) == 0
