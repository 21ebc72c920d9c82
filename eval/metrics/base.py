"""What a measure is: numbers of one study that can be added up, and how a sum becomes a score.

A family scores each study once, as a row of sufficient statistics. The score of any set of studies
is a function of the sum of their rows, so one study, a subset, a bootstrap sample and a swapped
pair of runs are all the same computation, for corpus measures (BLEU, F1) as for means.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

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
    """One number of a family.

    Attributes:
        name: as printed, e.g. "BLEU-4".
        low, high: range of the number; infinite where there is no bound.
        combine: float64 [..., S], rows summed over studies -> float64 [...]; NaN where undefined.
        count: float64 [..., S] -> how many studies the number rests on; None means all of them.
        single: whether the number of one study means anything (a macro mean of one does not).
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
    """What a reader must know before quoting a number of this family."""

    title: str
    formula: str
    words: str
    """Cleaning and tokenisation."""
    convention: str
    source: str


class MetricGroup(Protocol):
    """Measures that share one row of statistics a study."""

    key: str
    version: str
    """Changes whenever a number could; part of the cache key."""
    card: Card
    measures: tuple[Measure, ...]
    width: int
    batch: int
    """Pairs to score between two writes to the cache; large where starting costs most."""
    whole_run: bool
    """Whether a study's row depends on the other drafts of its run (such rows are not cached)."""
    reads_evidence: bool

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row a pair: float64 [N, width]. A missing draft gets the worst row."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a family may need to know before it scores.

    Attributes:
        cleaning: convention for measures on words.
        references: all reference texts of the study set (CIDEr-D weighs words by them).
        models: folder of the weights that model-based measures need.
    """

    cleaning: Cleaning
    references: tuple[str, ...]
    models: Path = Path("models")


def mean_measure(
    name: str, direction: Direction, *, column: int, low: float = 0.0, high: float = 1.0
) -> Measure:
    """A mean over studies: its sum stands in ``column``, its count in the column after."""

    def combine(rows: SufficientStats) -> SufficientStats:
        return divide(rows[..., column], rows[..., column + 1])

    return Measure(name, direction, low, high, combine, lambda rows: rows[..., column + 1])


def mean_rows(values: Sequence[Sequence[float]]) -> SufficientStats:
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
