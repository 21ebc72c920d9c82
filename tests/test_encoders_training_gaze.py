"""EGD-CXR and REFLACX: from files in their layout to a heatmap in the right place."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from made_up_gaze import SCREEN, write_egd, write_reflacx, write_table
from numpy.typing import NDArray

from encoders.annotations import Annotation, Ellipses, Fixations, render
from encoders.training.augment import draw_warp, warp
from encoders.training.config import AugmentSettings
from encoders.training.dataset import TrainingDataError
from encoders.training.sources.egd import read_egd
from encoders.training.sources.reflacx import read_reflacx
from encoders.training.sources.settings import Egd, Reflacx

PLACE = st.floats(0.2, 0.8)
SIDE = 96
Border = tuple[float, float, float, float]
BORDERS = st.tuples(
    st.floats(0, 700), st.floats(0, 700), st.floats(0, 300), st.floats(0, 300)
)  # left, right, top, bottom


def centroid(heat: NDArray[np.floating]) -> tuple[float, float]:
    rows, columns = np.mgrid[: heat.shape[0], : heat.shape[1]]
    total = heat.sum()
    x = (heat * (columns + 0.5)).sum() / total / heat.shape[1]
    return float(x), float((heat * (rows + 0.5)).sum() / total / heat.shape[0])


def on_screen(x: float, y: float, border: Border) -> tuple[float, float]:
    """Where a place of the image is on the screen: the experiment, forwards."""
    left, right, top, bottom = border
    wide, high = SCREEN[0] - left - right, SCREEN[1] - top - bottom
    return (left + x * wide) / SCREEN[0], (top + y * high) / SCREEN[1]


def refuse_another_place(
    annotation: Annotation, x: float, y: float, *, spread: tuple[float, float], seed: int
) -> None:
    """The map is the Gaussian around (x, y), on the image and at every pixel of a training crop."""
    heat = render(annotation, height=SIDE, width=SIDE)
    assert centroid(heat) == pytest.approx((x, y), abs=0.012)
    torch.manual_seed(seed)
    maps = draw_warp(1, AugmentSettings(smallest_crop=0.5, degrees=15, aspect=0.2))
    seen = warp(torch.from_numpy(heat)[None], maps, size=SIDE)[0].numpy()
    grid = torch.nn.functional.affine_grid(maps, [1, 1, SIDE, SIDE], align_corners=False)
    at = (grid[0].double().numpy() + 1) / 2  # where on the image a pixel of the crop is
    away = ((at - (x, y)) / spread) ** 2
    expected = np.exp(-0.5 * away.sum(-1))
    on_image = (np.abs(at - 0.5) < 0.5 - 1 / SIDE).all(-1)
    beside = (np.abs(at - 0.5) > 0.5 + 1 / SIDE).any(-1)
    # half a pixel of the grid and of bilinear reading, on a spread of three pixels
    assert np.abs(seen - expected)[on_image].max(initial=0) < 0.07
    assert seen[beside].max(initial=0) == 0


# --- EGD-CXR


@settings(max_examples=40, deadline=None)
@given(x=PLACE, y=PLACE, border=BORDERS, seed=st.integers(0, 10_000))
def test_a_fixation_on_the_screen_lands_on_the_image_under_every_border_and_crop(
    x: float, y: float, border: Border, seed: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_egd(folder, [("image", *on_screen(x, y, border), 0.4)], borders={"image": border})
        (reading,) = read_egd(Egd(path=folder, sigma=0.03))
    assert reading.image == "image"
    refuse_another_place(reading.annotation, x, y, spread=(0.03, 0.03), seed=seed)


def test_fixations_of_a_image_are_one_reading_and_calibration_pictures_none(tmp_path: Path) -> None:
    border = (420.0, 420.0, 0.0, 0.0)
    write_egd(
        tmp_path,
        [("a", 0.5, 0.5, 0.2), ("b", 0.5, 0.25, 0.1), ("calibration", 0.5, 0.5, 1), ("a", 0, 0, 3)],
        borders={"a": border, "b": border},
    )
    first, second = read_egd(Egd(path=tmp_path, by_duration=False))
    assert isinstance(first.annotation, Fixations)
    assert first.annotation.points[0] == pytest.approx((0.5, 0.5, 0.2))
    assert first.annotation.points[1][0] == pytest.approx(-420 / 1080)  # beside the image
    assert not first.annotation.by_duration
    assert (first.image, second.image) == ("a", "b")


def test_invalid_fixations_and_those_of_no_length_do_not_count(tmp_path: Path) -> None:
    write_egd(tmp_path, [("a", 0.5, 0.5, 0.0), ("a", 0.5, 0.5, 1)], borders={"a": (0, 0, 0, 0)})
    with (tmp_path / "fixations.csv").open("a") as stream:
        stream.write("a,9,1,0.1,0.1,5,0\n")
    (reading,) = read_egd(Egd(path=tmp_path))
    assert isinstance(reading.annotation, Fixations)
    assert reading.annotation.points == ((0.5, 0.5, 1.0),)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,1,0.1,left,0.5,0.2,1", r"fixations.csv line 3: fpogx is 'left', not a finite number"),
        ("a,1,0.1,0.5,nan,0.2,1", r"line 3: fpogy is 'nan'"),
        ("a,1,0.1,0.5,0.5,-1,1", r"line 3: fpogd is -1.0.*correct the row"),
        ("a,1,0.1,0.5,0.5,,1", r"line 3: fpogd is ''"),
        ("a,1,0.1,0.5", r"line 3: has 4 fields where the header has 7"),
        (",1,0.1,0.5,0.5,0.2,1", r"line 3: dicom_id is empty"),
        ('"a,1,0.1', r"line 3: not readable as CSV"),
    ],
)
def test_a_rubbish_fixation_is_named(tmp_path: Path, line: str, message: str) -> None:
    write_egd(tmp_path, [("a", 0.5, 0.5, 0.2)], borders={"a": (0, 0, 0, 0)})
    with (tmp_path / "fixations.csv").open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(TrainingDataError, match=message):
        list(read_egd(Egd(path=tmp_path)))


@pytest.mark.parametrize("border", [(1000, 1000, 0, 0), (-5, 0, 0, 0), (0, 0, 0, 1080)])
def test_a_image_that_was_not_on_the_screen_is_named(tmp_path: Path, border: Border) -> None:
    write_egd(tmp_path, [("a", 0.5, 0.5, 0.2)], borders={"a": border})
    with pytest.raises(TrainingDataError, match=r"master_sheet.csv line 2: borders of .* 1920"):
        list(read_egd(Egd(path=tmp_path)))


def test_another_release_or_a_missing_table_is_explained(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match=r"no master_sheet.csv or master_sheet.csv.gz"):
        list(read_egd(Egd(path=tmp_path)))
    write_egd(tmp_path, [("a", 0.5, 0.5, 0.2)], borders={"b": (0, 0, 0, 0)})
    with pytest.raises(TrainingDataError, match="one of the 1 images of the master sheet"):
        list(read_egd(Egd(path=tmp_path)))
    write_table(tmp_path / "master_sheet.csv", ("dicom_id", "image_top"), [("a", 0)])
    with pytest.raises(TrainingDataError, match=r"no column image_left_pad.*are: dicom_id"):
        list(read_egd(Egd(path=tmp_path)))


def test_a_image_that_nobody_looked_at_is_no_reading(tmp_path: Path) -> None:
    border = (420.0, 420.0, 0.0, 0.0)
    write_egd(
        tmp_path, [("a", 0.1, 0.5, 1), ("b", 0.5, 0.5, 1)], borders={"a": border, "b": border}
    )
    assert [reading.image for reading in read_egd(Egd(path=tmp_path))] == ["b"]
    write_reflacx(tmp_path, {"P": ("a", (9.0, 9.0))}, fixations={"P": [(0, 1, -3, 5)]})
    assert list(read_reflacx(Reflacx(path=tmp_path))) == []


# --- REFLACX

SIZES = st.tuples(st.integers(200, 4000), st.integers(200, 4000))


@settings(max_examples=30, deadline=None)
@given(x=PLACE, y=PLACE, size=SIZES, seed=st.integers(0, 10_000))
def test_a_fixation_in_pixels_lands_on_the_image_of_every_size(
    x: float, y: float, size: tuple[int, int], seed: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        write_reflacx(
            Path(name),
            {"P300R1": ("image", size)},
            fixations={"P300R1": [(1.0, 1.25, x * size[0], y * size[1])]},
        )
        (reading,) = read_reflacx(Reflacx(path=Path(name), sigma=0.03))
    assert isinstance(reading.annotation, Fixations)
    assert reading.annotation.points[0][2] == pytest.approx(0.25)
    refuse_another_place(reading.annotation, x, y, spread=(0.03, 0.03), seed=seed)


@settings(max_examples=30, deadline=None)
@given(
    x=PLACE,
    y=PLACE,
    half=st.tuples(st.floats(0.03, 0.05), st.floats(0.03, 0.05)),
    size=SIZES,
    seed=st.integers(0, 10_000),
)
def test_an_ellipse_in_pixels_lands_on_the_image_of_every_size(
    x: float, y: float, half: tuple[float, float], size: tuple[int, int], seed: int
) -> None:
    wide, high = size
    corners = [(x - half[0]) * wide, (y - half[1]) * high, (x + half[0]) * wide]
    corners.append((y + half[1]) * high)
    assume(corners[2] > corners[0])
    with tempfile.TemporaryDirectory() as name:
        write_reflacx(Path(name), {"P1": ("image", size)}, ellipses={"P1": [(*corners, 4)]})
        (reading,) = read_reflacx(Reflacx(path=Path(name), marks="ellipses"))
    assert isinstance(reading.annotation, Ellipses)
    assert reading.annotation.ellipses[0] == pytest.approx((x, y, *half))
    refuse_another_place(reading.annotation, x, y, spread=half, seed=seed)


def test_doubtful_ellipses_and_discarded_gaze_are_left_out(tmp_path: Path) -> None:
    size = (1000.0, 2000.0)
    box = (100, 200, 300, 400)
    write_reflacx(
        tmp_path,
        {"sure": ("a", size), "doubtful": ("b", size), "device": ("c", size)},
        fixations={"sure": [(0, 1, 5, 5)], "device": []},
        ellipses={"sure": [(*box, 2), (*box, 3)], "doubtful": [(*box, 2)], "device": [(*box, "")]},
        discarded=["doubtful"],
    )
    drawn = list(read_reflacx(Reflacx(path=tmp_path, marks="ellipses")))
    assert [reading.image for reading in drawn] == ["a"]
    assert drawn[0].annotation == Ellipses(((0.2, 0.15, 0.1, 0.05),))
    lower = list(read_reflacx(Reflacx(path=tmp_path, marks="ellipses", least_certainty=2)))
    assert [reading.image for reading in lower] == ["a", "b"]
    assert [reading.image for reading in read_reflacx(Reflacx(path=tmp_path))] == ["a"]


def test_several_readers_of_a_image_are_several_readings(tmp_path: Path) -> None:
    write_reflacx(
        tmp_path,
        {f"P{number}": ("a", (10.0, 10.0)) for number in range(5)},
        fixations={f"P{number}": [(0, 1, number, 5)] for number in range(5)},
    )
    readings = list(read_reflacx(Reflacx(path=tmp_path)))
    assert [reading.image for reading in readings] == ["a"] * 5
    assert len({repr(reading.annotation) for reading in readings}) == 5


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((2.0, 1.0, 5, 5), r"P1.fixations.csv line 2: .*begins at 2.0 s ends at 1.0 s"),
        ((1.0, 2.0, "", 5), r"line 2: x_position is '', not a finite number; correct the row"),
        (("now", 2.0, 5, 5), r"line 2: timestamp_start_fixation is 'now'"),
        ((1.0, 2.0, 5, "inf"), r"line 2: y_position is 'inf'"),
    ],
)
def test_a_rubbish_gaze_is_named(tmp_path: Path, row: tuple[object, ...], message: str) -> None:
    write_reflacx(tmp_path, {"P1": ("a", (10.0, 10.0))}, fixations={"P1": [row]})
    with pytest.raises(TrainingDataError, match=message):
        list(read_reflacx(Reflacx(path=tmp_path)))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((5, 5, 5, 9, 3), r"ellipses.csv line 2: 5, 5, 5, 9 span no ellipse"),
        ((1, 1, 5, "x", 3), r"line 2: ymax is 'x'"),
        ((1, 1, 5, 9, "sure"), r"line 2: certainty is 'sure'"),
    ],
)
def test_a_rubbish_ellipse_is_named(tmp_path: Path, row: tuple[object, ...], message: str) -> None:
    write_reflacx(tmp_path, {"P1": ("a", (10.0, 10.0))}, ellipses={"P1": [row]})
    with pytest.raises(TrainingDataError, match=message):
        list(read_reflacx(Reflacx(path=tmp_path, marks="ellipses")))


def test_a_missing_reading_and_a_image_without_size_are_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match=r"no metadata_phase_1.csv, _2 or _3"):
        list(read_reflacx(Reflacx(path=tmp_path)))
    write_reflacx(tmp_path, {"P1": ("a", (10.0, 10.0))})
    with pytest.raises(TrainingDataError, match=r"cannot read .*P1.fixations.csv: No such file"):
        list(read_reflacx(Reflacx(path=tmp_path)))
    write_reflacx(tmp_path, {"P1": ("a", (0.0, 10.0))})
    with pytest.raises(TrainingDataError, match=r"phase_3.csv line 2: an image of 0 x 10 pixels"):
        list(read_reflacx(Reflacx(path=tmp_path)))
