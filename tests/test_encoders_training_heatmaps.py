"""Heatmaps: their mass is at the annotation, at every size and under every crop."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from encoders.annotations import Annotation, Boxes, Fixations, render_heatmap
from encoders.training.augment import RankRng, draw_affine, warp
from encoders.training.config import AugmentSettings

PLACE = st.floats(0.15, 0.85)


def centroid(heat: NDArray[np.floating]) -> tuple[float, float]:
    """Mean place of the mass as fractions (x, y)."""
    rows, columns = np.mgrid[: heat.shape[0], : heat.shape[1]]
    total = heat.sum()
    x = (heat * (columns + 0.5)).sum() / total / heat.shape[1]
    y = (heat * (rows + 0.5)).sum() / total / heat.shape[0]
    return float(x), float(y)


def spot(x: float, y: float, kind: str) -> Annotation:
    """A small mark of each kind with its middle at (x, y)."""
    if kind == "box":
        return Boxes(((x - 0.03, y - 0.03, 0.06, 0.06),))
    return Fixations(((x, y, 0.4),), sigma=0.03)


KINDS = st.sampled_from(["box", "gaze"])


@given(x=PLACE, y=PLACE, kind=KINDS, height=st.integers(48, 90), width=st.integers(48, 90))
@settings(max_examples=60)
def test_the_mass_is_at_the_annotation_at_every_size(
    x: float, y: float, kind: str, height: int, width: int
) -> None:
    heat = render_heatmap(spot(x, y, kind), height=height, width=width)
    assert heat.shape == (height, width)
    assert heat.dtype == np.float32
    assert heat.max() == pytest.approx(1)
    assert heat.min() >= 0
    assert centroid(heat) == pytest.approx((x, y), abs=0.012)


@given(x=PLACE, y=PLACE, kind=KINDS, seed=st.integers(0, 10_000))
@settings(max_examples=80)
def test_the_mass_follows_the_image_under_every_crop(
    x: float, y: float, kind: str, seed: int
) -> None:
    """Where the crop's map says that the mark's middle lands, there the mass is."""
    torch.manual_seed(seed)
    settings = AugmentSettings(smallest_crop=0.5, degrees=15, aspect=0.2)
    maps = draw_affine(1, settings, rng=RankRng())
    linear, shift = maps[0, :, :2].double(), maps[0, :, 2].double()
    inside = torch.linalg.solve(linear, torch.tensor([2 * x - 1, 2 * y - 1]).double() - shift)
    heat = torch.from_numpy(render_heatmap(spot(x, y, kind), height=96, width=96))[None]
    seen = warp(heat, maps, size=96)[0].numpy()
    if inside.abs().max() > 1.6:
        assert seen.sum() < 0.02 * heat.sum()
    elif inside.abs().max() < 0.5:
        landed = tuple(((inside + 1) / 2).tolist())
        assert centroid(seen) == pytest.approx(landed, abs=0.015)


def test_the_standard_deviation_of_a_box_is_half_its_width() -> None:
    """At half its width from the middle a box's map is exp(-1/2)."""
    heat = render_heatmap(Boxes(((0.3, 0.4, 0.4, 0.2),)), height=1000, width=1000)
    assert heat[500, 700] == pytest.approx(np.exp(-0.5), abs=0.01)
    assert heat[600, 500] == pytest.approx(np.exp(-0.5), abs=0.01)


def test_a_tiny_box_is_still_visible() -> None:
    heat = render_heatmap(Boxes(((0.5, 0.5, 0.001, 0.001),)), height=100, width=100)
    assert (heat > 0.5).sum() > 12


def test_overlapping_boxes_count_once() -> None:
    box = (0.2, 0.2, 0.3, 0.3)
    one, two = (render_heatmap(Boxes((box,) * count), height=50, width=50) for count in (1, 2))
    assert np.array_equal(one, two)


def test_longer_fixations_weigh_more_unless_all_weigh_the_same() -> None:
    points = ((0.25, 0.5, 0.3), (0.75, 0.5, 0.9))
    weighed = render_heatmap(Fixations(points), height=60, width=60)
    alike = render_heatmap(Fixations(points, by_duration=False), height=60, width=60)
    assert weighed[30, 15] == pytest.approx(1 / 3, abs=0.02)
    assert alike[30, 15] == pytest.approx(alike[30, 44], rel=1e-3)


def test_a_fixation_is_circular_on_an_oblong_image() -> None:
    heat = render_heatmap(Fixations(((0.5, 0.5, 1.0),), sigma=0.1), height=200, width=100)
    half = [(line > 0.5).sum() for line in (heat[100], heat[:, 50])]
    assert half[0] == pytest.approx(half[1], abs=2)


def test_an_empty_annotation_gives_zeros() -> None:
    assert render_heatmap(Boxes(()), height=8, width=8).max() == 0
    assert render_heatmap(Fixations(()), height=8, width=8).max() == 0
    assert render_heatmap(Fixations(((5.0, 5.0, 1.0),)), height=8, width=8).max() < 1e-3


@pytest.mark.parametrize(
    "wrong",
    [
        Fixations(((0.5, 0.5, 0.0),)),
        Fixations(((float("nan"), 0.5, 1.0),)),
        Fixations(((0.5, 0.5, 1.0),), sigma=0.0),
        Boxes(((0.1, 0.1, -0.2, 0.2),)),
        Boxes(((0.1, 0.1, 0.2, float("inf")),)),
    ],
)
def test_invalid_annotations_are_refused(wrong: Annotation) -> None:
    with pytest.raises(ValueError, match="finite"):
        render_heatmap(wrong, height=8, width=8)
