"""Does an image look like an upright chest X-ray to the encoder? Judged by its features.

The encoder's pooled features of chest X-rays lie near a linear subspace. The out-of-distribution
score is the PCA residual (Guan et al., ICCV 2023): the share of a feature vector's norm outside
that subspace, here fitted on frontal and lateral images of two hospitals. Two linear classifiers
recognise laterals, and images that are mirrored, rotated or inverted; those get a note, not a
refusal.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from encoders.base import CxrImage, ImageEncoder
from encoders.eclip.encoder import ImageOutput
from rag.encoder_parts import REFIT_HINT, read_tensors, require_encoder, write_tensors
from rag.screening.header import ONLY_LATERAL, ScreeningResult

OOD_DETECTOR_FILE = "out_of_distribution.safetensors"
"""In the encoder's folder."""

CERTAIN = 0.9
"""Probability of a view or pose above which the note says so without reserve."""
_POSSIBLE_LATERAL, _POSSIBLE_POSE = 0.5, 0.8
"""Probabilities above which a view or pose is noted as possible. At 0.8 for poses, 2 % of the
upright images that set the threshold get a note."""

UPRIGHT = "upright"
POSES = (UPRIGHT, "mirrored", "upside down", "turned", "inverted")
"""In the order of the classifier's rows."""
_MIRRORED = POSES.index("mirrored")

_POSE_ADVICE = {
    "mirrored": "left and right swapped: check the side marker",
    "upside down": "rotated by 180 degrees: rotate it back",
    "turned": "lying on its side: rotate it back",
    "inverted": "black and white swapped: bone should be white",
}
_VERSION = "3"


class FeatureEncoder(Protocol):
    """An encoder that also gives the features before its projection."""

    def outputs(self, image: CxrImage) -> ImageOutput:
        """Embedding, features and finding maps of an image, in one forward pass."""


@dataclass(frozen=True, slots=True, eq=False)
class OodDetector:
    """Statistics of the features of chest X-rays.

    Attributes:
        encoder_id: of the encoder whose features these are.
        mean: float32 [F], of the training images.
        basis: float16 [K, F], orthonormal rows that span their subspace.
        threshold: score above which an image is refused.
        lateral: float32 [F + 1], classifier of laterals: weights, then the bias.
        poses: float32 [5, F + 1], classifier of `POSES`: weights, then the bias.
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
        """Features float32 [N, F] to out-of-distribution scores, float64 [N] in [0, about 1]."""
        centred = features.astype(np.float64) - self.mean
        basis = self.basis.astype(np.float64)
        residual = centred - (centred @ basis.T) @ basis
        norms = np.linalg.norm(features.astype(np.float64), axis=1)
        return np.asarray(np.linalg.norm(residual, axis=1) / np.maximum(norms, 1e-12))

    def lateral_probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Features float32 [N, F] to float64 [N] in [0, 1]."""
        log_odds = features.astype(np.float64) @ self.lateral[:-1] + self.lateral[-1]
        return np.asarray(1 / (1 + np.exp(-log_odds)))

    def pose_probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Features float32 [N, F] to float64 [N, 5]; rows sum to 1."""
        logits = features.astype(np.float64) @ self.poses[:, :-1].T + self.poses[:, -1]
        exponentials = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(1, keepdims=True))

    def detect_poses(
        self, features: NDArray[np.float32]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Features float32 [N, F] to indices into `POSES`, and probabilities of the likeliest.

        Unlikely poses become upright, and so do mirrored laterals: those may face either way.
        """
        probabilities = self.pose_probabilities(features)
        likeliest, probability = probabilities.argmax(1), probabilities.max(1)
        is_lateral = self.lateral_probabilities(features) > _POSSIBLE_LATERAL
        accepted = (probability > _POSSIBLE_POSE) & ~((likeliest == _MIRRORED) & is_lateral)
        return np.where(accepted, likeliest, 0), probability

    def screen(self, features: NDArray[np.float32]) -> ScreeningResult:
        """Refusal or notes for the image with these features, float32 [F]."""
        row = features[np.newaxis]
        (score,), (lateral,) = self.scores(row), self.lateral_probabilities(row)
        (index,), (probability,) = self.detect_poses(row)
        pose, certain = POSES[index], probability > CERTAIN
        if score > self.threshold:
            seen = f" It seems to be {pose}." if pose != UPRIGHT and certain else ""
            return ScreeningResult(
                f"the picture does not look like a chest X-ray (score {score:.2f}, limit "
                f"{self.threshold:.2f}).{seen} Choose a frontal chest X-ray, upright and not "
                "inverted."
            )
        notes = []
        if lateral > CERTAIN:
            notes.append(ONLY_LATERAL)
        elif lateral > _POSSIBLE_LATERAL:
            notes.append("this may be a lateral view: check it")
        if pose != UPRIGHT:
            verb = "looks" if certain else "may be"
            notes.append(f"the image {verb} {pose} ({_POSE_ADVICE[pose]})")
        return ScreeningResult(notes=tuple(notes))


def load_ood_detector(folder: Path, encoder: ImageEncoder) -> OodDetector | None:
    """The detector in an encoder's folder; None if there is none or the encoder has no features.

    Raises:
        EncoderUnavailableError: the file is damaged, or was fitted for another encoder.
    """
    path = folder / OOD_DETECTOR_FILE
    if not path.is_file() or not hasattr(encoder, "outputs"):
        return None
    detector = read_ood_detector(path)
    require_encoder(path, detector.encoder_id, encoder.encoder_id, hint=REFIT_HINT)
    return detector


def read_ood_detector(path: Path) -> OodDetector:
    """Read a detector from its file.

    Raises:
        EncoderUnavailableError: it is missing or damaged.
    """
    return read_tensors(path, OodDetector, header="ood", version=_VERSION, hint=REFIT_HINT)


def write_ood_detector(path: Path, detector: OodDetector) -> None:
    """Write a detector to its file, atomically."""
    write_tensors(path, detector, header="ood", version=_VERSION)
