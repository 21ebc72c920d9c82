"""The measures of retrieval against numbers worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from encoders.training.retrieval_metrics import (
    Interval,
    Votes,
    area_under_curve,
    bootstrap,
    nearest,
    overlap,
    own_rank,
    table,
    vote,
)

ALL = np.arange(3)


def example() -> Votes:
    """Three images, three findings; the third image has none."""
    truth = np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=bool)
    votes = np.array([[0.6, 0.0, 0.2], [0.2, 0.0, 0.4], [0.0, 0.0, 0.0]])
    return Votes(votes, truth)


def test_shares_by_hand() -> None:
    votes = example()
    assert votes.found(ALL) == pytest.approx(2 / 3)  # (0, a) and (1, c) of three
    assert votes.right(ALL) == pytest.approx(1.0 / 1.4)
    assert votes.micro_f1(ALL, least=0.4) == pytest.approx(2 * 2 / (2 + 3))
    assert votes.auc(ALL, 0) == 1.0
    assert votes.auc(ALL, 1) == 0.5  # all votes tie
    assert math.isnan(votes.found(np.array([2])))


def test_votes_are_shares_of_the_neighbours() -> None:
    labels = np.array([[1, 0], [1, 1], [0, 0]], dtype=bool)
    neighbours = np.array([[0, 1], [1, 2]])
    np.testing.assert_allclose(vote(neighbours, labels), [[1, 0.5], [0.5, 0.5]])


def test_overlap_counts_shared_labels_among_all() -> None:
    said = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 1]], dtype=bool)
    truth = np.array([[1, 0, 0], [0, 0, 0]], dtype=bool)
    neighbours = np.array([[0, 2], [1, 0]])
    np.testing.assert_allclose(overlap(neighbours, said, truth), [(0.5 + 0) / 2, (1 + 0) / 2])


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40).filter(
        lambda pairs: 0 < sum(truth for _, truth in pairs) < len(pairs)
    )
)
def test_the_area_is_that_of_scikit_learn(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in pairs], dtype=float)
    truth = np.array([truth for _, truth in pairs])
    assert area_under_curve(scores, truth) == pytest.approx(roc_auc_score(truth, scores))


def test_an_equal_text_is_the_own_report_and_counts_once() -> None:
    similarity = np.array([[0.9, 0.9, 0.8], [0.9, 0.9, 0.1], [0.9, 0.9, 0.2]])
    assert own_rank(similarity, ["same", "same", "other"]).tolist() == [1, 1, 2]


def test_nearest_is_best_first_and_breaks_ties_by_column() -> None:
    similarity = np.array([[0.1, 0.9, 0.9, 0.5]])
    assert nearest(similarity, 3).tolist() == [[1, 2, 3]]


def test_the_interval_holds_the_value_and_narrows_with_studies() -> None:
    generator = np.random.default_rng(0)
    few, many = generator.random(30), generator.random(3000)
    narrow = bootstrap(lambda rows: float(many[rows].mean()), studies=3000, resamples=200)
    wide = bootstrap(lambda rows: float(few[rows].mean()), studies=30, resamples=200)
    for interval in (narrow, wide):
        assert interval.low < interval.value < interval.high
    assert narrow.high - narrow.low < (wide.high - wide.low) / 3
    # The textbook's 1.96 standard errors, for a mean.
    assert narrow.high - narrow.low == pytest.approx(3.92 * many.std() / 3000**0.5, rel=0.2)


def test_the_table_is_markdown() -> None:
    rows = {"a": {"x": Interval(0.5, 0.4, 0.6, 10)}, "b": {"y": 1.0}}
    assert table(rows).splitlines() == [
        "| | x | y |",
        "|---|---|---|",
        "| a | 0.500 [0.400, 0.600] |  |",
        "| b |  | 1.0 |",
    ]
