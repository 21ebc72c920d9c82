"""BERTScore as ReXrank has it: distilroberta-base, layer 5, rescaled, no idf.

The greedy matching is written here: the reference package wants matplotlib to be imported. It was
held against bert-score 0.3.13 (docs/metrics.md).
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from eval.metrics.weights import local_model, weights_id

if TYPE_CHECKING:
    import torch

REPOSITORY = "distilroberta-base"
LAYER = 5
BASELINE = 0.8473319
"""F of unrelated English sentences at this layer (bert-score 0.3.13, rescale_baseline/en)."""

_LONGEST = 512
_NOTHING = (0.0 - BASELINE) / (1 - BASELINE)
"""Rescaled F = 0: what a missing draft scores, as in bert-score."""


class BertScore(MetricGroup):
    """See the card."""

    key = "bertscore"
    measures = (mean_measure("BERTScore", Direction.HIGHER, column=0, low=_NOTHING),)
    width = 2
    batch = 64
    card = Card(
        title="BERTScore",
        formula="F of greedy cosine matching of contextual word pieces, (F - b) / (1 - b) with the "
        f"baseline b = {BASELINE}",
        words="none: RoBERTa's word pieces, leading blank; text as it stands, cut at 512 pieces",
        convention="distilroberta-base, layer 5, rescaled, no idf, as ReXrank; a missing draft "
        "scores as F = 0; mean over studies",
        source="Zhang et al., ICLR 2020; agrees with bert-score 0.3.13",
    )

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._folder = local_model(REPOSITORY, models=setup.models)
        self.version = f"1-{weights_id(self._folder)}"

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair: float64 [N, 2]."""
        return mean_rows([[self.f1(pair.draft, pair.reference)] for pair in pairs])

    def f1(self, draft: str, reference: str) -> float:
        """Rescaled F of one pair; an empty draft has F = 0."""
        if not draft.strip() or not reference.strip():
            return _NOTHING
        ours, theirs = _embed(self._folder, draft), _embed(self._folder, reference)
        similarity = (ours @ theirs.T).numpy()
        # the two marks around a text can be matched but are not scored
        precision = float(similarity.max(axis=1)[1:-1].mean())
        recall = float(similarity.max(axis=0)[1:-1].mean())
        total = precision + recall
        return (2 * precision * recall / total - BASELINE) / (1 - BASELINE) if total else _NOTHING


@lru_cache(maxsize=4096)
def _embed(folder: Path, text: str) -> "torch.Tensor":
    """Unit vectors of the word pieces, marks included: float32 [P, D]."""
    import torch  # noqa: PLC0415

    tokenizer, model = _model(folder)
    pieces = tokenizer(text.strip(), truncation=True, max_length=_LONGEST, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**pieces, output_hidden_states=True).hidden_states[LAYER][0]
    return torch.nn.functional.normalize(hidden, dim=-1)


@lru_cache(maxsize=1)
def _model(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415

    tokenizer = AutoTokenizer.from_pretrained(folder, add_prefix_space=True)
    return tokenizer, AutoModel.from_pretrained(folder).eval()
