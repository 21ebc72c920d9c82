"""The drawn phantom: reproducible, readable, labelled, with the requested finding."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

from demo.anatomy import IMAGE_CM
from demo.phantom import PhantomFinding, draw_phantom, write_phantom_dicom
from encoders.base import View
from encoders.image_io import read_image, read_image_info, read_raw

pytestmark = pytest.mark.slow

SIZE = 256


def mean(pixels: np.ndarray, x: tuple[float, float], y: tuple[float, float]) -> float:
    """Mean brightness of a rectangle in centimetres: x from the midline, y from the top."""
    scale = len(pixels) / IMAGE_CM
    columns = slice(*(int((v + IMAGE_CM / 2) * scale) for v in x))
    rows = slice(*(int(v * scale) for v in y))
    return float(pixels[rows, columns].mean())


def test_the_same_seed_draws_the_same_image() -> None:
    first = draw_phantom(seed=3, size=SIZE)
    assert first.dtype == np.float32
    assert first.shape == (SIZE, SIZE)
    assert (first.min(), first.max()) == (0, 1)
    assert np.array_equal(first, draw_phantom(seed=3, size=SIZE))
    assert not np.array_equal(first, draw_phantom(seed=4, size=SIZE))


def test_bone_is_white_and_air_is_black() -> None:
    image = draw_phantom(size=SIZE)
    air = mean(image, (-21, -18.5), (26, 40))
    lung = mean(image, (-11, -7), (12, 24))
    abdomen = mean(image, (-10, -4), (32, 40))
    heart = mean(image, (2.5, 6), (23, 27))
    assert air < 0.05 < lung < 0.5 < heart < abdomen + 0.2
    assert abdomen > 0.8


@pytest.mark.parametrize(
    ("finding", "x", "y"),
    [
        (PhantomFinding.LEFT_PLEURAL_EFFUSION, (9, 13), (27.5, 31)),
        (PhantomFinding.CARDIOMEGALY, (9, 10), (25, 28)),
    ],
)
def test_findings_are_where_their_names_say(
    finding: PhantomFinding, x: tuple[float, float], y: tuple[float, float]
) -> None:
    normal, image = draw_phantom(size=SIZE), draw_phantom(size=SIZE, finding=finding)
    assert mean(image, x, y) > mean(normal, x, y) + 0.1
    other_side = (-x[1], -x[0])
    assert mean(image, other_side, y) == pytest.approx(mean(normal, other_side, y), abs=0.03)


def test_phantom_is_burned_into_the_corner() -> None:
    image = draw_phantom(size=SIZE)
    corner = image[int(0.955 * SIZE) : int(0.955 * SIZE) + 7, int(0.03 * SIZE) :][:, : 7 * 6]
    assert 0.2 < (corner == 1).mean() < 0.6
    text = ["".join("#" if value == 1 else "." for value in row[:6]) for row in corner]
    assert text == ["####..", "#...#.", "#...#.", "####..", "#.....", "#.....", "#....."]  # a P


def test_dicom_file(tmp_path: Path) -> None:
    path = tmp_path / "phantom.dcm"
    write_phantom_dicom(path, seed=1, finding=PhantomFinding.CARDIOMEGALY, size=SIZE)

    image = read_image(path)
    assert image.view is View.PA
    info, raw = read_image_info(path), read_raw(path)
    assert (info.modality, info.body_part) == ("DX", "CHEST")
    assert raw.spacing_mm == pytest.approx((IMAGE_CM * 10 / SIZE, IMAGE_CM * 10 / SIZE))
    assert image.warnings == ()
    drawn = draw_phantom(seed=1, finding=PhantomFinding.CARDIOMEGALY, size=SIZE)
    assert np.abs(image.pixels - drawn).max() <= 1 / 4095

    dataset = pydicom.dcmread(path)
    assert str(dataset.PatientName).startswith("PHANTOM^")
    assert "phantom" in dataset.SeriesDescription
    assert (dataset.BitsStored, dataset.PhotometricInterpretation) == (12, "MONOCHROME2")
    assert info.patient_id == "PHANTOM-CARDIOMEGALY-1"

    again = tmp_path / "again.dcm"
    write_phantom_dicom(again, seed=1, finding=PhantomFinding.CARDIOMEGALY, size=SIZE)
    assert again.read_bytes() == path.read_bytes()
