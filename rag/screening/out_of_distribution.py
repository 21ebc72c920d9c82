"""Does a picture look like an upright chest X-ray to the encoder? Judged by its features.

The encoder's pooled image features of chest X-rays lie near a flat subspace; what is no chest X-ray
leaves it. The share of a feature vector's length that the subspace cannot explain is the score: the
PCA residual of out-of-distribution detection (Guan et al., ICCV 2023), here over frontal and
lateral images of two hospitals. Two linear classifiers beside it tell laterals, and images that are
mirrored, turned, upside down or inverted: these are said and not refused.

A detector belongs to one encoder, lies in its folder and is refused for another.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from encoders.base import CxrImage, ImageEncoder
from encoders.eclip.encoder import ImageOutput
from rag.encoder_parts import read_tensors, write_tensors
from rag.errors import REFIT_HINT, refuse_other_weights
from rag.screening.header import ONLY_LATERAL, ScreeningResult

OOD_DETECTOR = "out_of_distribution.safetensors"
"""In the encoder's folder."""

SURE, UNSURE, POSE_UNSURE = 0.9, 0.5, 0.8
"""Probabilities from which a view or pose is said, and from which each is said to be possible: a
pose later, where 2 % of the upright images that set the threshold are doubted."""

UPRIGHT = "upright"
POSES = (UPRIGHT, "mirrored", "upside down", "turned", "inverted")
"""In the order of the classifier's rows."""
_MIRRORED = POSES.index("mirrored")

_SAID = {
    "mirrored": "left and right swapped: check the side marker",
    "upside down": "rotated by 180 degrees: rotate it back",
    "turned": "lying on its side: rotate it back",
    "inverted": "black and white swapped: bone should be white",
}
_FORMAT = "3"  # in 2 the poses could be written mixed up


class FeatureEncoder(Protocol):
    """An encoder that shows what it saw before the projection."""

    def outputs(self, image: CxrImage) -> ImageOutput:
        """Vector, features and finding maps of an image, from one pass."""


@dataclass(frozen=True, slots=True, eq=False)
class OodDetector:
    """Statistics of chest X-rays' features.

    Attributes:
        encoder_id: of the encoder whose features these are.
        mean: float32 [F], of the images.
        basis: float16 [K, F], orthonormal rows that span the images' subspace.
        threshold: score above which a picture is refused.
        lateral: float32 [F + 1], log-odds of a lateral: weights, and last the bias.
        poses: float32 [5, F + 1], log-odds of `POSES`: weights, and last the bias.
    """

    encoder_id: str
    mean: NDArray[np.float32]
    basis: NDArray[np.float16]
    threshold: float
    lateral: NDArray[np.float32]
    poses: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.basis.shape[1:] != self.mean.shape:
            raise ValueError(f"a basis {self.basis.shape} for a mean {self.mean.shape}")

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Features float32 [N, F] to float64 [N] in [0, about 1]; higher is stranger."""
        centred = features.astype(np.float64) - self.mean
        basis = self.basis.astype(np.float64)
        left = centred - (centred @ basis.T) @ basis
        lengths = np.linalg.norm(features.astype(np.float64), axis=1)
        return np.asarray(np.linalg.norm(left, axis=1) / np.maximum(lengths, 1e-12))

    def lateral_probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Features float32 [N, F] to float64 [N] in [0, 1]."""
        odds = features.astype(np.float64) @ self.lateral[:-1] + self.lateral[-1]
        return np.asarray(1 / (1 + np.exp(-odds)))

    def pose_probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Features float32 [N, F] to float64 [N, 5]; rows sum to 1."""
        odds = features.astype(np.float64) @ self.poses[:, :-1].T + self.poses[:, -1]
        shares = np.exp(odds - odds.max(1, keepdims=True))
        return np.asarray(shares / shares.sum(1, keepdims=True))

    def poses_said(
        self, features: NDArray[np.float32]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Features float32 [N, F] to the number of the pose that is said, and its probability.

        A lateral is never called mirrored: it is right from either side.
        """
        probabilities = self.pose_probabilities(features)
        likeliest, certainty = probabilities.argmax(1), probabilities.max(1)
        a_side = (likeliest == _MIRRORED) & (self.lateral_probabilities(features) > UNSURE)
        return np.where((certainty > POSE_UNSURE) & ~a_side, likeliest, 0), certainty

    def judge(self, features: NDArray[np.float32]) -> ScreeningResult:
        """What is to be said of the image with these features, float32 [F]."""
        row = features[np.newaxis]
        (score,), (lateral,) = self.scores(row), self.lateral_probabilities(row)
        (number,), (certainty,) = self.poses_said(row)
        pose = POSES[number]
        if score > self.threshold:
            seen = f" It seems to be {pose}." if pose != UPRIGHT and certainty > SURE else ""
            return ScreeningResult(
                f"the picture does not look like a chest X-ray (score {score:.2f}, limit "
                f"{self.threshold:.2f}).{seen} Choose a frontal chest X-ray, upright and not "
                "inverted."
            )
        notes = []
        if lateral > SURE:
            notes.append(ONLY_LATERAL)
        elif lateral > UNSURE:
            notes.append("this may be a lateral view: check it")
        if pose != UPRIGHT:
            verb = "looks" if certainty > SURE else "may be"
            notes.append(f"the image {verb} {pose} ({_SAID[pose]})")
        return ScreeningResult(notes=tuple(notes))


def load_ood_detector(folder: Path, encoder: ImageEncoder) -> OodDetector | None:
    """The detector in an encoder's folder; None if there is none, or the encoder has no features.

    Raises:
        EncoderUnavailableError: the file is damaged, or belongs to other weights.
    """
    path = folder / OOD_DETECTOR
    if not path.is_file() or not hasattr(encoder, "outputs"):
        return None
    detector = read_ood_detector(path)
    refuse_other_weights(path, detector.encoder_id, encoder.encoder_id, cure=REFIT_HINT)
    return detector


def read_ood_detector(path: Path) -> OodDetector:
    """Read a detector from its file."""
    return read_tensors(path, OodDetector, key="ood", form=_FORMAT, cure=REFIT_HINT)


def write_ood_detector(path: Path, detector: OodDetector) -> None:
    """Write a detector, beside and renamed."""
    write_tensors(path, detector, key="ood", form=_FORMAT)
