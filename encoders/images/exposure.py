"""From modality values to brightness: windows and VOI LUTs (PS3.3 C.11.2), and without any."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CODES: Floats = np.arange(65536, dtype=np.float64)
"""Every value that a stored uint16 can have: transformations are tables over it."""

PERCENTILES = (0.5, 99.5)
"""Black and white of an image without a window. Not the extremes: one hot pixel or a lead
letter would decide the exposure of the lungs."""

MOST_CLIPPED = 0.97
"""A window that makes more than this share of an image black or white shows no anatomy."""

LEAST_CONTRAST = 0.1
"""A window that spreads the whole image over less than this share of the grey scale shows none."""

_BINS = 64
"""Of the coarse histogram in which a border is looked for."""

_PEAK, _WIDE, _VALLEY = 8, 8, 0.15
"""A border's peak ends before this bin; the valley behind it has at least so many bins, each with
less than this share of what an even distribution would have."""

_SMOOTHED = 7
"""Bins that a blurred edge is averaged over: its few pixels crowd on few values."""

_SQUEEZED = 0.6
"""Border and markers are left out of the grey scale where they take more than the rest of it: a
chest that was shown well before is shown as before."""

_LEAST_FIELD, _LEAST_VALUES = 0.02, 16
"""Share of the pixels, and different values, that must be left of an image without its border."""

_BLOCK = 128
"""Rows at a time: what fits a processor's cache."""

_COUNTED = 1 << 16
"""Pixels at a time, for the same reason."""

_NEARLY = 1 / 512
"""Half a step of an 8-bit screen: nearer than this to black or white is black or white."""


def by_table(table: NDArray[Any], codes: NDArray[np.uint16]) -> NDArray[Any]:
    """``table[codes]``, in blocks: numpy widens an index array to int64, eight bytes a pixel.

    Args:
        table: [65536] of any type.
        codes: uint16 [H, W].
    """
    out = np.empty(codes.shape, table.dtype)
    for row in range(0, len(codes), _BLOCK):
        np.take(table, codes[row : row + _BLOCK], out=out[row : row + _BLOCK], mode="clip")
    return out


class WindowFunction(StrEnum):
    """VOI LUT Function (0028,1056)."""

    LINEAR = "LINEAR"
    LINEAR_EXACT = "LINEAR_EXACT"
    SIGMOID = "SIGMOID"


