"""When nothing is drafted, and the confidence that ranks studies."""

from support.made_up_reports import made_up_hits

from rag.drafting.drafter import abstain_reason
from rag.prediction import Prediction
from rag.schema import PredictedFindings, Status
from rag.settings import AbstentionSettings

HITS = made_up_hits("R1", "R3")


def test_similar_reports_allow_a_draft() -> None:
    assert abstain_reason(HITS, AbstentionSettings(similarity=0.3)) is None


def test_no_report_allows_no_draft() -> None:
    assert abstain_reason([], AbstentionSettings()) == "no report is left to draft from"


def test_a_low_similarity_is_named_with_its_limit() -> None:
    nearest = max(hit.similarity for hit in HITS)
    reason = abstain_reason(HITS, AbstentionSettings(similarity=nearest + 0.05))
    assert reason
    assert f"{nearest:.2f}" in reason
    assert f"{nearest + 0.05:.2f}" in reason


def test_confidence_is_the_largest_label_probability() -> None:
    predicted = PredictedFindings({"Edema": 0.2, "granuloma": 0.9})
    assert Prediction("image", Status.OK, predicted=predicted).confidence == 0.2
    assert Prediction("image", Status.OK).confidence is None
