"""Scores and ranks against scikit-learn and ir-measures, with weights against repeated rows."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from eval.stats import roc_curve, weighted_auroc, weighted_average_precision
from eval.tasks.retrieval import ndcg, rank_relevant, weighted_median

SCORES = st.lists(
    st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 3)), min_size=2, max_size=25
)


@settings(max_examples=200)
@given(SCORES)
def test_weights_equal_repeated_images(rows: list[tuple[int, bool, int]]) -> None:
    scores, truth, times = (np.array(column) for column in zip(*rows, strict=True))
    scores, weights = scores.astype(float), times.astype(float)[None]
    repeated, repeated_truth = np.repeat(scores, times), np.repeat(truth, times)
    area = weighted_auroc(scores, truth, weights)[0]
    precision = weighted_average_precision(scores, truth, weights)[0]
    if len(set(repeated_truth)) < 2:
        assert np.isnan(area)
        return
    assert area == pytest.approx(roc_auc_score(repeated_truth, repeated))
    assert precision == pytest.approx(average_precision_score(repeated_truth, repeated))


def test_roc_curve_encloses_the_area() -> None:
    generator = np.random.default_rng(0)
    truth = generator.random(400) < 0.3
    scores = generator.normal(size=400) + truth
    false, true = roc_curve(scores, truth, points=401)
    area = weighted_auroc(scores, truth, np.ones((1, 400)))[0]
    assert np.trapezoid(true, false) == pytest.approx(area)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)


def test_weighted_median_is_the_lower_median_of_repeated_values() -> None:
    values = np.array([5.0, 1.0, 3.0, 9.0])
    weights = np.array([[1, 1, 1, 1], [0, 4, 1, 0], [3, 0, 0, 1]], dtype=float)
    assert weighted_median(values, weights).tolist() == [3, 1, 5]


def test_a_tie_counts_as_the_mean_over_its_orders() -> None:
    similarity = np.array([[0.9, 0.5, 0.5, 0.5, 0.1]])
    ranks = rank_relevant(similarity, np.array([[0, 1]]))
    assert ranks.recall(1)[0] == 0
    assert ranks.recall(2)[0] == pytest.approx(1 / 3)
    assert ranks.recall(3)[0] == pytest.approx(2 / 3)
    assert ranks.recall(10)[0] == 1
    assert ranks.reciprocal()[0] == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 3)
    assert ranks.rank()[0] == 3


def test_any_tied_relevant_item_is_a_hit() -> None:
    similarity = np.array([[0.9, 0.5, 0.5, 0.5, 0.5, 0.1], [0.2, 0.7, 0.7, 0.1, 0.1, 0.1]])
    right = np.array([[0, 1], [0, 3], [0, 5], [1, 1], [1, 2]])
    ranks = rank_relevant(similarity, right)
    orders = itertools.permutations((True, False, True, False))
    ranked = np.array([2 + order.index(True) for order in orders])  # after one better item
    for k in range(1, 7):
        assert ranks.recall(k) == pytest.approx([(ranked <= k).mean(), 1])
    assert ranks.reciprocal() == pytest.approx([(1 / ranked).mean(), 1])
    assert ranks.rank() == pytest.approx([ranked.mean(), 1])


def test_agrees_with_ir_measures() -> None:
    ir_measures = pytest.importorskip("ir_measures", reason="ir-measures 0.4.3 is not installed")
    generator = np.random.default_rng(4)
    similarity = generator.random((20, 30))
    labels = generator.random((20, 4)) < 0.4
    gallery = generator.random((30, 4)) < 0.4
    gains = labels.astype(float) @ gallery.T.astype(float)
    names = [f"d{i:02d}" for i in range(30)]
    run = [
        ir_measures.ScoredDoc(str(q), names[d], float(similarity[q, d]))
        for q in range(20)
        for d in range(30)
    ]
    graded = [
        ir_measures.Qrel(str(q), names[d], int(gains[q, d])) for q in range(20) for d in range(30)
    ]
    expected = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], graded, run)
    found = np.nan_to_num(ndcg(similarity, gains, 10))
    assert found.mean() == pytest.approx(expected[ir_measures.nDCG @ 10], abs=1e-4)
    own = [ir_measures.Qrel(str(q), names[q], 1) for q in range(20)]
    measures = [ir_measures.Success @ 1, ir_measures.Success @ 5, ir_measures.RR]
    expected = ir_measures.calc_aggregate(measures, own, run)
    ranks = rank_relevant(similarity, np.arange(20)[:, None].repeat(2, axis=1))
    assert ranks.recall(1).mean() == pytest.approx(expected[measures[0]])
    assert ranks.recall(5).mean() == pytest.approx(expected[measures[1]])
    assert ranks.reciprocal().mean() == pytest.approx(expected[measures[2]])


def test_a_query_without_gain_is_undefined() -> None:
    assert np.isnan(ndcg(np.array([[0.5, 0.1]]), np.zeros((1, 2)), 10)[0])
