"""Metrics as sums of sufficient statistics.

A metric group scores each study once, as a row of statistics. The score of any set of studies is a
function of the sum of their rows, so one study, a subset, a bootstrap sample and a swapped pair of
runs are the same computation, for corpus measures (BLEU, F1) and for means.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.io.studies import Pair
from eval.text import Cleaning

SufficientStats = NDArray[np.float64]


class Direction(StrEnum):
    """Which end of a measure is good."""

    HIGHER = "higher is better"
    LOWER = "lower is better"
    NONE = "describes, no direction"

    @property
    def arrow(self) -> str:
        """A sign for tables."""
        return {Direction.HIGHER: "↑", Direction.LOWER: "↓"}.get(self, "")


@dataclass(frozen=True, slots=True)
class Measure:
    """One number.

    Attributes:
        name: as printed, e.g. "BLEU-4".
        low, high: range of the number; infinite where there is no bound.
        combine: float64 [..., S], rows summed over studies -> float64 [...]; NaN where undefined.
        count: float64 [..., S] -> how many studies the number rests on; None means all of them.
        single: whether the number of a single study means anything (a macro mean does not).
    """

    name: str
    direction: Direction
    low: float
    high: float
    combine: Callable[[SufficientStats], SufficientStats]
    count: Callable[[SufficientStats], SufficientStats] | None = None
    single: bool = True

    @property
    def worst(self) -> float:
        """What a study without a draft scores; NaN for a measure without a direction."""
        ends = {Direction.HIGHER: self.low, Direction.LOWER: self.high}
        return ends.get(self.direction, float("nan"))


@dataclass(frozen=True, slots=True)
class Card:
    """What a reader must know before quoting a number.

    Attributes:
        words: cleaning and tokenisation; "{cleaning}" stands for the cleaning in use.
    """

    title: str
    formula: str
    words: str
    convention: str
    source: str

    def cleaned_by(self, cleaning: Cleaning) -> "Card":
        """The card with the cleaning in use."""
        words = self.words.replace("{cleaning}", f"{cleaning.name}: {cleaning.what}")
        return replace(self, words=words)


@dataclass(frozen=True, slots=True)
class Setup:
    """What a metric may need before it scores.

    Attributes:
        cleaning: convention for measures on words.
        references: all reference texts of the study set (CIDEr-D weighs words by them).
        models: folder of the weights that model-based metrics need.
    """

    cleaning: Cleaning
    references: tuple[str, ...]
    models: Path = Path("models")


class MetricGroup(ABC):
    """Measures that share one row of statistics per study.

    Attributes:
        key: its name on the command line.
        version: changes whenever a number could; part of the cache key.
        width: of a row.
        batch: pairs to score between two writes to the cache; large where starting costs most.
        whole_run: whether a row depends on the other drafts of its run; such rows are not cached.
        reads_evidence: whether a row depends on the draft's sources and evidence.
    """

    key: str
    version = "1"
    card: Card
    measures: tuple[Measure, ...]
    width: int
    batch = 1_000
    whole_run = False
    reads_evidence = False

    def __init__(self, setup: Setup) -> None:
        """Prepare scoring.

        Raises:
            NotAvailableError: weights or a program are missing; says what to install.
        """
        self.cleaning = setup.cleaning
        self.card = self.card.cleaned_by(setup.cleaning)

    @abstractmethod
    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair: float64 [N, width]. A missing draft gets the worst row."""


def mean_measure(
    name: str, direction: Direction, *, column: int, low: float = 0.0, high: float = 1.0
) -> Measure:
    """A mean over studies: its sum stands in ``column``, its count in the column after."""

    def combine(rows: SufficientStats) -> SufficientStats:
        return divide(rows[..., column], rows[..., column + 1])

    return Measure(name, direction, low, high, combine, lambda rows: rows[..., column + 1])


def mean_rows(values: Sequence[Sequence[float]] | SufficientStats) -> SufficientStats:
    """Values of N studies and M mean measures -> rows [N, 2 M]; a NaN does not count."""
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
