"""How far probabilities can be trusted, measured on studies that nothing was trained on.

Owns conformal risk control (Angelopoulos et al. 2022, arXiv 2208.02814): the threshold from which a
finding may be stated is the lowest one at which at most the promised share of drafts would state a
finding that its reference does not; the highest probability at which what must not be missed may
still be denied is found alike. Both losses can only fall as the threshold gets stricter, so the
promise holds in expectation for studies like those measured, and for no others.
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

DEVICES = "Support Devices"
CHANCE = 0.5
_DEVICES_FROM, _UNLABELLED_FROM = 0.45, 0.65
"""Least probability of devices, and of what has no CheXpert label, whatever the risk allows."""
MUST_NOT_MISS = (
    "Pneumothorax",
    "Lung Lesion",
    "Pleural Effusion",
    "Consolidation",
    "free_air",
    "Fracture",
)
_FORMAT = 1
_CURE = "restore it, or run `cxr-rag calibrate` again"

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Auc:
    """How well one finding is told from its absence, with a 95 % interval; None: too few studies.

    Attributes:
        positives: studies that have it.
    """

    positives: int
    value: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def assessable(self) -> bool:
        """Clearly better than chance."""
        return self.low is not None and self.low > CHANCE


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured on calibration studies.

    Attributes:
        encoder_id: of the encoder whose head was calibrated.
        studies: how many.
        slope, shift: of the head's log-odds, for all findings.
        aucs: by finding.
        false_positives: a number a study: the threshold up to which its draft would state a finding
            that its reference does not.
        missed: a number a study: the least probability of what must not be missed and is there.
    """

    encoder_id: str
    studies: int
    slope: float
    shift: float
    aucs: Mapping[str, Auc]
    false_positives: Sequence[float]
    missed: Sequence[float]

    def threshold(self, rate: float) -> float:
        """Probability from which a finding may be stated; above 1 where none may."""
        allowed = math.floor(rate * (self.studies + 1) - 1)
        worst = sorted(self.false_positives, reverse=True)
        return math.nextafter(worst[allowed] if allowed >= 0 else 1.0, 2)

    def denial_limit(self, rate: float) -> float:
        """Probability from which what must not be missed may no longer be denied."""
        allowed = math.floor(rate * (self.studies + 1) - 1)
        return sorted(self.missed)[allowed] if allowed >= 0 else 0.0

    @property
    def not_assessable(self) -> frozenset[str]:
        """Findings that the image cannot speak for or against."""
        return frozenset(name for name, auc in self.aucs.items() if not auc.assessable)


def calibrate(encoder_id: str, names: Sequence[str], odds: Floats, present: Flags) -> Calibration:
    """Slope and shift, areas under the curve, and what each study says of the two risks.

    The risks are measured with a slope and shift that the study had no part in (ten folds).

    Args:
        encoder_id: of the encoder whose head made the log-odds.
        names: of the findings.
        odds: the head's log-odds, float64 [studies, findings].
        present: what the studies' reports state, perhaps with a doubt, bool [studies, findings].
    """
    aucs = {name: auc_of(odds[:, at], present[:, at]) for at, name in enumerate(names)}
    blind = frozenset(name for name, auc in aucs.items() if not auc.assessable)
    slope, shift = _line(odds, present)
    folds = np.random.default_rng(0).permutation(len(odds)) % 10
    probabilities = np.empty_like(odds)
    for fold in range(10):
        own, other = folds == fold, folds != fold
        probabilities[own] = probabilities_of(odds[own], *_line(odds[other], present[other]))
    # From which limit on each draft could deny what must not be missed and is there.
    grave = [name in set(MUST_NOT_MISS) - blind for name in names]
    there = np.where(present, probabilities, 1.0)[:, grave]
    return Calibration(
        encoder_id=encoder_id,
        studies=len(odds),
        slope=slope,
        shift=shift,
        aucs=aucs,
        false_positives=stated_wrongly(names, probabilities, present, not_assessable=blind)
        .round(6)
        .tolist(),
        missed=there.min(1, initial=1.0).round(6).tolist(),
    )


def probabilities_of(odds: Floats, slope: float, shift: float) -> Floats:
    """Log-odds to probabilities."""
    return np.asarray(1 / (1 + np.exp(-(odds * slope + shift))), np.float64)


def auc_of(scores: Floats, present: Flags) -> Auc:
    """Area under the curve with the interval of Hanley and McNeil (1982)."""
    positives, negatives = int(present.sum()), int((~present).sum())
    if positives < 3 or negatives < 3:
        return Auc(positives)
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - takes seconds, drafting needs none

    a = float(roc_auc_score(present, scores))
    above, below = a / (2 - a), 2 * a**2 / (1 + a)
    variance = a * (1 - a) + (positives - 1) * (above - a**2) + (negatives - 1) * (below - a**2)
    half = 1.96 * math.sqrt(max(variance, 0.0) / (positives * negatives))
    return Auc(positives, round(a, 3), round(max(a - half, 0), 3), round(min(a + half, 1), 3))


def _line(odds: Floats, present: Flags) -> tuple[float, float]:
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - takes seconds

    fitted = LogisticRegression(C=np.inf).fit(odds.reshape(-1, 1), present.reshape(-1))
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def stated_wrongly(
    names: Sequence[str],
    probabilities: Floats,
    present: Flags,
    *,
    not_assessable: frozenset[str] = frozenset(),
) -> Floats:
    """By study, the threshold up to which its draft would state what the report does not.

    Args:
        names: of the findings.
        probabilities: float64 [studies, findings].
        present: what the reports state, bool [studies, findings].
        not_assessable: findings that are never stated.

    Returns:
        float64 [studies]; 0 where no threshold would make it.
    """
    least = [
        np.inf if name == NO_FINDING or name in not_assessable else least_probability(name)
        for name in names
    ]
    wrong = np.where(present | (probabilities < least), 0.0, probabilities)
    return np.asarray(wrong.max(1, initial=0.0), float)


def least_probability(name: str) -> float:
    """From which a finding may be stated, whatever the risk allows."""
    if name == DEVICES:
        return _DEVICES_FROM
    return 0.0 if name in LABELS else _UNLABELLED_FROM


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write it as JSON, beside and renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(path, json.dumps({"format": _FORMAT, **asdict(calibration)}, indent=1) + "\n")


def read_calibration(path: Path) -> Calibration:
    """Read it.

    Raises:
        CalibrationError: no such file, or not one of these.
    """
    return read_json(path, Calibration, form=_FORMAT, cure=_CURE)
