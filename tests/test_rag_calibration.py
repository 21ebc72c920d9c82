"""Conformal risk control keeps its promised rates on exchangeable studies."""

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


def synthetic_studies(count: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds that are overconfident by a factor of two, and which findings are present."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-2, 1.5, (count, len(NAMES)))
    present = rng.random(true.shape) < 1 / (1 + np.exp(-true))
    return 2 * true + 1, present


def measured(seed: int = 0, count: int = 300) -> Calibration:
    return fit_calibration("enc@1", NAMES, *synthetic_studies(count, seed=seed))


def test_slope_and_shift_correct_overconfident_log_odds() -> None:
    found = measured()
    assert found.slope == pytest.approx(0.5, abs=0.1)
    assert found.slope + found.shift == pytest.approx(0.0, abs=0.4)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.15, 0.2, 0.25])
def test_new_studies_keep_the_promised_rate_on_average(rate: float) -> None:
    shares = []
    for seed in range(20):
        found = measured(seed)
        log_odds, present = synthetic_studies(500, seed=1000 + seed)
        worst = false_positive_thresholds(
            NAMES, calibrated_probabilities(log_odds, found.slope, found.shift), present
        )
        shares.append(np.mean(worst >= found.threshold(rate)))
    assert np.mean(shares) <= rate + 0.02
    assert np.mean(shares) >= rate - 0.03, "not more cautious than promised"


def test_a_lower_rate_gives_a_higher_threshold() -> None:
    found = measured()
    thresholds = [found.threshold(rate) for rate in (0.05, 0.1, 0.2, 0.4)]
    assert thresholds == sorted(thresholds, reverse=True)
    limits = [found.denial_limit(rate) for rate in (0.001, 0.02, 0.05, 0.2)]
    assert limits == sorted(limits)
    assert limits[0] == 0.0


def test_with_too_few_studies_nothing_may_be_stated() -> None:
    assert measured(count=30).threshold(0.01) > 1


def test_devices_below_their_minimum_are_no_false_positives() -> None:
    worst = false_positive_thresholds(
        NAMES, np.array([[0.9, 0.1, 0.1, 0.1, 0.4]]), np.zeros((1, 5), bool)
    )
    assert worst[0] == pytest.approx(0.1)


def test_auc_with_interval_and_none_for_rare_findings() -> None:
    present = np.array([True] * 20 + [False] * 80)
    assert measure_auc(np.arange(100.0)[::-1], present).value == 1.0
    assert measure_auc(np.arange(100.0)[::-1], present).assessable
    assert not measure_auc(np.tile([0.0, 1.0], 50), present).assessable
    rare = measure_auc(np.arange(100.0), np.arange(100) < 2)
    assert (rare.positives, rare.value, rare.assessable) == (2, None, False)


def test_a_damaged_calibration_is_an_error_with_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text('{"format": 1}')
    with pytest.raises(CalibrationError, match=r"Field required.*restore it, or run"):
        read_calibration(path)
