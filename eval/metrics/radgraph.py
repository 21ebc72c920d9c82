"""RadGraph F1: entities and relations that a span model reads, through the radeval package."""

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
    mean_rows,
)
from eval.metrics.radeval import quiet, radeval_module
from eval.metrics.weights import local_file, no_download, weights_id

XL, ORIGINAL = "radgraph-xl", "radgraph"
NEEDS = "dotmap jsonpickle appdirs h5py"

MEASURES = tuple(
    mean_measure(f"RadGraph F1 {level}", Direction.HIGHER, column=2 * at)
    for at, level in enumerate(("entities", "partial", "complete"))
)


class RadGraph(MetricGroup):
    """See the card."""

    key = "radgraph"
    measures = MEASURES
    width = 2 * len(MEASURES)
    batch = 32
    card = Card(
        title="RadGraph F1",
        formula="F1 of the sets of (entity, label); partial: and whether it has a relation; "
        "complete: and each relation with its target; mean over studies",
        words="RadGraph-XL's own; both texts in lower case, since matching is by letter",
        convention="0 for a missing draft and where a side has no entity; papers mostly quote "
        "'partial'",
        source="Jain et al., NeurIPS 2021; Delbrouck et al., ACL 2024 (XL); radeval 2.2.1",
    )

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._models = setup.models
        self.version = f"1-{weights_id(find_weights(setup.models, XL))}"
        self._reward: Any = radeval_module("radgraph._vendor.rewards", needs=NEEDS).compute_reward

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair: float64 [N, 6]."""
        return mean_rows([self._one(pair) for pair in pairs])

    def _one(self, pair: Pair) -> tuple[float, ...]:
        if not pair.draft.strip() or not pair.reference.strip():
            return (0.0,) * len(MEASURES)
        found = [annotate(self._models, XL, text) for text in (pair.draft, pair.reference)]
        return tuple(map(float, self._reward(*found, "all")))


def find_weights(models: Path, name: str) -> Path:
    """Folder of an unpacked RadGraph archive.

    Raises:
        NotAvailableError: says what to put where.
    """
    source = f"{name}.tar.gz of StanfordAIMI/RRG_scorers, unpacked,"
    return local_file(f"{name}/config.json", source=source, models=models).parent


@lru_cache(maxsize=4096)
def annotate(models: Path, name: str, text: str) -> dict[str, Any]:
    """Entities of a text, each with its words, its label and its relations."""
    with quiet():
        found: dict[str, Any] = _model(models, name)([" ".join(text.lower().split())])
    read: dict[str, Any] = found.get("0", {"entities": {}})
    return read


@lru_cache(maxsize=2)
def _model(models: Path, name: str) -> Any:
    with quiet(), no_download():
        reader = radeval_module("radgraph", needs=NEEDS).RadGraph
        return reader(model_type=name, model_cache_dir=str(models), cuda=-1)
