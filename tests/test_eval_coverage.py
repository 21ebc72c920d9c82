"""Simulated coverage of the bootstrap intervals."""

import pytest
from support.bootstrap_coverage import area_coverage, coverage


@pytest.mark.slow
def test_the_interval_contains_the_true_value_in_95_of_100_data_sets() -> None:
    """1 000 simulations a case: within 1.5 points, and two standard errors of the simulation.

    docs/metrics.md has 2 000 simulations, more cases, and what happens if patients are ignored.
    """
    shares = []
    for case in ("mean of a skewed score", "BLEU-4", "micro F1-14"):
        found = coverage(case, patients=150, simulations=1_000, samples=600)
        assert abs(found.share - 0.95) <= 0.015 + 2 * found.error, (case, found)
        shares.append(found.share)
    assert abs(sum(shares) / len(shares) - 0.95) <= 0.015


@pytest.mark.slow
def test_auroc_intervals_have_nominal_coverage_and_average_precision_does_not() -> None:
    """As docs/metrics.md says: with few images average precision is too high."""
    found = area_coverage(simulations=100, samples=200)
    assert found["macro AUROC"].share > 0.88
    assert found["macro AP"].share < 0.6
