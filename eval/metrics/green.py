"""GREEN: a language model counts matched findings and significant errors, through radeval."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from eval.io.studies import Pair
from eval.metrics.base import Card, Direction, Setup, SufficientStats, mean_measure, mean_rows
from eval.metrics.radeval import quiet, radeval_module
from eval.metrics.weights import local_model, no_download, weights_id
from eval.text import Cleaning

REPOSITORY = "StanfordAIMI/GREEN-radllama2-7b"
_NEEDS = "datasets"

MEASURES = (mean_measure("GREEN", Direction.HIGHER, column=0),)


class Green:
    """See the card."""

    key = "green"
    measures = MEASURES
    width = 2
    batch = 8
    whole_run = False
    reads_evidence = False
    card = Card(
        title="GREEN",
        formula="matched findings / (matched findings + clinically significant errors), as the "
        "model counts them; mean over studies",
        words="the model's own prompt; each text cut at 300 words",
        convention="0 for a missing draft, and for an answer without a match; greedy decoding",
        source="Ostmeier et al., EMNLP 2024; radeval 2.2.1. The model's folder may hold code that "
        "transformers runs: take it from its authors only",
    )

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.version = f"1-{weights_id(folder)}"

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row a pair: float64 [N, 2]."""
        there = [pair for pair in pairs if pair.draft.strip() and pair.reference.strip()]
        found: dict[int, float] = {}
        if there:
            with quiet(), no_download():
                _, _, scores, _ = _model(self._folder)(
                    refs=[pair.reference for pair in there], hyps=[pair.draft for pair in there]
                )
            found = {id(p): float(value or 0.0) for p, value in zip(there, scores, strict=True)}
        return mean_rows([[found.get(id(pair), 0.0)] for pair in pairs])


def card(_: Cleaning) -> Card:
    """What this family measures."""
    return Green.card


def family(setup: Setup) -> Green:
    """GREEN, if radeval and the model are on this disk."""
    folder = local_model(REPOSITORY, models=setup.models)
    radeval_module("green_score.green", needs=_NEEDS)
    return Green(folder)


@lru_cache(maxsize=1)
def _model(folder: Path) -> Any:
    with quiet(), no_download():
        return radeval_module("green_score.green", needs=_NEEDS).GREEN(model_name=str(folder))
