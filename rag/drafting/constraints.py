"""What a draft may, must and must not say.

The image's calibrated probabilities decide on findings, the pool's weighted reports on details.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rag.report_nlp.labeller import LABELS, NO_FINDING
from rag.report_reading import Detail, ParsedReport, UsableSentence
from rag.schema import PredictedFindings

MIN_SHARE_OF_LABEL = 0.4
"""Of its label's probability ("Lung Opacity"), for a finding ("scar") to stand for the label."""
MIN_DETAIL_AGREEMENT = 0.5
"""Weighted share of the reports that state a finding which must give a detail of it."""
MIN_POOL_VOTE = 0.5
"""Weighted share of the pool that must state a finding if the image has no predictions."""
SIMILARITY_WEIGHT, FINDINGS_WEIGHT = 5.0, 0.5
"""Of cosine similarity and of the log-likelihood of a report's findings, in its log-weight."""
_DEVICES = "Support Devices"
_MIN_PROBABILITY = 0.005

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Constraints:
    """What a draft for one image may, must and must not say.

    Attributes:
        stateable: findings that may be stated: CheXpert-14 labels and lexicon ids.
        required: those to be stated if any candidate does.
        undeniable: findings that must not be denied.
        details: those that enough of the pool agrees on.
    """

    stateable: frozenset[str]
    required: frozenset[str]
    undeniable: frozenset[str]
    details: frozenset[Detail]

    def permit(self, sentence: UsableSentence) -> bool:
        """Whether a sentence may be said, its details apart."""
        return sentence.present <= self.stateable and not sentence.denied & self.undeniable


def weigh_reports(
    similarities: Sequence[float], reports: Sequence[ParsedReport], predicted: PredictedFindings
) -> Floats:
    """How well each report fits the image, by its similarity and its findings.

    Returns:
        float64 [reports], sum 1.
    """
    names = [name for name in predicted.probabilities if name != NO_FINDING]
    p = np.array([predicted.probabilities[name] for name in names])
    p = np.clip(p, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
    stated = np.array([[name in report.present for name in names] for report in reports], bool)
    stated = stated.reshape(len(reports), len(names))
    log_likelihood = np.where(stated, np.log(p), np.log(1 - p)).sum(1)
    log_weights = (
        SIMILARITY_WEIGHT * np.asarray(similarities, float) + FINDINGS_WEIGHT * log_likelihood
    )
    weights = np.exp(log_weights - log_weights.max())
    return np.asarray(weights / weights.sum(), float)


def constrain(
    predicted: PredictedFindings, reports: Sequence[ParsedReport], weights: Floats
) -> Constraints:
    """What image and pool together let a draft say."""
    share: defaultdict[str, float] = defaultdict(float)
    detail_share: defaultdict[Detail, float] = defaultdict(float)
    by_label: defaultdict[str, set[str]] = defaultdict(set)
    for report, weight in zip(reports, weights, strict=True):
        for name in report.present:
            share[name] += weight
        for detail in report.details:
            detail_share[detail] += weight
        for name, label in report.labels:
            by_label[label].add(name)
    probabilities, positive = predicted.probabilities, predicted.positive
    if not probabilities:
        probabilities, positive = share, tuple(n for n in share if share[n] >= MIN_POOL_VOTE)
    labels = [name for name in positive if name in LABELS]
    labelled = set[str]().union(*by_label.values())
    unlabelled = {n for n in positive if n not in LABELS and n not in labelled}
    required = unlabelled.union(labels)
    stateable = required.union(
        *(_findings_of(label, by_label[label], share, probabilities) for label in labels)
    )
    agreed = {
        detail
        for detail, weight in detail_share.items()
        if weight >= MIN_DETAIL_AGREEMENT * share[detail[0]]
    }
    return Constraints(
        stateable=frozenset(stateable),
        required=frozenset(required),
        undeniable=frozenset(stateable) | predicted.undeniable,
        details=frozenset(agreed),
    )


def _findings_of(
    label: str, findings: set[str], share: Mapping[str, float], probabilities: Mapping[str, float]
) -> set[str]:
    """Findings of the pool that may stand for a label: the probable ones, or the most probable.

    Devices have no such fallback: a wrong kind of device is worse than none.
    """
    found = {name: probabilities.get(name, share[name]) for name in findings}
    probable = {n for n, p in found.items() if p >= MIN_SHARE_OF_LABEL * probabilities[label]}
    if not probable and found and label != _DEVICES:
        probable = {max(sorted(found), key=lambda name: found[name])}
    return probable
