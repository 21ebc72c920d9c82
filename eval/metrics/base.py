"""The interface of a metric, and the registry of metrics.

A metric group scores each study once, as a row of sufficient statistics. The score of any set of
studies is a function of the sum of their rows, so one study, a subset, a bootstrap sample and a
swapped pair of runs are the same computation, for corpus measures (BLEU, F1) and for means.
"""

import tomllib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.errors import EvalUsageError, NotAvailableError
from eval.studies import Pair
from eval.text import Cleaning

SufficientStats = NDArray[np.float64]


class Direction(StrEnum):
    """Whether a high or a low value is good."""

    HIGHER = "higher is better"
    LOWER = "lower is better"
    NONE = "describes, no direction"

    @property
    def arrow(self) -> str:
        """A space and an arrow for tables, or nothing."""
        return {Direction.HIGHER: " ↑", Direction.LOWER: " ↓"}.get(self, "")


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of a metric group.

    Attributes:
        name: as printed, e.g. "BLEU-4".
        low, high: its range, perhaps infinite.
        combine: rows summed over studies, float64 [..., S] -> float64 [...]; NaN if undefined.
        count: summed rows -> number of studies it is based on; None means all of them.
        per_study: whether the value of a single study is meaningful (a macro mean's is not).
    """

    name: str
    direction: Direction
    low: float
    high: float
    combine: Callable[[SufficientStats], SufficientStats]
    count: Callable[[SufficientStats], SufficientStats] | None = None
    per_study: bool = True

    @property
    def worst(self) -> float:
        """The score of a study without a draft; NaN for a measure without a direction."""
        worst = {Direction.HIGHER: self.low, Direction.LOWER: self.high}
        return worst.get(self.direction, float("nan"))


@dataclass(frozen=True, slots=True)
class JudgeServer:
    """A language model that judges reports, at an OpenAI-compatible URL that ends in /v1."""

    url: str
    model: str
    api_key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Setup:
    """What a metric may need.

    Attributes:
        references: all reference texts of the study set, for CIDEr-D's document frequencies.
        models: folder of the weights of model-based metrics.
    """

    cleaning: Cleaning
    references: tuple[str, ...]
    models: Path = Path("models")
    judge: JudgeServer | None = None


class MetricGroup(ABC):
    """Measures that share one row of statistics per study.

    Attributes:
        key: its name on the command line.
        version: changes whenever a score could; part of the cache key.
        width: columns of a row.
        batch_size: pairs scored between two writes to the cache.
        whole_run: whether a row depends on the other drafts of its run; such rows are not cached.
        uses_evidence: whether a row depends on the draft's sources and evidence.
        card: as `card` returns it.
        made_by: models it used, by role, for the result.
        notes: what a reader should know of this run's scores.
    """

    key: str
    version = "1"
    measures: tuple[Measure, ...]
    width: int
    batch_size = 1_000
    whole_run = False
    uses_evidence = False
    made_by: Mapping[str, list[str]] = MappingProxyType({})
    notes: Sequence[str] = ()

    def __init__(self, setup: Setup) -> None:
        """Load what the metric needs.

        Raises:
            NotAvailableError: weights or a package are missing; says what to install.
        """
        self.cleaning = setup.cleaning
        self.card = card(self.key, cleaning=str(setup.cleaning))

    @abstractmethod
    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair: float64 [N, width]. A missing draft gets the worst row."""


class MeanMetric(MetricGroup):
    """A metric whose measures are all means over studies."""

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair: float64 [N, 2 M]."""
        return mean_rows([self.score_pair(pair) for pair in pairs])

    @abstractmethod
    def score_pair(self, pair: Pair) -> Sequence[float]:
        """The M measures of one pair."""


def mean_measure(
    name: str, direction: Direction, *, column: int, low: float = 0.0, high: float = 1.0
) -> Measure:
    """A mean over studies: ``column`` has its sum, the next column its count."""
    return Measure(
        name,
        direction,
        low,
        high,
        lambda rows: divide(rows[..., column], rows[..., column + 1]),
        lambda rows: rows[..., column + 1],
    )


def mean_rows(values: Sequence[Sequence[float]] | SufficientStats) -> SufficientStats:
    """Values of N studies and M mean measures -> rows [N, 2 M]; NaN is skipped."""
    array = np.asarray(values, dtype=np.float64)
    defined = ~np.isnan(array)
    rows = np.empty((array.shape[0], 2 * array.shape[1]))
    rows[:, 0::2] = np.where(defined, array, 0.0)
    rows[:, 1::2] = defined
    return rows


def divide(numerator: SufficientStats, denominator: SufficientStats) -> SufficientStats:
    """Quotient, NaN where the denominator is 0."""
    safe = np.where(denominator == 0, np.nan, denominator)
    return np.asarray(numerator / safe, dtype=np.float64)


def card(key: str, **blanks: object) -> dict[str, str]:
    """Title, formula, words, convention and source of a metric or task, from cards.toml."""
    return {name: text.format_map(blanks) for name, text in _cards()[key].items()}


@lru_cache(maxsize=1)
def _cards() -> dict[str, Any]:
    return tomllib.loads(files("eval").joinpath("cards.toml").read_text(encoding="utf-8"))


RULE_BASED = {
    "bleu": "overlap.Bleu",
    "rouge": "overlap.RougeL",
    "cider": "overlap.CiderD",
    "labels": "findings.LabelF1",
    "stated": "findings.StatedFindings",
    "diversity": "drafts.Diversity",
    "grounding": "drafts.Grounding",
}
"""Module and class of each metric that runs by default; modules are imported on demand."""

MODEL_BASED = {
    "bertscore": "bert.BertScore",
    "chexbert": "bert.Chexbert",
    "radgraph": "radeval.RadGraph",
    "radcliq": "radeval.RadCliQ",
    "ratescore": "radeval.RateScore",
    "green": "radeval.Green",
    "judge": "judge.Judge",
}
"""Metrics that need weights or a judge."""

KEYS = (*RULE_BASED, *MODEL_BASED)


def load_metrics(keys: Iterable[str], setup: Setup) -> tuple[list[MetricGroup], dict[str, str]]:
    """The metrics that can run here, and for the others what to install.

    Raises:
        EvalUsageError: an unknown key.
    """
    ready, missing = [], {}
    for key in keys:
        try:
            ready.append(metric_class(key)(setup))
        except NotAvailableError as error:
            missing[key] = str(error)
    return ready, missing


def metric_class(key: str) -> type[MetricGroup]:
    """The class of a metric, which knows its measures without weights.

    Raises:
        EvalUsageError: an unknown key.
    """
    if key not in KEYS:
        raise EvalUsageError(f"unknown measure {key!r}: choose from {', '.join(KEYS)}")
    module, _, name = (RULE_BASED | MODEL_BASED)[key].partition(".")
    metric: type[MetricGroup] = getattr(import_module(f"eval.metrics.{module}"), name)
    return metric
