"""Intervals and tests: against scipy, against exact answers, and against simulation."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from eval.metrics.base import Direction, Measure, mean_measure, mean_rows
from eval.stats import (
    bootstrap,
    group_sums,
    holm,
    intervals,
    randomisation_test,
    resample_weights,
    summed_statistic,
)

MEAN = mean_measure("mean", Direction.HIGHER, column=0)


def resampled(
    rows: NDArray[np.float64],
    groups: list[str],
    *,
    measure: Measure = MEAN,
    samples: int = 10_000,
    seed: int = 0,
) -> NDArray[np.float64]:
    statistic = summed_statistic([measure], rows, groups)
    return bootstrap([statistic], groups, samples=samples, seed=seed)


def patient_each(count: int) -> list[str]:
    return [f"p{i:04d}" for i in range(count)]


def test_interval_equals_scipys_without_repeated_patients() -> None:
    values = np.random.default_rng(3).beta(2, 3, size=120)
    drawn = resampled(mean_rows(values[:, None]), patient_each(120), samples=20_000, seed=1)
    ((low, high),) = intervals(drawn)
    expected = scipy_stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=2
    ).confidence_interval
    assert low == pytest.approx(expected.low, abs=0.002)
    assert high == pytest.approx(expected.high, abs=0.002)


def test_repeating_every_study_of_a_patient_does_not_narrow_the_interval() -> None:
    rows = mean_rows(np.random.default_rng(0).random((80, 1)))
    once = intervals(resampled(rows, patient_each(80), seed=4))[0]
    thrice = intervals(resampled(np.tile(rows, (3, 1)), patient_each(80) * 3, seed=4))[0]
    assert thrice == pytest.approx(once, rel=1e-12)
    pretending = intervals(resampled(np.tile(rows, (3, 1)), patient_each(240), seed=4))[0]
    assert np.ptp(pretending) < 0.7 * np.ptp(once)


def test_the_same_seed_gives_the_same_resamples_in_any_block_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def total(seed: int) -> NDArray[np.float64]:
        return np.concatenate(list(resample_weights(patient_each(17), samples=50, seed=seed)))

    whole = total(5)
    assert np.array_equal(whole.sum(axis=1), np.full(50, 17))
    monkeypatch.setattr("eval.stats._BLOCK_CELLS", 17 * 8)
    assert np.array_equal(total(5), whole)
    assert not np.array_equal(total(6), whole)


def test_resampling_a_corpus_measure_equals_scoring_the_resample() -> None:
    ratio = Measure("ratio", Direction.HIGHER, 0, 1, lambda rows: rows[..., 0] / rows[..., 1])
    rows = np.random.default_rng(1).integers(1, 9, size=(30, 2)).astype(float)
    patients = [f"p{i // 2:02d}" for i in range(30)]
    drawn = resampled(rows, patients, measure=ratio, samples=7, seed=9)
    weights = np.concatenate(list(resample_weights(patients, samples=7, seed=9)))
    for value, times in zip(drawn[:, 0], weights, strict=True):
        chosen = np.repeat(rows, times.astype(int), axis=0)
        assert value == pytest.approx(chosen[:, 0].sum() / chosen[:, 1].sum(), rel=1e-12)


def test_randomisation_agrees_with_the_exact_permutation_test() -> None:
    generator = np.random.default_rng(8)
    first, second = generator.random(11), generator.random(11) + 0.25
    differences = second - first
    signs = np.array(list(itertools.product([1, -1], repeat=11)))
    permuted = np.abs((signs * differences).mean(axis=1))
    exact = (permuted >= abs(differences.mean()) - 1e-12).mean()
    found = randomisation_test(
        mean_rows(first[:, None]),
        mean_rows(second[:, None]),
        patient_each(11),
        [MEAN],
        samples=40_000,
    )
    assert found[0] == pytest.approx(exact, abs=0.006)


def test_equal_runs_have_p_1() -> None:
    rows = mean_rows(np.random.default_rng(0).random((20, 1)))
    assert randomisation_test(rows, rows, patient_each(20), [MEAN], samples=100)[0] == 1.0


def test_swaps_with_an_undefined_score_do_not_count() -> None:
    # one run states a finding for the first patient, rightly, the other for the second, wrongly
    first, second = mean_rows([[1.0], [np.nan]]), mean_rows([[np.nan], [0.0]])
    p = randomisation_test(first, second, patient_each(2), [MEAN], samples=1_000)
    assert p[0] == 1.0


@settings(max_examples=100)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_the_step_down_rule(values: list[float]) -> None:
    ordered = sorted(values)
    count = len(values)
    # the definition, written out
    expected = [max(min(1.0, (count - j) * ordered[j]) for j in range(i + 1)) for i in range(count)]
    assert sorted(holm(values)) == pytest.approx(expected)
    assert all(after >= before for before, after in zip(values, holm(values), strict=True))


def test_holm_leaves_undefined_tests_out_of_the_family() -> None:
    adjusted = holm([0.01, float("nan"), 0.04])
    assert adjusted[0] == pytest.approx(0.02)
    assert np.isnan(adjusted[1])
    assert adjusted[2] == pytest.approx(0.04)


def test_rows_are_summed_by_patient() -> None:
    rows = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    assert group_sums(rows, ["b", "a", "b"]).tolist() == [[2.0, 20.0], [5.0, 50.0]]


def test_an_undefined_measure_has_no_interval() -> None:
    rows = np.zeros((5, 2))
    assert np.isnan(intervals(resampled(rows, patient_each(5), samples=20))).all()
