"""Windows and VOI LUTs (PS3.3 C.11.2), and a window for an image whose file has none that fits."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ALL_CODES: Floats = np.arange(65536, dtype=np.float64)
"""Every value of a uint16: transformations are computed once per code and looked up."""

DEFAULT_PERCENTILES = (0.5, 99.5)
"""Black and white of an image without a window. Not the extremes: one hot pixel or a lead
letter would decide the exposure of the lungs."""

MAX_CLIPPED_SHARE = 0.97
"""A window that makes more than this share of an image black or white shows no anatomy."""

MIN_CONTRAST = 0.1
"""A window that spreads the whole image over less than this share of the grey scale shows none."""

_CLIP_TOLERANCE = 1 / 512
"""Half a step of an 8-bit screen: a brightness this close to black or white counts as clipped."""

_BINS = 64
"""Bins of the coarse histogram that is searched for a border."""

_SMOOTHING_BINS = 7
"""Width of a moving average over the bins: a blurred edge has few pixels on few values."""

_MAX_PEAK_BINS, _MIN_VALLEY_BINS, _VALLEY_DENSITY = 8, 8, 0.15
"""A border's peak ends before this bin; the valley behind it has at least this many bins, each with
less than this share of what an even distribution would have."""

_MIN_RANGE_SHARE = 0.6
"""Border and markers are left out of the grey scale only if the rest has less than this share of
it: other images keep the plain percentiles."""

_MIN_FIELD_SHARE, _MIN_FIELD_VALUES = 0.02, 16
"""Share of the pixels, and different values, that must remain of an image without its border."""

_BLOCK_ROWS, _BLOCK_PIXELS = 128, 1 << 16
"""Rows or pixels at a time: what fits a processor's cache."""


