"""RadCliQ-v1 as ReXrank defines it: a line through four scores, fitted to radiologists' errors."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from eval.io.studies import Pair
from eval.metrics.base import (
    Card,
    Direction,
    MetricGroup,
    Setup,
    SufficientStats,
    mean_measure,
    mean_rows,
)
from eval.metrics.bertscore import BertScore
from eval.metrics.bleu import Bleu
from eval.metrics.chexbert import Chexbert
from eval.metrics.radeval import radeval_module
from eval.metrics.radgraph import NEEDS, ORIGINAL, annotate, find_weights
from eval.metrics.weights import weights_id
from eval.text import CXR_REPORT_METRIC

# Scaler and coefficients of CXR-Report-Metric's v1 model, in the order RadGraph (mean of entity and
# relation F1), BERTScore, CheXbert similarity, BLEU-2; last the intercept.
_MEAN = np.array([0.53792312, 0.61757256, 0.76479421, 0.44738335])
_SCALE = np.array([0.30282584, 0.22430938, 0.25394391, 0.29892717])
_WEIGHTS = np.array([-0.377083683, -0.370300100, -0.252616218, 4.31504841e-12])
_INTERCEPT = 2.46655256e-10


def composite(radgraph: float, bert: float, similarity: float, bleu_2: float) -> float:
    """RadCliQ-v1 of the four scores of one pair; lower is better."""
    scaled = (np.array([radgraph, bert, similarity, bleu_2]) - _MEAN) / _SCALE
    return float(scaled @ _WEIGHTS + _INTERCEPT)


WORST = composite(0.0, BertScore.measures[0].worst, -1.0, 0.0)
"""What a missing draft scores: the worst value of each part."""

MEASURES = (
    mean_measure(
        "RadCliQ-v1", Direction.LOWER, column=0, low=composite(1.0, 1.0, 1.0, 1.0), high=WORST
    ),
)


class RadCliQ(MetricGroup):
    """See the card."""

    key = "radcliq"
    measures = MEASURES
    width = 2
    batch = 32
    card = Card(
        title="RadCliQ-v1",
        formula="linear in RadGraph (mean of entity and relation F1), BERTScore, CheXbert "
        "similarity and BLEU-2, each standardised; mean over studies",
        words="RadGraph in lower case; BERTScore and CheXbert as their own cards say; BLEU-2 "
        f"{CXR_REPORT_METRIC.name}: {CXR_REPORT_METRIC.what}",
        convention="the original radgraph model, not XL; BERTScore rescaled, no idf; lower is "
        "better, as on ReXrank's IU table; where ReXrank prints 1 / RadCliQ-v1, take 1 / this; a "
        f"missing draft scores {WORST:.2f}, the worst of every part",
        source="Yu et al., Patterns 2023; CXR-Report-Metric",
    )

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        radeval_module("radgraph", needs=NEEDS)
        own = weights_id(find_weights(setup.models, ORIGINAL))
        self._models = setup.models
        self._bert, self._chexbert = BertScore(setup), Chexbert(setup)
        self._bleu = Bleu(replace(setup, cleaning=CXR_REPORT_METRIC))
        self.version = f"1-{own}-{self._bert.version}-{self._chexbert.version}"

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair: float64 [N, 2]."""
        bleu_2 = Bleu.measures[1].combine(self._bleu.score(pairs))
        return mean_rows([[self._one(p, float(b))] for p, b in zip(pairs, bleu_2, strict=True)])

    def _one(self, pair: Pair, bleu_2: float) -> float:
        if not pair.draft.strip() or not pair.reference.strip():
            return WORST
        found = [annotate(self._models, ORIGINAL, t) for t in (pair.reference, pair.draft)]
        graph = (_f1(*map(_entities, found)) + _f1(*map(_relations, found))) / 2
        return composite(
            graph,
            self._bert.f1(pair.draft, pair.reference),
            self._chexbert.similarity(pair.draft, pair.reference),
            bleu_2,
        )


def _entities(found: dict[str, Any]) -> set[tuple[str, str]]:
    return {(entity["tokens"], entity["label"]) for entity in found["entities"].values()}


def _relations(found: dict[str, Any]) -> set[tuple[str, str, str, str, str]]:
    entities = found["entities"]
    return {
        (entity["tokens"], entity["label"], kind, other["tokens"], other["label"])
        for entity in entities.values()
        for kind, target in entity["relations"]
        if (other := entities.get(target))
    }


def _f1(reference: set[Any], draft: set[Any]) -> float:
    shared, total = len(reference & draft), len(reference) + len(draft)
    return 2 * shared / total if total else 0.0
