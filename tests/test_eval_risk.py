"""Risk and coverage: exact on small runs, ties as the average of their orders."""

import itertools

import numpy as np
import pytest

from eval.metrics.base import Direction, mean_measure, mean_rows
from eval.risk import has_risk, risk_coverage

HIGH = mean_measure("score", Direction.HIGHER, column=0)
LOW = mean_measure("rate", Direction.LOWER, column=0)


def curve(values, confidence, measure=HIGH, **options):
    patients = [f"p{at}" for at in range(len(values))]
    rows = mean_rows(np.array(values, dtype=float)[:, None])
    (found,) = risk_coverage(rows, confidence, patients, [measure], **{"samples": 200, **options})
    return found


def test_aurc_by_hand() -> None:
    found = curve([1, 1, 0, 0], [0.9, 0.8, 0.7, 0.1])
    assert found["score"] == pytest.approx([1, 1, 2 / 3, 0.5])
    assert found["aurc"] == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    assert found["aurc_random"] == pytest.approx(0.5)
    assert (found["score_at"], found["score_all"]) == pytest.approx((0.5, 0.5))
    assert curve([1, 1, 0, 0], [0.9, 0.8, 0.7, 0.1], at=0.5)["score_at"] == pytest.approx(1)


def test_a_rate_has_its_risk_at_the_other_end() -> None:
    assert curve([0, 0, 1], [3, 2, 1], LOW)["aurc"] == pytest.approx((0 + 0 + 1 / 3) / 3)


def test_ties_count_as_the_average_of_all_their_orders() -> None:
    values = [1.0, 0.0, 0.25]
    orders = [curve(list(order), [3, 2, 1])["aurc"] for order in itertools.permutations(values)]
    assert curve(values, [7, 7, 7])["aurc"] == pytest.approx(np.mean(orders))


def test_the_interval_holds_the_estimate_and_is_seeded() -> None:
    generator = np.random.default_rng(0)
    values = generator.random(200)
    sureness = values + generator.normal(0, 0.2, 200)
    found = curve(values, sureness, seed=3)
    assert found["aurc_low"] < found["aurc"] < found["aurc_high"]
    assert found["score_at_low"] < found["score_at"] < found["score_at_high"]
    assert found["aurc"] < found["aurc_random"]
    assert curve(values, sureness, seed=3) == found


def test_the_interval_holds_the_estimate_where_the_surest_studies_have_no_score() -> None:
    values = np.random.default_rng(0).random(100)
    values[:80] = np.nan
    found = curve(values, np.arange(100, 0, -1))
    assert found["aurc_low"] < found["aurc"] < found["aurc_high"]


def test_only_measures_with_a_good_end_and_a_range_have_a_risk() -> None:
    assert has_risk(HIGH)
    assert not has_risk(mean_measure("words", Direction.NONE, column=0))
    assert not has_risk(mean_measure("x", Direction.LOWER, column=0, high=float("inf")))
