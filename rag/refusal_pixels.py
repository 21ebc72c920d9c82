"""Does a picture look like a chest film to the encoder? A distance and a view, from its features.

The encoder's pooled image features of chest films lie near a flat subspace; what is no chest film
leaves it. The share of a feature vector's length that the subspace cannot explain is the score: the
PCA residual of out-of-distribution detection (Guan et al., ICCV 2023), here over frontal and
lateral films. A linear unit beside it tells laterals, which are said and not refused.

A judge belongs to one encoder and is refused for another. What ships lies in ``rag/refusal_scores``
and is made by `rag.refusal_training`. Knows features alone, no header.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from encoders.base import CxrImage, ImageTextEncoder
from rag import encoder_part
from rag.errors import RefusalScoreError
from rag.refusal import ONLY_LATERAL, Refusal, RefusalKind, Verdict

SCORES = Path(str(files("rag"))) / "refusal_scores"
LATERAL_FROM = 0.9
"""Probability from which a film is called a lateral: the note should be right when it is there."""
_FORMAT = "1"


class FeatureEncoder(Protocol):
    """An encoder that shows what it saw before the projection."""

    def embed_with_features(
        self, images: Sequence[CxrImage]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Films to vectors float32 [N, dim], as `embed_images`, and features float32 [N, F]."""


@dataclass(frozen=True, slots=True, eq=False)
class PixelJudge:
    """Statistics of chest films' features.

    Attributes:
        encoder_id: of the encoder whose features these are.
        mean: float32 [F], of the films.
        basis: float32 [K, F], orthonormal rows that span the films' subspace.
        threshold: score above which a picture is refused.
        lateral: float32 [F + 1], log-odds of a lateral: weights, and last the bias.
    """

    encoder_id: str
    mean: NDArray[np.float32]
    basis: NDArray[np.float32]
    threshold: float
    lateral: NDArray[np.float32]

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Features float32 [N, F] to float64 [N] in [0, about 1]; higher is stranger."""
        centred = features.astype(np.float64) - self.mean
        left = centred - (centred @ self.basis.T.astype(np.float64)) @ self.basis
        lengths = np.linalg.norm(features.astype(np.float64), axis=1)
        return np.asarray(np.linalg.norm(left, axis=1) / np.maximum(lengths, 1e-12))

    def lateral_probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Features float32 [N, F] to float64 [N] in [0, 1]."""
        odds = features.astype(np.float64) @ self.lateral[:-1] + self.lateral[-1]
        return np.asarray(1 / (1 + np.exp(-odds)))

    def judge(self, features: NDArray[np.float32]) -> Verdict:
        """What is to be said of the film with these features, float32 [F]."""
        row = features[np.newaxis]
        (score,) = self.scores(row)
        if score > self.threshold:
            return Verdict(
                Refusal(
                    RefusalKind.PIXELS,
                    f"the picture does not look like a chest film (score {score:.2f}, limit "
                    f"{self.threshold:.2f}). Choose a frontal chest film, "
                    "upright and not inverted.",
                )
            )
        (lateral,) = self.lateral_probabilities(row)
        return Verdict(notes=(ONLY_LATERAL,) if lateral > LATERAL_FROM else ())


def load_pixel_judge(encoder: ImageTextEncoder, *, folder: Path = SCORES) -> PixelJudge | None:
    """The judge that ships for an encoder; None if there is none.

    Raises:
        RefusalScoreError: the file is damaged, or belongs to other weights of that name.
    """
    path = encoder_part.path_for(encoder.encoder_id, folder)
    if not path.is_file() or not hasattr(encoder, "embed_with_features"):
        return None
    judge = read_pixel_judge(path)
    if judge.encoder_id != encoder.encoder_id:
        raise RefusalScoreError(
            f"{path.name} was made for {judge.encoder_id}, the encoder is {encoder.encoder_id}; "
            "make it again with `python -m rag.refusal_training`, or remove it to refuse by header "
            "alone"
        )
    return judge


def read_pixel_judge(path: Path) -> PixelJudge:
    """Read a judge from its file."""
    with encoder_part.opened(path, key="judge", error=RefusalScoreError) as (facts, tensor):
        judge = PixelJudge(
            encoder_id=facts["encoder_id"],
            threshold=facts["threshold"],
            mean=tensor("mean"),
            basis=tensor("basis").astype(np.float32),
            lateral=tensor("lateral"),
        )
    if facts.get("format") != _FORMAT or judge.basis.shape[1:] != judge.mean.shape:
        raise RefusalScoreError(f"{path} has another format than this version reads; restore it")
    return judge


def write_pixel_judge(path: Path, judge: PixelJudge) -> None:
    """Write a judge, beside and renamed; the basis in half precision."""
    facts = {
        "format": _FORMAT,
        "encoder_id": judge.encoder_id,
        "threshold": judge.threshold,
    }
    tensors: dict[str, NDArray[Any]] = {
        "mean": judge.mean.astype(np.float32),
        "basis": np.ascontiguousarray(judge.basis, np.float16),
        "lateral": judge.lateral.astype(np.float32),
    }
    encoder_part.write(path, tensors, key="judge", facts=facts)
