"""Plots as SVG text without scripts or requests, readable in both colour schemes.

Colours come from the page's style sheet by class: ``s0``, ``s1``, ... one per system.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 420, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 10, 38


@dataclass(frozen=True, slots=True)
class Series:
    """One line: its name, its points, and its colour's number."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    colour: int = 0


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


def line_chart(
    title: str, series: Sequence[Series], *, x: Axis, y: Axis, diagonal: bool = False
) -> str:
    """Lines over two axes; ``diagonal`` draws chance."""
    parts = [_frame(x, y)]
    if diagonal:
        start, end = _point(x.low, y.low, x, y), _point(x.high, y.high, x, y)
        parts.append(f'<path class="chance" d="M{start} L{end}"/>')
    for line in series:
        known = [(a, b) for a, b in zip(line.x, line.y, strict=True) if b is not None]
        points = " L".join(_point(a, b, x, y) for a, b in known)
        name = escape(line.name)
        parts.append(
            f'<path class="line s{line.colour}" d="M{points}"><title>{name}</title></path>'
        )
        if len(known) <= 12:
            parts += [
                f'<circle class="dot s{line.colour}" r="3.5" cx="{_x(a, x):.1f}" '
                f'cy="{_y(b, y):.1f}"><title>{name}: {_short(a)}, {_short(b)}</title></circle>'
                for a, b in known
            ]
    return _svg(title, "".join(parts))


def histogram(title: str, groups: Sequence[tuple[str, Sequence[float], int]], *, label: str) -> str:
    """Two or more distributions over the same bins, side by side: (name, values, colour)."""
    everything = [value for _, values, _ in groups for value in values]
    top = max(everything, default=1.0)
    step = max(1, math.ceil(top / 20))
    bins = math.floor(top / step) + 1
    counts = [[0] * bins for _ in groups]
    for row, (_, values, _) in zip(counts, groups, strict=True):
        for value in values:
            row[int(value // step)] += 1
    highest = max((count for row in counts for count in row), default=1) or 1
    x, y = Axis(label, 0, bins * step), Axis("studies", 0, highest * 1.05)
    parts = [_frame(x, y)]
    width = 1 / (len(groups) + 0.4)
    for place, (row, (name, _, colour)) in enumerate(zip(counts, groups, strict=True)):
        for at, count in enumerate(row):
            if count:
                left, right = (
                    _x((at + (0.2 + place + edge) * width) * step, x) for edge in (0.0, 0.92)
                )
                height = _y(0, y) - _y(count, y)
                parts.append(
                    f'<rect class="bar s{colour}" x="{left:.1f}" y="{_y(count, y):.1f}" '
                    f'width="{right - left:.1f}" height="{height:.1f}"><title>{escape(name)}: '
                    f"{count} with {at * step} to {(at + 1) * step - 1}</title></rect>"
                )
    return _svg(title, "".join(parts))


def strip(marks: Sequence[tuple[str, float, float, float, int]], *, low: float, high: float) -> str:
    """Values with intervals on one small scale: (name, value, low, high, colour) from top down."""
    axis, width, row = Axis("", low, high), 150, 7
    height = row * len(marks) + 4
    parts = [f'<line class="axis" x1="3" x2="{width - 3}" y1="{height - 1}" y2="{height - 1}"/>']
    for place, (name, value, start, end, colour) in enumerate(marks):
        y = 4 + place * row
        left, right, middle = (
            3 + min(max(axis.at(v), 0.0), 1.0) * (width - 6) for v in (start, end, value)
        )
        parts.append(
            f'<g class="s{colour}"><line class="whisker" x1="{left:.1f}" x2="{right:.1f}" y1="{y}" '
            f'y2="{y}"/><circle class="dot" cx="{middle:.1f}" cy="{y}" r="2.6"/>'
            f"<title>{escape(name)}: {_short(value)} [{_short(start)}, {_short(end)}]</title></g>"
        )
    return (
        f'<svg class="strip" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{_short(low)} to {_short(high)}">{"".join(parts)}</svg>'
    )


def _frame(x: Axis, y: Axis) -> str:
    left, right, top, bottom = _LEFT, _WIDTH - _RIGHT, _TOP, _HEIGHT - _BOTTOM
    parts = [f'<path class="axis" d="M{left},{top} V{bottom} H{right}"/>']
    for tick in x.ticks(6):
        at = _x(tick, x)
        parts.append(
            f'<text class="tick" x="{at:.1f}" y="{bottom + 15}" text-anchor="middle">'
            f"{_short(tick)}</text>"
        )
    for tick in y.ticks():
        at = _y(tick, y)
        parts.append(
            f'<line class="grid" x1="{left}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text class="tick" x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">{_short(tick)}'
            "</text>"
        )
    middle = (top + bottom) / 2
    parts.append(
        f'<text class="label" x="{(left + right) / 2}" y="{_HEIGHT - 4}" text-anchor="middle">'
        f'{escape(x.label)}</text><text class="label" text-anchor="middle" '
        f'transform="translate(11,{middle}) rotate(-90)">{escape(y.label)}</text>'
    )
    return "".join(parts)


def _svg(title: str, inside: str) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{inside}</svg>'
    )


def _x(value: float, axis: Axis) -> float:
    return _LEFT + axis.at(value) * (_WIDTH - _LEFT - _RIGHT)


def _y(value: float, axis: Axis) -> float:
    return _HEIGHT - _BOTTOM - axis.at(value) * (_HEIGHT - _TOP - _BOTTOM)


def _point(a: float, b: float, x: Axis, y: Axis) -> str:
    return f"{_x(a, x):.1f},{_y(b, y):.1f}"


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1_000 else f"{value:.0f}"
