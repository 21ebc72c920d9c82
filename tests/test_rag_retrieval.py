"""Each retrieval step on its own, on made-up hits."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.made_up_reports import made_up_hits

from rag.report_nlp.sentences import with_sentences
from rag.retriever import cover_findings, reciprocal_rank_fusion, rerank_by_findings
from rag.schema import PredictedFindings

HITS = made_up_hits("R3", "R4", "R2", "R1")  # R1 and R2 state an enlarged heart
ENLARGED = PredictedFindings({"Cardiomegaly": 0.8, "Pleural Effusion": 0.1}, ("Cardiomegaly",))
NORMAL = PredictedFindings({"Cardiomegaly": 0.1, "Pleural Effusion": 0.1}, ())


def ids(hits: list) -> list[str]:  # type: ignore[type-arg]
    return [hit.record.report_id for hit in hits]


def test_reports_that_state_the_predicted_findings_move_up() -> None:
    assert ids(rerank_by_findings(HITS, ENLARGED, penalty=0.5)) == ["R2", "R1", "R3", "R4"]
    assert ids(rerank_by_findings(HITS, NORMAL, penalty=0.5)) == ["R3", "R4", "R2", "R1"]


@pytest.mark.parametrize(("predicted", "penalty"), [(PredictedFindings(), 0.5), (ENLARGED, 0.0)])
def test_without_predictions_or_penalty_the_order_stays(
    predicted: PredictedFindings, penalty: float
) -> None:
    assert rerank_by_findings(HITS, predicted, penalty=penalty) == HITS


def test_a_predicted_finding_gets_a_report_that_states_it() -> None:
    covered = cover_findings(HITS, ENLARGED, k=2)
    assert ids(covered) == ["R3", "R2"]
    assert covered[1].why == "fetched for cardiomegaly"


def test_covered_findings_and_those_no_report_states_change_nothing() -> None:
    assert ids(cover_findings(HITS, ENLARGED, k=3)) == ["R3", "R4", "R2"]
    fracture = PredictedFindings({"Fracture": 0.9}, ("Fracture",))
    assert ids(cover_findings(HITS, fracture, k=2)) == ["R3", "R4"]


def test_the_only_source_of_a_finding_is_not_replaced() -> None:
    record = replace(HITS[0].record, findings="Small left pleural effusion.", impression="")
    effusion = replace(HITS[0], record=with_sentences(record))
    both = PredictedFindings({}, ("Pleural Effusion", "Cardiomegaly"))
    assert cover_findings([effusion, *HITS[1:]], both, k=1) == [effusion]


def test_a_finding_that_no_report_states_replaces_nothing() -> None:
    both = PredictedFindings({"Cardiomegaly": 0.8, "Fracture": 0.9}, ("Fracture", "Cardiomegaly"))
    assert ids(cover_findings(HITS[2:] + HITS[:2], both, k=1)) == ["R2"]


@given(st.lists(st.permutations("abcde"), min_size=1, max_size=4))
def test_fusion_keeps_every_id_once_and_a_common_first_wins(rankings: list[list[str]]) -> None:
    fused = reciprocal_rank_fusion(rankings)
    assert sorted(fused) == list("abcde")
    if all(ranking[0] == rankings[0][0] for ranking in rankings):
        assert fused[0] == rankings[0][0]


def test_fusion_takes_rankings_with_missing_ids() -> None:
    assert reciprocal_rank_fusion([["a", "b"], ["b"]]) == ["b", "a"]
