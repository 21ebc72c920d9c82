"""EGD-CXR: from files in their layout to a heatmap in the right place."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_gaze import SCREEN, write_egd, write_table
from numpy.typing import NDArray

from encoders.annotations import Annotation, Fixations, render
from encoders.training.augment import draw_warp, warp
from encoders.training.config import AugmentSettings
from encoders.training.dataset import TrainingDataError
from encoders.training.sources.mimic import read_egd
from encoders.training.sources.settings import Egd

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
