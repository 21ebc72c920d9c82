"""Each retrieval step on its own, on made-up hits."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.made_up_reports import made_up_hits

from rag.report_nlp.sentences import with_sentences
from rag.retriever import cover_expected, fuse, order_by_agreement
from rag.schema import PredictedFindings

HITS = made_up_hits("R3", "R4", "R2", "R1")  # R1 and R2 state an enlarged heart
ENLARGED = PredictedFindings({"Cardiomegaly": 0.8, "Pleural Effusion": 0.1}, ("Cardiomegaly",))
NORMAL = PredictedFindings({"Cardiomegaly": 0.1, "Pleural Effusion": 0.1}, ())


def ids(hits: list) -> list[str]:  # type: ignore[type-arg]
    return [hit.record.report_id for hit in hits]


def test_agreement_moves_reports_that_say_what_the_image_shows() -> None:
    assert ids(order_by_agreement(HITS, ENLARGED, weight=0.5)) == ["R2", "R1", "R3", "R4"]
    assert ids(order_by_agreement(HITS, NORMAL, weight=0.5)) == ["R3", "R4", "R2", "R1"]


@pytest.mark.parametrize(("predicted", "weight"), [(PredictedFindings(), 0.5), (ENLARGED, 0.0)])
def test_agreement_switched_off_leaves_the_order(
    predicted: PredictedFindings, weight: float
) -> None:
    assert order_by_agreement(HITS, predicted, weight=weight) == HITS


def test_an_expected_finding_gets_a_report_that_states_it() -> None:
    covered = cover_expected(HITS, ENLARGED, k=2)
    assert ids(covered) == ["R3", "R2"]
    assert covered[1].why == "fetched for cardiomegaly"


def test_what_is_covered_already_or_cannot_be_covered_changes_nothing() -> None:
    assert ids(cover_expected(HITS, ENLARGED, k=3)) == ["R3", "R4", "R2"]
    fracture = PredictedFindings({"Fracture": 0.9}, ("Fracture",))
    assert ids(cover_expected(HITS, fracture, k=2)) == ["R3", "R4"]


def test_where_every_report_is_needed_none_is_added() -> None:
    record = replace(HITS[0].record, findings="Small left pleural effusion.", impression="")
    effusion = replace(HITS[0], record=with_sentences(record))
    both = PredictedFindings({}, ("Pleural Effusion", "Cardiomegaly"))
    assert cover_expected([effusion, *HITS[1:]], both, k=1) == [effusion]


def test_the_only_report_of_an_expected_finding_is_not_given_up_for_another() -> None:
    both = PredictedFindings({"Cardiomegaly": 0.8, "Fracture": 0.9}, ("Fracture", "Cardiomegaly"))
    assert ids(cover_expected(HITS[2:] + HITS[:2], both, k=1)) == ["R2"]


@given(st.lists(st.permutations("abcde"), min_size=1, max_size=4))
def test_fusion_keeps_every_id_once_and_agreement_wins(rankings: list[list[str]]) -> None:
    fused = fuse(rankings)
    assert sorted(fused) == list("abcde")
    if all(ranking[0] == rankings[0][0] for ranking in rankings):
        assert fused[0] == rankings[0][0]


def test_fusion_weights_and_missing_ids() -> None:
    assert fuse([["a", "b"], ["b"]]) == ["b", "a"]
