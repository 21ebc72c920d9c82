"""Silence where there is no ground for a draft, and only there."""

from support.made_up_reports import made_up_hits

from rag.drafting.drafter import abstain_reason
from rag.prediction import Prediction
from rag.schema import PredictedFindings, Status
from rag.settings import AbstentionSettings

HITS = made_up_hits("R1", "R3")


def test_an_image_with_near_reports_is_drafted() -> None:
    assert abstain_reason(HITS, AbstentionSettings(similarity=0.3)) is None


def test_nothing_to_draft_from() -> None:
    assert abstain_reason([], AbstentionSettings()) == "no report is left to draft from"


def test_nothing_similar_names_both_numbers() -> None:
    nearest = max(hit.similarity for hit in HITS)
    reason = abstain_reason(HITS, AbstentionSettings(similarity=nearest + 0.05))
    assert reason
    assert f"{nearest:.2f}" in reason
    assert f"{nearest + 0.05:.2f}" in reason


def test_confidence_is_that_of_the_surest_label() -> None:
    predicted = PredictedFindings({"Edema": 0.2, "granuloma": 0.9})
    assert Prediction("image", Status.OK, predicted=predicted).confidence == 0.2
    assert Prediction("image", Status.OK).confidence is None
