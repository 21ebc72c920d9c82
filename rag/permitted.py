"""What a draft may state: findings that image and pool speak for, and details they agree on.

Positive findings come from the image's calibrated probabilities; how a finding may be put (kind of
device, side, degree, zone) from the weighted reports of the pool. Knows no words.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rag.report_nlp.labeller import LABELS, NO_FINDING
from rag.report_reading import Detail, ReportReading, UsableSentence
from rag.schema import PredictedFindings

SHARE_OF_LABEL = 0.4
"""A kind ("scar") may stand for a label ("Lung Opacity") from this share of its probability."""
DETAILS_AGREE = 0.5
"""A detail may be said from this share of the reports that state its finding."""
VOTED = 0.5
"""Share of the pool that permits a finding where the encoder has no finding head."""
SIMILARITY_WEIGHT, FINDINGS_WEIGHT = 5.0, 0.5
"""Of cosine similarity and of the log-likelihood of a report's findings, in its log-weight."""
_DEVICES = "Support Devices"
_SUREST = 0.005

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Permitted:
    """What may be said of one image.

    Attributes:
        findings: names that may be stated: CheXpert-14 labels and lexicon ids.
        required: those of them that a draft should state where it can.
        undeniable: names that may not be denied.
        agreed: details that the pool agrees on.
    """

    findings: frozenset[str]
    required: frozenset[str]
    undeniable: frozenset[str]
    agreed: frozenset[Detail]

    def excess(self, sentence: UsableSentence) -> int | None:
        """How many details of a sentence nobody agreed on; None if it may not be said at all."""
        if not sentence.present <= self.findings or sentence.denied & self.undeniable:
            return None
        return len(sentence.details - self.agreed)


def pool_weights(
    similarities: Sequence[float], readings: Sequence[ReportReading], predicted: PredictedFindings
) -> Floats:
    """How well each report of the pool fits the image, by its text's nearness and its findings.

    Returns:
        float64 [reports], sums to 1.
    """
    names = [name for name in predicted.probabilities if name != NO_FINDING]
    p = np.array([predicted.probabilities[name] for name in names])
    p = np.clip(p, _SUREST, 1 - _SUREST)
    there = np.array([[name in reading.present for name in names] for reading in readings], bool)
    likelihood = np.where(there.reshape(len(readings), len(names)), np.log(p), np.log(1 - p)).sum(1)
    fit = SIMILARITY_WEIGHT * np.asarray(similarities, float) + FINDINGS_WEIGHT * likelihood
    weights = np.exp(fit - fit.max())
    return np.asarray(weights / weights.sum(), float)


def permit(
    predicted: PredictedFindings, readings: Sequence[ReportReading], weights: Floats
) -> Permitted:
    """What image and pool together let a draft say."""
    share: defaultdict[str, float] = defaultdict(float)
    detail: defaultdict[Detail, float] = defaultdict(float)
    kinds: defaultdict[str, set[str]] = defaultdict(set)
    for reading, weight in zip(readings, weights, strict=True):
        for name in reading.present:
            share[name] += weight
        for each in reading.details:
            detail[each] += weight
        for name, label in reading.labels:
            kinds[label].add(name)
    probabilities, positive = predicted.probabilities, predicted.positive
    if not probabilities:
        probabilities, positive = share, tuple(n for n in share if share[n] >= VOTED)
    labels = [name for name in positive if name in LABELS]
    labelled = set().union(*kinds.values()) if kinds else set()
    alone = {n for n in positive if n not in LABELS and n not in labelled}
    permitted = {*labels, *alone}
    for label in labels:
        permitted |= _kinds(label, kinds[label], share, probabilities)
    agreed = {d for d, weight in detail.items() if weight >= DETAILS_AGREE * share[d[0]]}
    return Permitted(
        findings=frozenset(permitted),
        required=frozenset(alone.union(labels)),
        undeniable=frozenset(permitted) | predicted.undeniable,
        agreed=frozenset(agreed),
    )


def _kinds(
    label: str, kinds: set[str], share: Mapping[str, float], probabilities: Mapping[str, float]
) -> set[str]:
    """Lexicon findings that may stand for a label; of devices only those that agree enough."""
    found = {kind: probabilities.get(kind, share[kind]) for kind in kinds}
    enough = {k for k, p in found.items() if p >= SHARE_OF_LABEL * probabilities[label]}
    if not enough and found and label != _DEVICES:
        enough = {max(found, key=lambda kind: found[kind])}
    return enough
