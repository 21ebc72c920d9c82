"""Risk and coverage: exact on small runs, ties as the mean over their orders."""

import itertools

import numpy as np
import pytest

from eval.metrics.base import Direction, mean_measure, mean_rows
from eval.metrics.findings import LABELS, label_counts, label_measures
from eval.risk import has_risk, risk_coverage

HIGH = mean_measure("score", Direction.HIGHER, column=0)
LOW = mean_measure("rate", Direction.LOWER, column=0)


def curve(values, confidence, measure=HIGH, **options):
    patients = [f"p{i}" for i in range(len(values))]
    rows = mean_rows(np.array(values, dtype=float)[:, None])
    (found,) = risk_coverage(rows, confidence, patients, [measure], **{"samples": 200, **options})
    return found


def test_aurc_by_hand() -> None:
    found = curve([1, 1, 0, 0], [0.9, 0.8, 0.7, 0.1])
    assert found["score"] == pytest.approx([1, 1, 2 / 3, 0.5])
    assert found["aurc"] == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    assert found["aurc_random"] == pytest.approx(0.5)
    assert (found["score_at"], found["score_all"]) == pytest.approx((0.5, 0.5))
    assert curve([1, 1, 0, 0], [0.9, 0.8, 0.7, 0.1], coverage=0.5)["score_at"] == pytest.approx(1)


def test_the_risk_of_a_rate_is_the_rate() -> None:
    assert curve([0, 0, 1], [3, 2, 1], LOW)["aurc"] == pytest.approx((0 + 0 + 1 / 3) / 3)


def test_ties_count_as_the_mean_over_their_orders() -> None:
    values = [1.0, 0.0, 0.25]
    orders = [curve(list(order), [3, 2, 1])["aurc"] for order in itertools.permutations(values)]
    for tied in (7, float("-inf")):  # a missing draft has the least confidence
        assert curve(values, [tied] * 3)["aurc"] == pytest.approx(np.mean(orders))


def test_the_interval_contains_the_estimate_and_is_seeded() -> None:
    generator = np.random.default_rng(0)
    values = generator.random(200)
    confidence = values + generator.normal(0, 0.2, 200)
    found = curve(values, confidence, seed=3)
    assert found["aurc_low"] < found["aurc"] < found["aurc_high"]
    assert found["score_at_low"] < found["score_at"] < found["score_at_high"]
    assert found["aurc"] < found["aurc_random"]
    assert curve(values, confidence, seed=3) == found


def test_tied_studies_are_resampled_too() -> None:
    values = np.random.default_rng(0).random(200)
    tied = curve(values, [1.0] * 20 + [0.5] * 180, coverage=1)
    untied = curve(values, np.arange(200, 0, -1), coverage=1)
    # at full coverage the order does not matter
    assert tied["score_at_low"] == pytest.approx(untied["score_at_low"])
    assert tied["score_at_high"] == pytest.approx(untied["score_at_high"])
    error = 1.96 * values.std() / len(values) ** 0.5
    assert tied["aurc_high"] - tied["aurc_low"] == pytest.approx(2 * error, rel=0.4)


def test_the_interval_contains_the_estimate_if_the_most_confident_studies_have_no_score() -> None:
    values = np.random.default_rng(0).random(100)
    values[:80] = np.nan
    found = curve(values, np.arange(100, 0, -1))
    assert found["aurc_low"] < found["aurc"] < found["aurc_high"]


def test_uninformative_confidence_has_the_random_aurc_also_for_a_macro_mean() -> None:
    generator = np.random.default_rng(0)
    shares = np.linspace(0.01, 0.3, len(LABELS))
    reference, other = (generator.random((100, len(LABELS))) < shares for _ in range(2))
    draft = np.where(generator.random((100, 1)) < 0.5, reference, other)
    rows = np.array(
        [label_counts(np.stack([reference[i]] * 2), np.stack([draft[i]] * 2)) for i in range(100)]
    )
    macro = next(measure for measure in label_measures() if measure.name.startswith("macro F1-14"))
    patients = [f"p{i}" for i in range(100)]
    found = [
        risk_coverage(rows, generator.permutation(100), patients, [macro], samples=2)[0]
        for _ in range(100)
    ]
    aurc = np.array([curve_of_run["aurc"] for curve_of_run in found])
    error = aurc.std() / 10
    assert found[0]["aurc_random"] == pytest.approx(aurc.mean(), abs=4 * error)
    assert found[0]["aurc_random"] > 1 - found[0]["score_all"] + 4 * error


def test_only_measures_with_a_direction_and_a_range_have_a_risk() -> None:
    assert has_risk(HIGH)
    assert not has_risk(mean_measure("words", Direction.NONE, column=0))
    assert not has_risk(mean_measure("x", Direction.LOWER, column=0, high=float("inf")))
