"""Predicts a study's findings from its image embedding: one logistic regression per finding.

Head and calibration are in the folder of the encoder they were fitted for (`cxr-rag fit-heads`; the
calibration may also come from `cxr-rag calibrate`). Without a head, drafts follow the consensus of
the retrieved reports alone.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag.encoder_parts import REFIT_HINT, read_tensors, require_encoder, write_tensors
from rag.report_nlp.labeller import NO_FINDING
from rag.schema import PredictedFindings
from rag.screening.calibration import (
    MUST_NOT_MISS,
    Calibration,
    calibrated_probabilities,
    min_probability,
    read_calibration,
)
from rag.settings import DraftingSettings

HEAD_FILE, CALIBRATION_FILE = "finding_head.safetensors", "calibration.json"
NORMAL_THRESHOLD = 0.35
"""Probability of "No Finding" from which normal reports are preferred, near its Open-I share."""
_VERSION = "2"
_HINT = f"{REFIT_HINT} to draft without"


@dataclass(frozen=True, slots=True, eq=False)
class FindingHead:
    """A linear map to the log-odds of findings.

    Attributes:
        names: CheXpert-14 labels and ids of the lexicon, in the order of the rows.
        weight: float32 [findings, D].
        bias: float32 [findings].
    """

    encoder_id: str
    names: tuple[str, ...]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.weight) == len(self.bias):
            raise ValueError(f"{len(self.names)} names for {len(self.weight)} rows of weights")

    def log_odds(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Embeddings float32 [N, D] to log-odds [N, findings], before calibration."""
        return (np.asarray(vectors, np.float32) @ self.weight.T + self.bias).astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class FindingPredictor:
    """A head with its calibration, at the error rates that the settings accept."""

    head: FindingHead
    calibration: Calibration
    settings: DraftingSettings = field(default_factory=DraftingSettings)

    def predict(self, vector: NDArray[np.float32]) -> PredictedFindings:
        """Findings of a study from its query vector, float32 [D]."""
        calibration = self.calibration
        log_odds = self.head.log_odds(vector[np.newaxis])
        (row,) = calibrated_probabilities(log_odds, calibration.slope, calibration.shift)
        probabilities = {name: float(p) for name, p in zip(self.head.names, row, strict=True)}
        threshold = calibration.threshold(self.settings.false_finding_rate)
        denial_limit = calibration.denial_limit(self.settings.false_denial_rate)
        return PredictedFindings(
            probabilities=probabilities,
            positive=tuple(
                name
                for name, p in sorted(probabilities.items(), key=lambda item: -item[1])
                if name not in calibration.not_assessable | {NO_FINDING}
                and p >= max(threshold, min_probability(name))
            ),
            undeniable=frozenset(
                name
                for name in set(MUST_NOT_MISS) - calibration.not_assessable
                if probabilities.get(name, 0.0) >= denial_limit
            ),
            not_assessable=calibration.not_assessable,
            normal=probabilities.get(NO_FINDING, 0.0) >= NORMAL_THRESHOLD,
            threshold=threshold,
        )


def load_finding_predictor(
    folder: Path, encoder_id: str, settings: DraftingSettings
) -> FindingPredictor | None:
    """The head in an encoder's folder with its calibration; None if there is no head.

    The calibration named by ``drafting.calibration`` replaces the folder's.

    Raises:
        EncoderUnavailableError, CalibrationError: damaged, or fitted for another encoder.
    """
    path = folder / HEAD_FILE
    if not path.is_file():
        return None
    head = read_finding_head(path)
    require_encoder(path, head.encoder_id, encoder_id, hint=_HINT)
    path = settings.calibration or folder / CALIBRATION_FILE
    calibration = read_calibration(path)
    require_encoder(path, calibration.encoder_id, encoder_id, hint="run `cxr-rag calibrate` again")
    return FindingPredictor(head, calibration, settings)


def read_finding_head(path: Path) -> FindingHead:
    """Read a head from its file.

    Raises:
        EncoderUnavailableError: it is missing or damaged.
    """
    return read_tensors(path, FindingHead, header="head", version=_VERSION, hint=_HINT)


def write_finding_head(path: Path, head: FindingHead) -> None:
    """Write a head to its file, atomically."""
    write_tensors(path, head, header="head", version=_VERSION)
