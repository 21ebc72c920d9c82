"""ROUGE-L by rouge-score: the longest common subsequence of draft and reference."""

from collections.abc import Sequence
from typing import Any

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

_BETA = 1.2


class RougeL(MetricGroup):
    """See the card."""

    key = "rouge"
    width = 4
    measures = (
        mean_measure("ROUGE-L", Direction.HIGHER, column=0),
        mean_measure("ROUGE-L β1.2", Direction.HIGHER, column=2),
    )
    card = Card(
        title="ROUGE-L",
        formula="P and R = longest common subsequence / words of draft and of reference; "
        "F = (1+β²)PR / (R+β²P), mean over studies",
        words="ROUGE-L: rouge-score's own (lower case, letters and digits only, no stemmer); "
        "ROUGE-L β1.2: {cleaning}",
        convention="ROUGE-L has β = 1 as in rouge-score; ROUGE-L β1.2 is what COCO caption "
        "scoring and most report-generation papers print",
        source="Lin, ACL workshop 2004; rouge-score 0.1.2",
    )

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        cleaning = setup.cleaning
        # imported late, because it brings nltk along
        from rouge_score import rouge_scorer, tokenizers  # type: ignore[import-untyped] # noqa: PLC0415

        class Words(tokenizers.Tokenizer):  # type: ignore[misc] # rouge-score has no types
            def tokenize(self, text: str) -> list[str]:
                return cleaning.words(text)

        self._own: Any = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
        self._coco: Any = rouge_scorer.RougeScorer(["rougeL"], tokenizer=Words())

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair: float64 [N, 4]."""
        return mean_rows([self._one(pair) for pair in pairs])

    def _one(self, pair: Pair) -> tuple[float, float]:
        own = self._own.score(pair.reference, pair.draft)["rougeL"]
        coco = self._coco.score(pair.reference, pair.draft)["rougeL"]
        below = coco.recall + _BETA**2 * coco.precision
        weighted = (1 + _BETA**2) * coco.precision * coco.recall / below if below else 0.0
        return own.fmeasure, weighted
