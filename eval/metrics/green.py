"""GREEN: a language model counts matched findings and significant errors, through radeval."""

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

REPOSITORY = "StanfordAIMI/GREEN-radllama2-7b"
_NEEDS = "datasets"


class Green(MetricGroup):
    """See the card."""

    key = "green"
    measures = (mean_measure("GREEN", Direction.HIGHER, column=0),)
    width = 2
    batch = 8
    card = Card(
        title="GREEN",
        formula="matched findings / (matched findings + clinically significant errors), as the "
        "model counts them; mean over studies",
        words="the model's own prompt; each text cut at 300 words",
        convention="0 for a missing draft, and for an answer without a match; greedy decoding",
        source="Ostmeier et al., EMNLP 2024; radeval 2.2.1. The model's folder may hold code that "
        "transformers runs: take it from its authors only",
    )

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._folder = local_model(REPOSITORY, models=setup.models)
        radeval_module("green_score.green", needs=_NEEDS)
        self.version = f"1-{weights_id(self._folder)}"

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair: float64 [N, 2]."""
        return scores_of_drafted(pairs, self._scores)

    def _scores(self, drafts: list[str], references: list[str]) -> Sequence[float | None]:
        with quiet(), no_download():
            _, _, scores, _ = _model(self._folder)(refs=references, hyps=drafts)
        return list(scores)


@lru_cache(maxsize=1)
def _model(folder: Path) -> Any:
    with quiet(), no_download():
        return radeval_module("green_score.green", needs=_NEEDS).GREEN(model_name=str(folder))
