"""RaTEScore: medical entities and their synonyms, through the radeval package."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from eval.io.studies import Pair
from eval.metrics.base import Card, Direction, Setup, SufficientStats, mean_measure, mean_rows
from eval.metrics.radeval import quiet, radeval_module
from eval.metrics.weights import local_model, no_download, weights_id
from eval.text import Cleaning

READER, SYNONYMS = "Angelakeke/RaTE-NER-Deberta", "FremyCompany/BioLORD-2023-C"
_NEEDS = "medspacy loguru"

MEASURES = (mean_measure("RaTEScore", Direction.HIGHER, column=0),)


class RateScore:
    """See the card."""

    key = "ratescore"
    measures = MEASURES
    width = 2
    batch = 32
    whole_run = False
    reads_evidence = False
    card = Card(
        title="RaTEScore",
        formula="F of the best cosine of each entity with the other text's entities, weighted by "
        "their types, a penalty where one denies what the other states; mean over studies",
        words="medspaCy sentences, DeBERTa's word pieces",
        convention="'long' weights; the package scores .5 where a text has no entity, and so do "
        "we, but 0 for a missing draft",
        source="Zhao et al., EMNLP 2024; radeval 2.2.1",
    )

    def __init__(self, reader: Path, synonyms: Path) -> None:
        self._folders = reader, synonyms
        self.version = f"1-{weights_id(reader, synonyms)}"

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row a pair: float64 [N, 2]."""
        there = [pair for pair in pairs if pair.draft.strip() and pair.reference.strip()]
        found: dict[int, float] = {}
        if there:
            drafts, references = [p.draft for p in there], [p.reference for p in there]
            with quiet():
                scores, *_ = _model(*self._folders).compute_score(drafts, references)
            found = {
                id(p): min(max(float(v), 0.0), 1.0) for p, v in zip(there, scores, strict=True)
            }
        return mean_rows([[found.get(id(pair), 0.0)] for pair in pairs])


def card(_: Cleaning) -> Card:
    """What this family measures."""
    return RateScore.card


def family(setup: Setup) -> RateScore:
    """RaTEScore, if radeval, medspaCy and both models are on this disk."""
    folders = [local_model(name, models=setup.models) for name in (READER, SYNONYMS)]
    radeval_module("RaTEScore.scorer", needs=_NEEDS)
    return RateScore(*folders)


@lru_cache(maxsize=1)
def _model(reader: Path, synonyms: Path) -> Any:
    with quiet(), no_download():
        scorer = radeval_module("RaTEScore.scorer", needs=_NEEDS).RaTEScore
        return scorer(bert_model=str(reader), eval_model=str(synonyms), use_gpu=False)