@dataclass(frozen=True, slots=True)
class Window:
    """Window centre and width in the units of the modality LUT's output.

    Source: PS3.3 C.11.2.1.2 (LINEAR) and C.11.2.1.3 (SIGMOID, LINEAR_EXACT).
    """

    centre: float
    width: float
    function: WindowFunction = WindowFunction.LINEAR

    def apply(self, values: Floats) -> Floats:
        """Brightness in [0, 1] of modality values, any shape."""
        if self.function is WindowFunction.SIGMOID:
            steepness = np.clip(-4.0 * (values - self.centre) / self.width, -500.0, 500.0)
            return np.asarray(1.0 / (1.0 + np.exp(steepness)))
        centre, width = self.centre, self.width
        if self.function is WindowFunction.LINEAR:
            centre, width = centre - 0.5, width - 1.0
        if width <= 0:  # LINEAR of width 1: a threshold, by the standard's own inequalities
            return np.where(values <= centre, 0.0, 1.0)
        return np.clip((values - centre) / width + 0.5, 0.0, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class VoiLut:
    """A VOI LUT: ``outputs[i]`` in [0, 1] is the brightness of modality value ``first + i``.

    Values before the first and after the last entry get the first and the last brightness.
    Source: PS3.3 C.11.2.1.1.
    """

    first: int
    outputs: Floats

    def apply(self, values: Floats) -> Floats:
        """Brightness in [0, 1] of modality values, any shape."""
        index = np.clip(np.rint(values) - self.first, 0, len(self.outputs) - 1)
        brightness: Floats = np.take(self.outputs, index.astype(np.intp))
        return brightness

    def as_window(self) -> Window:
        """The window over the entries where the LUT rises (or falls): for a viewer's handles."""
        moving = np.flatnonzero(np.diff(self.outputs)) + self.first
        low, high = (moving[0], moving[-1] + 1) if len(moving) else (self.first, self.first + 1)
        return Window((low + high) / 2, float(high - low), WindowFunction.LINEAR_EXACT)


Voi = Window | VoiLut


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How often each modality value occurs among the pixels that are image.

    Attributes:
        values: float64 [N], ascending, each at least once on the image.
        counts: int64 [N].
    """

    values: Floats
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, codes: NDArray[np.uint16], *, slope: float, intercept: float) -> "Histogram":
        """Count codes of any shape, in memory that does not grow with the image."""
        flat = codes.reshape(-1)
        counts = np.zeros(65536, dtype=np.int64)
        for start in range(0, flat.size, _COUNTED):  # bincount widens its input to int64
            found = np.bincount(flat[start : start + _COUNTED])
            counts[: len(found)] += found
        present = np.flatnonzero(counts)
        values = CODES[present] * slope + intercept
        order = np.argsort(values, kind="stable")
        return cls(values[order], counts[present][order])

    @property
    def constant(self) -> bool:
        """True where every pixel is the same: nothing to see."""
        return len(self.values) < 2

    def percentile(self, percent: float) -> float:
        """The smallest value with at least ``percent`` % of the pixels at or below it."""
        cumulative = np.cumsum(self.counts)
        place = np.searchsorted(cumulative, cumulative[-1] * percent / 100.0)
        return float(self.values[min(int(place), len(self.values) - 1)])


def percentile_window(histogram: Histogram, *, invert: bool) -> Window:
    """The window of an image that brings none (or none that fits).

    A constant image becomes black, whatever its polarity: nothing must look like tissue.
    """
    if histogram.constant:
        value = float(histogram.values[0]) if len(histogram.values) else 0.0
        return Window(value - 1.0 if invert else value + 1.0, 1.0, WindowFunction.LINEAR_EXACT)
    low, high = _percentiles(histogram)
    inner_low, inner_high = _percentiles(exposed_field(histogram))
    if 0 < inner_high - inner_low < _SQUEEZED * (high - low):
        low, high = inner_low, inner_high
    if low == high:  # e.g. a few marks on an empty image: the extremes are all there is
        low, high = float(histogram.values[0]), float(histogram.values[-1])
    return Window((low + high) / 2, high - low, WindowFunction.LINEAR_EXACT)


def _percentiles(histogram: Histogram) -> tuple[float, float]:
    low, high = (histogram.percentile(percent) for percent in PERCENTILES)
    return low, high


def exposed_field(histogram: Histogram) -> Histogram:
    """The values of an image without its collimated border and its lead markers.

    These are narrow peaks at an end of the histogram, with next to nothing between them and the
    rest. Taking one away clips no anatomy: within it there was hardly any contrast.
    """
    left = histogram
    while (less := _without_peak(left)) is not None:
        left = less
    return left


def _without_peak(histogram: Histogram) -> Histogram | None:
    """Without the peak that stands apart at either end, the widest valley first; None if none."""
    values, counts = histogram.values, histogram.counts
    span = float(values[-1] - values[0])
    if span <= 0:
        return None
    bins = np.minimum((values - values[0]) / span * _BINS, _BINS - 1).astype(np.intp)
    heights = np.bincount(bins, weights=counts, minlength=_BINS)
    heights = np.convolve(heights, np.full(_SMOOTHED, 1 / _SMOOTHED), "same")
    few = heights < _VALLEY * heights.sum() / _BINS
    best: tuple[int, Histogram] | None = None
    for at_end in (False, True):
        valley = _valley_behind_peak(few[::-1] if at_end else few)
        if valley is None:
            continue
        start, stop = valley
        kept = bins < _BINS - stop if at_end else bins >= stop
        rest = Histogram(values[kept], counts[kept])
        enough = len(rest.values) >= _LEAST_VALUES
        if enough and rest.counts.sum() >= _LEAST_FIELD * counts.sum():
            best = max(best or (0, rest), (stop - start, rest), key=lambda one: one[0])
    return best[1] if best else None


def _valley_behind_peak(few: NDArray[np.bool_]) -> tuple[int, int] | None:
    """Bins of the widest valley that begins behind a narrow peak; None where there is none."""
    full = np.flatnonzero(~few)
    edges = [0, *(int(one) + 1 for one in full)]
    valleys = [
        (start, int(full[full >= start][0]))
        for start in edges
        if start <= _PEAK and (full >= start).any()
    ]
    start, stop = max(valleys, key=lambda one: one[1] - one[0], default=(0, 0))
    return (start, stop) if stop - start >= _WIDE else None


def fits(voi: Voi, histogram: Histogram) -> bool:
    """False where an image would be all black, all white, or all one grey under this window.

    The image's own extremes are not counted as clipped: a black collimated border is black under
    every window and says nothing about it. A constant image fits every window: there the window's
    formula is the defined result.
    """
    if histogram.constant:
        return True
    brightness = voi.apply(histogram.values)
    if brightness.max() - brightness.min() < LEAST_CONTRAST:
        return False
    inner, weights = brightness[1:-1], histogram.counts[1:-1]
    if not len(inner):
        return True
    clipped = (inner <= _NEARLY) | (inner >= 1.0 - _NEARLY)
    return bool(weights[clipped].sum() <= MOST_CLIPPED * weights.sum())


def choose(
    candidates: Sequence[Voi], histogram: Histogram, *, invert: bool, warnings: list[str]
) -> Voi:
    """The first candidate that fits the image, or percentiles; a warning of each passed over."""
    for voi in candidates:
        if fits(voi, histogram):
            return voi
        warnings.append(f"{_name(voi)} leaves this image nearly black, white or flat: not used")
    warnings.append(
        f"no usable window in the file: shown from percentile {PERCENTILES[0]} to "
        f"{PERCENTILES[1]} of its own values"
    )
    return percentile_window(histogram, invert=invert)


def _name(voi: Voi) -> str:
    if isinstance(voi, Window):
        return f"the file's window (centre {voi.centre:g}, width {voi.width:g})"
    return "the file's VOI LUT (0028,3010)"
