"""Predicts CheXpert-14 labels of an image from its vector: one calibrated logistic unit a label.

A head belongs to one encoder, lies in its folder, and is refused for another; it is made by
`rag.screening.finding_head_training`. Without one, drafts rest on the votes of the neighbours
alone. Knows vectors and labels; what they decide is `rag.predicted_findings`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag import encoder_artifacts
from rag.errors import FindingHeadError
from rag.predicted_findings import PredictedFindings
from rag.report_nlp.labeller import NO_FINDING

FINDING_HEAD = "finding_head.safetensors"
"""In the encoder's folder."""

NORMAL_FROM = 0.35
"""Probability of no finding from which normal reports are welcome: about their share in Open-I.
With it the evidence agrees better with the images' own reports; see docs/retrieval.md."""
_FORMAT = "1"


@dataclass(frozen=True, slots=True, eq=False)
class FindingHead:
    """A linear map to label log-odds.

    Attributes:
        encoder_id: of the encoder whose vectors it reads.
        labels: names, in the order of the rows.
        weight: float32 [L, D].
        bias: float32 [L].
        threshold: probability from which a label is taken as present. For calibrated probabilities
            the best F1 is reached at half of itself (Lipton et al. 2014, arXiv 1402.1892), far
            below one half for rare findings.
        max_positive: so many labels at most are taken as present, the most probable ones.
    """

    encoder_id: str
    labels: tuple[str, ...]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    threshold: float
    max_positive: int = 4

    def probabilities(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors float32 [N, D] to probabilities float32 [N, L] in [0, 1]."""
        odds = np.asarray(vectors, np.float32) @ self.weight.T + self.bias
        return np.asarray(1 / (1 + np.exp(-odds.astype(np.float64))), np.float32)

    def predict(self, vector: NDArray[np.float32]) -> PredictedFindings:
        """What the image of one vector float32 [D] is expected to show."""
        (row,) = self.probabilities(vector[np.newaxis])
        probabilities = {label: float(p) for label, p in zip(self.labels, row, strict=True)}
        findings = [(p, label) for label, p in probabilities.items() if label != NO_FINDING]
        present = [label for p, label in sorted(findings, reverse=True) if p >= self.threshold]
        normal = probabilities.get(NO_FINDING, 0.0) >= NORMAL_FROM
        return PredictedFindings(probabilities, tuple(present[: self.max_positive]), normal)


def load_finding_head(folder: Path, encoder_id: str) -> FindingHead | None:
    """The head in an encoder's folder; None if there is none.

    Raises:
        FindingHeadError: the file is damaged, or belongs to other weights.
    """
    path = folder / FINDING_HEAD
    if not path.is_file():
        return None
    head = read_finding_head(path)
    encoder_artifacts.refuse_another(
        path, made_for=head.encoder_id, encoder_id=encoder_id, error=FindingHeadError
    )
    return head


def read_finding_head(path: Path) -> FindingHead:
    """Read a head from its file."""
    with encoder_artifacts.opened(path, key="head", error=FindingHeadError) as (facts, tensor):
        head = FindingHead(
            encoder_id=facts["encoder_id"],
            labels=tuple(facts["labels"]),
            weight=tensor("weight"),
            bias=tensor("bias"),
            threshold=facts["threshold"],
            max_positive=facts["max_positive"],
        )
    if facts.get("format") != _FORMAT or head.weight.shape[0] != len(head.labels):
        raise FindingHeadError(f"{path} has another format than this version reads; restore it")
    return head


def write_finding_head(path: Path, head: FindingHead) -> None:
    """Write a head, beside and renamed."""
    facts = {
        "format": _FORMAT,
        "encoder_id": head.encoder_id,
        "labels": list(head.labels),
        "threshold": head.threshold,
        "max_positive": head.max_positive,
    }
    tensors = {"weight": head.weight, "bias": head.bias}
    encoder_artifacts.write(path, tensors, key="head", facts=facts)
