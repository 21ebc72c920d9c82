"""Conformal risk control keeps its promise on studies like those it was made of."""

from pathlib import Path

import numpy as np
import pytest

from rag.errors import CalibrationError
from rag.screening.calibration import (
    Calibration,
    calibrated_probabilities,
    false_positive_thresholds,
    fit_calibration,
    measure_auc,
    read_calibration,
)

pytestmark = pytest.mark.slow

NAMES = ("No Finding", "Cardiomegaly", "Edema", "Pneumothorax", "Support Devices")


def made_up(count: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds that are too sure by a factor of two, and what is really there."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-2, 1.5, (count, len(NAMES)))
    present = rng.random(true.shape) < 1 / (1 + np.exp(-true))
    return 2 * true + 1, present


def measured(seed: int = 0, count: int = 300) -> Calibration:
    return fit_calibration("enc@1", NAMES, *made_up(count, seed=seed))


def test_slope_and_shift_undo_what_was_too_sure() -> None:
    found = measured()
    assert found.slope == pytest.approx(0.5, abs=0.1)
    assert found.slope + found.shift == pytest.approx(0.0, abs=0.4)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.15, 0.2, 0.25])
def test_new_studies_stay_below_the_promised_rate_on_average(rate: float) -> None:
    shares = []
    for seed in range(20):
        found = measured(seed)
        log_odds, present = made_up(500, seed=1000 + seed)
        worst = false_positive_thresholds(
            NAMES, calibrated_probabilities(log_odds, found.slope, found.shift), present
        )
        shares.append(np.mean(worst >= found.threshold(rate)))
    assert np.mean(shares) <= rate + 0.02
    assert np.mean(shares) >= rate - 0.03, "not more cautious than promised"


def test_a_stricter_promise_is_a_higher_threshold() -> None:
    found = measured()
    thresholds = [found.threshold(rate) for rate in (0.05, 0.1, 0.2, 0.4)]
    assert thresholds == sorted(thresholds, reverse=True)
    limits = [found.denial_limit(rate) for rate in (0.001, 0.02, 0.05, 0.2)]
    assert limits == sorted(limits)
    assert limits[0] == 0.0


def test_where_nothing_can_be_promised_nothing_is_stated() -> None:
    assert measured(count=30).threshold(0.01) > 1


def test_devices_below_one_half_are_not_counted_since_they_are_not_stated() -> None:
    worst = false_positive_thresholds(
        NAMES, np.array([[0.9, 0.1, 0.1, 0.1, 0.4]]), np.zeros((1, 5), bool)
    )
    assert worst[0] == pytest.approx(0.1)


def test_area_under_the_curve_and_what_is_too_rare_for_one() -> None:
    present = np.array([True] * 20 + [False] * 80)
    assert measure_auc(np.arange(100.0)[::-1], present).value == 1.0
    assert measure_auc(np.arange(100.0)[::-1], present).assessable
    assert not measure_auc(np.tile([0.0, 1.0], 50), present).assessable
    rare = measure_auc(np.arange(100.0), np.arange(100) < 2)
    assert (rare.positives, rare.value, rare.assessable) == (2, None, False)


def test_a_damaged_calibration_says_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text('{"format": 1}')
    with pytest.raises(CalibrationError, match=r"Field required.*restore it, or run"):
        read_calibration(path)
