"""Windows, percentiles and the choice of a window."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from encoders.images.exposure import (
    ALL_CODES,
    Histogram,
    VoiLut,
    Window,
    WindowFunction,
    apply_table,
    choose_voi,
    percentile_window,
    shows_image,
)

WINDOWS = st.builds(
    Window,
    st.floats(-1e6, 1e6),
    st.floats(1e-6, 1e6),
    st.sampled_from(WindowFunction),
)
IMAGES = arrays(np.uint16, st.tuples(st.integers(1, 20), st.integers(1, 20)))


def histogram(codes: np.ndarray) -> Histogram:
    return Histogram.from_codes(codes, slope=1.0, intercept=0.0)


@given(WINDOWS)
def test_brightness_rises_from_0_to_1(window: Window) -> None:
    brightness = window.apply(ALL_CODES - 32768)
    assert brightness.min() >= 0
    assert brightness.max() <= 1
    assert (np.diff(brightness) >= 0).all()


@given(IMAGES)
def test_histogram_counts_every_pixel_and_ranks_as_numpy_does(codes: np.ndarray) -> None:
    found = histogram(codes)
    assert found.counts.sum() == codes.size
    for percent in (0.5, 50, 99.5):
        expected = np.percentile(codes, percent, method="inverted_cdf")
        assert found.percentile(percent) == expected


@given(IMAGES, st.floats(-4, 4).filter(lambda slope: abs(slope) > 1e-3))
def test_histogram_values_ascend_whatever_the_slope(codes: np.ndarray, slope: float) -> None:
    assert (np.diff(Histogram.from_codes(codes, slope=slope, intercept=7.0).values) > 0).all()


@given(IMAGES, st.booleans())
def test_an_image_without_a_window_uses_the_whole_grey_scale(
    codes: np.ndarray, invert: bool
) -> None:
    found = histogram(codes)
    window = percentile_window(found, invert=invert)
    brightness = window.apply(codes.astype(np.float64))
    if found.is_constant:
        assert (brightness == (1.0 if invert else 0.0)).all()  # black, after inversion
    else:
        assert (brightness.min(), brightness.max()) == (0, 1)


def test_one_hot_pixel_does_not_decide_the_exposure() -> None:
    codes = np.tile(np.arange(1000, dtype=np.uint16), (30, 1))
    codes[0, 0] = 65535
    assert percentile_window(histogram(codes), invert=False).width < 1000


def test_a_black_border_does_not_make_a_window_suitable() -> None:
    """Collimated black is black under any window: an 8-bit window on a 12-bit image is no good."""
    codes = np.tile(np.linspace(700, 4000, 640).astype(np.uint16), (480, 1))
    codes[:60] = 0
    assert not shows_image(Window(128, 256), histogram(codes))
    assert shows_image(Window(2048, 4096), histogram(codes))


def test_a_window_that_shows_both_of_two_values_is_suitable() -> None:
    codes = np.array([[0, 4095]], np.uint16)
    assert shows_image(Window(2048, 4096), histogram(codes))
    assert not shows_image(Window(30000, 4096), histogram(codes))


def test_the_first_suitable_candidate_is_chosen_and_others_are_warned_of() -> None:
    codes = np.arange(4096, dtype=np.uint16)[None]
    lut = VoiLut(60000, np.linspace(0, 1, 256))
    good = Window(2000, 3000)
    warnings: list[str] = []
    voi = choose_voi([lut, good], histogram(codes), invert=False, warnings=warnings)
    assert voi is good
    assert len(warnings) == 1
    assert "VOI LUT (0028,3010)" in warnings[0]


def test_voi_lut_spans_a_window() -> None:
    flat = np.concatenate([np.zeros(100), np.linspace(0, 1, 101), np.ones(55)])
    assert VoiLut(1000, flat).as_window() == Window(1150, 100, WindowFunction.LINEAR_EXACT)
    assert VoiLut(0, np.ones(4)).as_window().width == 1


@given(arrays(np.uint16, st.tuples(st.integers(1, 300), st.integers(1, 3))))
def test_apply_table_is_indexing(codes: np.ndarray) -> None:
    table = np.sqrt(ALL_CODES).astype(np.float32)
    assert np.array_equal(apply_table(table, codes), table[codes])


def test_sigmoid_is_half_at_its_centre() -> None:
    window = Window(100, 1e-6, WindowFunction.SIGMOID)  # steepest: no overflow
    assert window.apply(np.array([0.0, 100.0, 200.0])) == pytest.approx([0, 0.5, 1])
