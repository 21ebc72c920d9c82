"""The training curves of a run as a picture, from its metrics.csv.

Owns curves.svg: one panel a number, the step to the right. A loss of a single step is noisy, so it
is drawn pale with its running median over it; what comes a few times in a run (the validation) is
drawn with its points.
"""

from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoders.training.run_folder import read_metrics

FILE = "curves.svg"

_WIDTH, _HEIGHT, _COLUMNS = 300, 170, 3
_LEFT, _RIGHT, _ABOVE, _BELOW = 54, 14, 28, 28
_FEW = 50
"""Up to so many values are points; more have a running median over a twentieth of them."""

Points = NDArray[np.float64]
"""[N, 2]: step and value."""


def write_curves(folder: Path) -> None:
    """Draw the metrics of a run folder; nothing is written before the first step."""
    series = {name: np.asarray(points) for name, points in read_metrics(folder).items()}
    if series:
        (folder / FILE).write_text(as_svg(series), encoding="utf-8")


def as_svg(series: dict[str, Points]) -> str:
    """The panels, in the order of the names; values that are not finite are left out."""
    last = max(points[:, 0].max() for points in series.values())
    rows = -(-len(series) // _COLUMNS)
    width, height = _WIDTH * min(_COLUMNS, len(series)), _HEIGHT * rows
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for at, (name, points) in enumerate(series.items()):
        row, column = divmod(at, _COLUMNS)
        parts.append(f'<g transform="translate({_WIDTH * column} {_HEIGHT * row})">')
        parts += [*_panel(name, points[np.isfinite(points[:, 1])], last=last), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _panel(name: str, points: Points, *, last: float) -> list[str]:
    title = f'<text x="{_LEFT}" y="18" font-weight="bold">{escape(name)}</text>'
    if not len(points):
        return [title, f'<text x="{_LEFT}" y="44">never a finite number</text>']
    low, high = points[:, 1].min(), points[:, 1].max()
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BELOW
    x = _LEFT + (right - _LEFT) * points[:, 0] / last
    y = bottom - (bottom - _ABOVE) * (points[:, 1] - low) / max(high - low, 1e-12)
    parts = [
        title,
        f'<path d="M{_LEFT} {_ABOVE}V{bottom}H{right}" fill="none" stroke="#999"/>',
        f'<text x="{_LEFT - 5}" y="{_ABOVE + 8}" text-anchor="end">{high:.3g}</text>',
        f'<text x="{_LEFT - 5}" y="{bottom}" text-anchor="end">{low:.3g}</text>',
        f'<text x="{right}" y="{bottom + 15}" text-anchor="end">step {last:.0f}</text>',
    ]
    if len(points) > _FEW:
        smooth = _running_median(y, len(y) // 20 | 1)
        return [*parts, _line(x, y, "#b9cfde", 1), _line(x, smooth, "#1f5f8b", 2)]
    dots = [
        f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="#1f5f8b"/>'
        for a, b in zip(x, y, strict=True)
    ]
    return [*parts, _line(x, y, "#1f5f8b", 1), *dots]


def _line(x: NDArray[np.float64], y: NDArray[np.float64], colour: str, thick: int) -> str:
    spots = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return f'<polyline points="{spots}" fill="none" stroke="{colour}" stroke-width="{thick}"/>'


def _running_median(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Over an odd window, shorter at both ends."""
    half = window // 2
    return np.asarray(
        [np.median(values[max(0, at - half) : at + half + 1]) for at in range(len(values))]
    )
