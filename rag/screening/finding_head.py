"""Predicts the findings of a study from its images' vectors: one logistic unit a finding.

A head belongs to one encoder and lies in its folder, with its calibration; both are made by
`rag.screening.encoder_fit`, the calibration also by `cxr-rag calibrate`. Without a head, drafts
rest on the votes of the neighbours alone.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag.encoder_parts import read_tensors, write_tensors
from rag.errors import REFIT_HINT, refuse_other_weights
from rag.report_nlp.labeller import NO_FINDING
from rag.schema import PredictedFindings
from rag.screening.calibration import (
    MUST_NOT_MISS,
    Calibration,
    least_probability,
    probabilities_of,
    read_calibration,
)
from rag.settings import DraftingSettings

HEAD, CALIBRATION = "finding_head.safetensors", "calibration.json"
NORMAL_FROM = 0.35
"""Probability of no finding from which normal reports are welcome: about their share in Open-I."""
_FORMAT = "2"
_CURE = f"{REFIT_HINT} to draft without"


@dataclass(frozen=True, slots=True, eq=False)
class FindingHead:
    """A linear map to the log-odds of findings.

    Attributes:
        names: CheXpert-14 names and ids of the lexicon, in the order of the rows.
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

    def odds(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Vectors float32 [N, D] to log-odds [N, findings], before calibration."""
        return (np.asarray(vectors, np.float32) @ self.weight.T + self.bias).astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class FindingPredictor:
    """A head with its calibration, at the risks that the settings accept."""

    head: FindingHead
    calibration: Calibration
    settings: DraftingSettings = field(default_factory=DraftingSettings)

    def predict(self, vector: NDArray[np.float32]) -> PredictedFindings:
        """What the study is expected to show whose views' mean direction is float32 [D]."""
        measured = self.calibration
        odds = self.head.odds(vector[np.newaxis])
        (row,) = probabilities_of(odds, measured.slope, measured.shift)
        probabilities = {name: float(p) for name, p in zip(self.head.names, row, strict=True)}
        threshold = measured.threshold(self.settings.false_finding_rate)
        limit = measured.denial_limit(self.settings.false_denial_rate)
        return PredictedFindings(
            probabilities=probabilities,
            positive=tuple(
                name
                for name, p in sorted(probabilities.items(), key=lambda item: -item[1])
                if name not in measured.not_assessable | {NO_FINDING}
                and p >= max(threshold, least_probability(name))
            ),
            undeniable=frozenset(
                name
                for name in set(MUST_NOT_MISS) - measured.not_assessable
                if probabilities.get(name, 0.0) >= limit
            ),
            not_assessable=measured.not_assessable,
            normal=probabilities.get(NO_FINDING, 0.0) >= NORMAL_FROM,
            threshold=threshold,
        )


def load_finding_predictor(
    folder: Path, encoder_id: str, settings: DraftingSettings
) -> FindingPredictor | None:
    """The head in an encoder's folder with its calibration; None if there is none.

    A calibration of one's own (``drafting.calibration``) is taken instead of the folder's.

    Raises:
        EncoderUnavailableError, CalibrationError: damaged, or made for other weights.
    """
    path = folder / HEAD
    if not path.is_file():
        return None
    head = read_finding_head(path)
    refuse_other_weights(path, head.encoder_id, encoder_id, cure=_CURE)
    where = settings.calibration or folder / CALIBRATION
    calibration = read_calibration(where)
    refuse_other_weights(
        where, calibration.encoder_id, encoder_id, cure="run `cxr-rag calibrate` again"
    )
    return FindingPredictor(head, calibration, settings)


def read_finding_head(path: Path) -> FindingHead:
    """Read a head from its file."""
    return read_tensors(path, FindingHead, key="head", form=_FORMAT, cure=_CURE)


def write_finding_head(path: Path, head: FindingHead) -> None:
    """Write a head, beside and renamed."""
    write_tensors(path, head, key="head", form=_FORMAT)
