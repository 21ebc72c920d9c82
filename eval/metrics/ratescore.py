"""RaTEScore: medical entities and their synonyms, through the radeval package."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from eval.io.studies import Pair
from eval.metrics.base import (
    Card,
    Direction,
    MetricGroup,
    Setup,
    SufficientStats,
    mean_measure,
)
from eval.metrics.radeval import quiet, radeval_module, scores_of_drafted
from eval.metrics.weights import local_model, no_download, weights_id

READER, SYNONYMS = "Angelakeke/RaTE-NER-Deberta", "FremyCompany/BioLORD-2023-C"
_NEEDS = "medspacy loguru"


class RateScore(MetricGroup):
    """See the card."""

    key = "ratescore"
    measures = (mean_measure("RaTEScore", Direction.HIGHER, column=0),)
    width = 2
    batch = 32
    card = Card(
        title="RaTEScore",
        formula="F of the best cosine of each entity with the other text's entities, weighted by "
        "their types, a penalty where one denies what the other states; mean over studies",
        words="medspaCy sentences, DeBERTa's word pieces",
        convention="'long' weights; the package scores .5 where a text has no entity, and so do "
        "we, but 0 for a missing draft",
        source="Zhao et al., EMNLP 2024; radeval 2.2.1",
    )

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._folders = [local_model(name, models=setup.models) for name in (READER, SYNONYMS)]
        radeval_module("RaTEScore.scorer", needs=_NEEDS)
        self.version = f"1-{weights_id(*self._folders)}"

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair: float64 [N, 2]."""
        return scores_of_drafted(pairs, self._scores)

    def _scores(self, drafts: list[str], references: list[str]) -> Sequence[float]:
        with quiet():
            scores, *_ = _model(*self._folders).compute_score(drafts, references)
        return [min(max(float(score), 0.0), 1.0) for score in scores]


@lru_cache(maxsize=1)
def _model(reader: Path, synonyms: Path) -> Any:
    with quiet(), no_download():
        scorer = radeval_module("RaTEScore.scorer", needs=_NEEDS).RaTEScore
        return scorer(bert_model=str(reader), eval_model=str(synonyms), use_gpu=False)