def apply_table(table: NDArray[Any], codes: NDArray[np.uint16]) -> NDArray[Any]:
    """``table[codes]`` of [65536] and [H, W], block by block: numpy widens indices to int64."""
    out = np.empty(codes.shape, table.dtype)
    for start in range(0, len(codes), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        np.take(table, codes[rows], out=out[rows], mode="clip")
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
    """How often each modality value occurs among the pixels that are not masked.

    Attributes:
        values: float64 [N], ascending, each present in the image.
        counts: int64 [N].
    """

    values: Floats
    counts: NDArray[np.int64]

    @classmethod
    def from_codes(
        cls, codes: NDArray[np.uint16], *, slope: float, intercept: float
    ) -> "Histogram":
        """The histogram of uint16 codes of any shape."""
        flat = codes.reshape(-1)
        counts = np.zeros(65536, dtype=np.int64)
        for start in range(0, flat.size, _BLOCK_PIXELS):  # bincount widens its input to int64
            block_counts = np.bincount(flat[start : start + _BLOCK_PIXELS])
            counts[: len(block_counts)] += block_counts
        present = np.flatnonzero(counts)
        values = ALL_CODES[present] * slope + intercept
        order = np.argsort(values, kind="stable")
        return cls(values[order], counts[present][order])

    @property
    def is_constant(self) -> bool:
        """True if every pixel has the same value."""
        return len(self.values) < 2

    def percentile(self, percent: float) -> float:
        """The smallest value with at least ``percent`` % of the pixels at or below it."""
        cumulative = np.cumsum(self.counts)
        index = np.searchsorted(cumulative, cumulative[-1] * percent / 100.0)
        return float(self.values[min(int(index), len(self.values) - 1)])


def percentile_window(histogram: Histogram, *, invert: bool) -> Window:
    """The window of an image whose file has none that fits.

    A constant image becomes black, whatever its polarity, so as not to look like tissue.
    """
    if histogram.is_constant:
        value = float(histogram.values[0]) if len(histogram.values) else 0.0
        return Window(value - 1.0 if invert else value + 1.0, 1.0, WindowFunction.LINEAR_EXACT)
    low, high = map(histogram.percentile, DEFAULT_PERCENTILES)
    field_low, field_high = map(_exposed_field(histogram).percentile, DEFAULT_PERCENTILES)
    if 0 < field_high - field_low < _MIN_RANGE_SHARE * (high - low):
        low, high = field_low, field_high
    if low == high:  # e.g. a few marks on an empty image
        low, high = float(histogram.values[0]), float(histogram.values[-1])
    return Window((low + high) / 2, high - low, WindowFunction.LINEAR_EXACT)


def _exposed_field(histogram: Histogram) -> Histogram:
    """The histogram without collimated border and lead markers.

    These are narrow peaks at an end of the histogram, with next to nothing between them and the
    rest. Removing one clips no anatomy: there was hardly any contrast within it.
    """
    while (without_peak := _remove_peak(histogram)) is not None:
        histogram = without_peak
    return histogram


def _remove_peak(histogram: Histogram) -> Histogram | None:
    """Without the separate peak at either end, the one with the widest valley; None if none."""
    values, counts = histogram.values, histogram.counts
    span = float(values[-1] - values[0])
    if span <= 0:
        return None
    bins = np.minimum((values - values[0]) / span * _BINS, _BINS - 1).astype(np.intp)
    heights = np.bincount(bins, weights=counts, minlength=_BINS)
    heights = np.convolve(heights, np.full(_SMOOTHING_BINS, 1 / _SMOOTHING_BINS), "same")
    sparse = heights < _VALLEY_DENSITY * heights.sum() / _BINS
    widest, field = 0, None
    for at_top in (False, True):
        start, stop = _find_valley(sparse[::-1] if at_top else sparse)
        kept = bins < _BINS - stop if at_top else bins >= stop
        rest = Histogram(values[kept], counts[kept])
        enough = len(rest.values) >= _MIN_FIELD_VALUES
        enough = enough and rest.counts.sum() >= _MIN_FIELD_SHARE * counts.sum()
        if enough and stop - start > widest:
            widest, field = stop - start, rest
    return field


def _find_valley(sparse: NDArray[np.bool_]) -> tuple[int, int]:
    """First bin and end of the widest valley behind a narrow peak; (0, 0) if there is none."""
    full = np.flatnonzero(~sparse)
    starts = [0, *(int(index) + 1 for index in full)]
    valleys = [
        (start, int(full[full >= start][0]))
        for start in starts
        if start <= _MAX_PEAK_BINS and (full >= start).any()
    ]
    start, stop = max(valleys, key=lambda valley: valley[1] - valley[0], default=(0, 0))
    return (start, stop) if stop - start >= _MIN_VALLEY_BINS else (0, 0)


def shows_image(voi: Voi, histogram: Histogram) -> bool:
    """Whether an image has contrast under a window, and is not nearly all black or white.

    The image's lowest and highest value do not count as clipped: a collimated border is black under
    every window. A constant image passes: the window's formula defines what it looks like.
    """
    if histogram.is_constant:
        return True
    brightness = voi.apply(histogram.values)
    if brightness.max() - brightness.min() < MIN_CONTRAST:
        return False
    inner, weights = brightness[1:-1], histogram.counts[1:-1]
    if not len(inner):
        return True
    clipped = (inner <= _CLIP_TOLERANCE) | (inner >= 1.0 - _CLIP_TOLERANCE)
    return bool(weights[clipped].sum() <= MAX_CLIPPED_SHARE * weights.sum())


def choose_voi(
    candidates: Sequence[Voi], histogram: Histogram, *, invert: bool, warnings: list[str]
) -> Voi:
    """The first candidate that shows the image, else percentiles; warns of each it rejects."""
    for voi in candidates:
        if shows_image(voi, histogram):
            return voi
        name = "the file's VOI LUT (0028,3010)"
        if isinstance(voi, Window):
            name = f"the file's window (centre {voi.centre:g}, width {voi.width:g})"
        warnings.append(f"{name} leaves this image nearly black, white or flat: not used")
    warnings.append(
        f"no usable window in the file: shown from percentile {DEFAULT_PERCENTILES[0]} to "
        f"{DEFAULT_PERCENTILES[1]} of its own values"
    )
    return percentile_window(histogram, invert=invert)
