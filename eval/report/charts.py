"""What the page's plots show; templates/charts.html draws them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Axis:
    """A label and a range; with ``low`` and ``high`` equal it is widened."""

    label: str
    low: float
    high: float

    def at(self, value: float) -> float:
        """Place of a value along the axis, in [0, 1] if it is within."""
        return (value - self.low) / ((self.high - self.low) or 1.0)

    def ticks(self, count: int = 5) -> list[float]:
        """Round numbers within the range."""
        span = (self.high - self.low) or 1.0
        step = 10 ** math.floor(math.log10(span / count))
        step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= count)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [tick * step for tick in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Line:
    """A line's name, its points, and its colour's number."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    colour: int = 0

    @property
    def points(self) -> list[tuple[float, float]]:
        """Those that have a value."""
        return [(a, b) for a, b in zip(self.x, self.y, strict=True) if b is not None]


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines or bars over two axes.

    Attributes:
        bars: each with ``start``, ``end``, ``count``, ``colour`` and ``title``.
        diagonal: whether chance is drawn.
        words: sentences below.
        legend: whether the lines are named below.
    """

    title: str
    x: Axis
    y: Axis
    lines: Sequence[Line] = ()
    bars: Sequence[dict[str, Any]] = ()
    diagonal: bool = False
    words: Sequence[str] = ()
    legend: bool = False


def histogram(
    title: str, groups: Sequence[tuple[str, Sequence[float], int]], *, label: str, words: list[str]
) -> Plot:
    """Distributions over the same bins, side by side: (name, values, colour)."""
    top = max((value for _, values, _ in groups for value in values), default=1.0)
    step = max(1, math.ceil(top / 20))
    bins = math.floor(top / step) + 1
    width = step / (len(groups) + 0.4)
    bars: list[dict[str, Any]] = []
    for place, (name, values, colour) in enumerate(groups):
        for at in range(bins):
            count = sum(int(value // step) == at for value in values)
            start = at * step + (0.2 + place) * width
            if count:
                bars.append(
                    {
                        "start": start,
                        "end": start + 0.92 * width,
                        "count": count,
                        "colour": colour,
                        "title": f"{name}: {count} with {at * step} to {(at + 1) * step - 1}",
                    }
                )
    highest = max((bar["count"] for bar in bars), default=1)
    y = Axis("studies", 0, highest * 1.05)
    return Plot(title, Axis(label, 0, bins * step), y, bars=bars, words=words)
