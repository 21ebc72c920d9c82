"""Calibrated finding probabilities, and the thresholds that keep a promised error rate.

Owns conformal risk control (Angelopoulos et al. 2022, arXiv 2208.02814): the threshold for stating
a finding is the lowest at which at most the promised share of drafts would state a finding that the
reference report does not; the limit for denying a must-not-miss finding is found likewise. Both
risks fall monotonically as the threshold gets stricter, so the promise holds in expectation, for
studies exchangeable with the calibration studies.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag.atomic_io import write_text_atomic
from rag.encoder_parts import read_json
from rag.report_nlp.labeller import LABELS, NO_FINDING

MUST_NOT_MISS = (
    "Pneumothorax",
    "Lung Lesion",
    "Pleural Effusion",
    "Consolidation",
    "free_air",
    "Fracture",
)
_MIN_DEVICE_PROBABILITY, _MIN_UNLABELLED_PROBABILITY = 0.45, 0.65
"""Support devices, and findings without a CheXpert label, are never stated below these."""

_FOLDS = 10
_VERSION = 1
_HINT = "restore it, or run `cxr-rag calibrate` again"

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Auc:
    """ROC AUC of one finding with its 95 % interval; None where there are too few studies.

    Attributes:
        positives: studies that have the finding.
    """

    positives: int
    value: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def assessable(self) -> bool:
        """Whether the interval lies above chance."""
        return self.low is not None and self.low > 0.5


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured on the calibration studies.

    Attributes:
        encoder_id: of the encoder whose finding head was calibrated.
        studies: number of studies.
        slope, shift: applied to the head's log-odds, the same for all findings.
        aucs: by finding.
        false_positives: for each study, the highest threshold at which its draft would state a
            finding that its reference does not.
        missed: for each study, the lowest probability of its must-not-miss findings; 1 without any.
    """

    encoder_id: str
    studies: int
    slope: float
    shift: float
    aucs: Mapping[str, Auc]
    false_positives: Sequence[float]
    missed: Sequence[float]

    def threshold(self, rate: float) -> float:
        """Lowest probability at which a finding may be stated; above 1 if none may be."""
        allowed = self._allowed_errors(rate)
        worst = sorted(self.false_positives, reverse=True)
        return math.nextafter(worst[allowed] if allowed >= 0 else 1.0, 2)

    def denial_limit(self, rate: float) -> float:
        """Probability from which a must-not-miss finding may not be denied."""
        allowed = self._allowed_errors(rate)
        return sorted(self.missed)[allowed] if allowed >= 0 else 0.0

    def _allowed_errors(self, rate: float) -> int:
        """How many calibration studies may err; the next study is assumed to."""
        return math.floor(rate * (self.studies + 1) - 1)

    @property
    def not_assessable(self) -> frozenset[str]:
        """Findings that the image cannot tell from their absence."""
        return frozenset(name for name, auc in self.aucs.items() if not auc.assessable)


def fit_calibration(
    encoder_id: str, names: Sequence[str], log_odds: Floats, present: Flags
) -> Calibration:
    """Fit slope and shift, and measure AUCs and both risks.

    The risks of a study use a slope and shift fitted without it (ten folds).

    Args:
        encoder_id: of the encoder whose head gave the log-odds.
        names: of the findings.
        log_odds: of the head, float64 [studies, findings].
        present: what the reports state, uncertain findings included, bool [studies, findings].
    """
    aucs = {name: measure_auc(log_odds[:, i], present[:, i]) for i, name in enumerate(names)}
    not_assessable = frozenset(name for name, auc in aucs.items() if not auc.assessable)
    slope, shift = _fit_slope_and_shift(log_odds, present)
    folds = assign_folds(len(log_odds))
    probabilities = np.empty_like(log_odds)
    for fold in range(_FOLDS):
        test, train = folds == fold, folds != fold
        fitted = _fit_slope_and_shift(log_odds[train], present[train])
        probabilities[test] = calibrated_probabilities(log_odds[test], *fitted)
    must_not_miss = [name in set(MUST_NOT_MISS) - not_assessable for name in names]
    missed = np.where(present, probabilities, 1.0)[:, must_not_miss].min(1, initial=1.0)
    false_positives = false_positive_thresholds(
        names, probabilities, present, not_assessable=not_assessable
    )
    return Calibration(
        encoder_id=encoder_id,
        studies=len(log_odds),
        slope=slope,
        shift=shift,
        aucs=aucs,
        false_positives=false_positives.round(6).tolist(),
        missed=missed.round(6).tolist(),
    )


def assign_folds(studies: int) -> NDArray[np.int_]:
    """One of ten folds for each study, at random with a fixed seed."""
    return np.random.default_rng(0).permutation(studies) % _FOLDS


def calibrated_probabilities(log_odds: Floats, slope: float, shift: float) -> Floats:
    """Probabilities from a head's log-odds."""
    return np.asarray(1 / (1 + np.exp(-(log_odds * slope + shift))), np.float64)


def measure_auc(scores: Floats, present: Flags) -> Auc:
    """ROC AUC with the interval of Hanley and McNeil (1982)."""
    positives, negatives = int(present.sum()), int((~present).sum())
    if positives < 3 or negatives < 3:
        return Auc(positives)
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - slow, and drafting needs none

    auc = float(roc_auc_score(present, scores))
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (
        auc * (1 - auc) + (positives - 1) * (q1 - auc**2) + (negatives - 1) * (q2 - auc**2)
    ) / (positives * negatives)
    half = 1.96 * math.sqrt(max(variance, 0.0))
    return Auc(positives, round(auc, 3), round(max(auc - half, 0), 3), round(min(auc + half, 1), 3))


def _fit_slope_and_shift(log_odds: Floats, present: Flags) -> tuple[float, float]:
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - slow to import

    model = LogisticRegression(C=np.inf).fit(log_odds.reshape(-1, 1), present.reshape(-1))
    return float(model.coef_[0, 0]), float(model.intercept_[0])


def false_positive_thresholds(
    names: Sequence[str],
    probabilities: Floats,
    present: Flags,
    *,
    not_assessable: frozenset[str] = frozenset(),
) -> Floats:
    """For each study, the highest threshold at which its draft states an absent finding.

    Args:
        names: of the findings.
        probabilities: float64 [studies, findings].
        present: what the reports state, bool [studies, findings].
        not_assessable: findings that are never stated.

    Returns:
        float64 [studies]; 0 where no absent finding could be stated.
    """
    lowest = [
        np.inf if name == NO_FINDING or name in not_assessable else min_probability(name)
        for name in names
    ]
    wrong = np.where(present | (probabilities < lowest), 0.0, probabilities)
    return np.asarray(wrong.max(1, initial=0.0), float)


def min_probability(name: str) -> float:
    """The probability below which a finding is never stated, whatever the accepted rate."""
    if name == "Support Devices":
        return _MIN_DEVICE_PROBABILITY
    return 0.0 if name in LABELS else _MIN_UNLABELLED_PROBABILITY


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write it as JSON, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {"format": _VERSION, **asdict(calibration)}
    write_text_atomic(path, json.dumps(values, indent=1) + "\n")


def read_calibration(path: Path) -> Calibration:
    """Read it.

    Raises:
        CalibrationError: it is missing or damaged, or has another format version.
    """
    return read_json(path, Calibration, version=_VERSION, hint=_HINT)
