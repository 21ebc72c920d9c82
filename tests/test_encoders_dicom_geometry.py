"""Images stored mirrored, rotated, with oblong pixels, or with a wide border."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from support.dicom_files import JPEG_2000_LOSSLESS, dicom

from encoders.image_io import read_image, read_preview, read_raw
from encoders.images.exposure import Histogram, percentile_window
from encoders.images.raw_image import MAX_PIXELS

WINDOW = {"BitsStored": 12, "WindowCenter": 2048, "WindowWidth": 4096}


def marked(rows: int = 70, columns: int = 50) -> NDArray[np.uint16]:
    """Grey, with one white mark at the top left: rows 4 to 9, columns 3 to 6."""
    image = np.full((rows, columns), 700, np.uint16)
    image[4:10, 3:7] = 3900
    return image


def box(pixels: NDArray[np.float32], *, above: float = 0.6) -> tuple[int, int, int, int]:
    """First and last row, first and last column of the mark."""
    rows, columns = np.nonzero(pixels > above)
    return int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())


@pytest.mark.parametrize(
    ("orientation", "view", "shape", "where"),
    [
        (["L", "F"], "PA", (70, 50), (4, 9, 3, 6)),
        (["R", "F"], "PA", (70, 50), (4, 9, 43, 46)),
        (["R", "F"], "", (70, 50), (4, 9, 43, 46)),
        (["R", "H"], "AP", (70, 50), (60, 65, 43, 46)),
        (["L", "H"], "AP", (70, 50), (60, 65, 3, 6)),
        (["F", "L"], "PA", (50, 70), (3, 6, 4, 9)),
        (["F", "R"], "PA", (50, 70), (3, 6, 60, 65)),
        (["H", "L"], "PA", (50, 70), (43, 46, 4, 9)),
        (["LF", "FR"], "PA", (70, 50), (4, 9, 3, 6)),
        # from either side a lateral is right: it is turned, never mirrored
        (["A", "F"], "LL", (70, 50), (4, 9, 3, 6)),
        (["P", "F"], "RL", (70, 50), (4, 9, 3, 6)),
        (["A", "H"], "LL", (70, 50), (60, 65, 43, 46)),
        (["F", "P"], "LL", (50, 70), (3, 6, 60, 65)),
    ],
)
def test_an_image_is_made_upright_by_its_patient_orientation(
    orientation: list[str], view: str, shape: tuple[int, int], where: tuple[int, ...]
) -> None:
    image = read_image(dicom(marked(), **WINDOW, PatientOrientation=orientation, ViewPosition=view))
    assert image.pixels.shape == shape
    assert box(image.pixels) == where
    upright = (shape, where) == ((70, 50), (4, 9, 3, 6))
    assert any("PatientOrientation" in warning for warning in image.warnings) is not upright


@pytest.mark.parametrize(
    "attributes",
    [
        {"FieldOfViewHorizontalFlip": "YES"},
        {"FieldOfViewRotation": 180},
        {"PatientOrientation": ["X", "F"]},
        {"PatientOrientation": "R"},
        {"PatientOrientation": ["R", "L"]},
        {"PatientOrientation": ["A", "F"], "ViewPosition": "PA"},
        {"PatientOrientation": ["R", "F"], "ViewPosition": "LL"},
    ],
)
def test_uncertain_sides_are_warned_of(attributes: dict[str, Any]) -> None:
    image = read_image(dicom(marked(), **WINDOW, **attributes))
    assert box(image.pixels) == (4, 9, 3, 6)
    assert any("sides may be swapped" in warning for warning in image.warnings), image.warnings


def test_a_detector_flip_is_not_warned_of_if_the_orientation_is_given() -> None:
    said = {"PatientOrientation": ["L", "F"], "FieldOfViewHorizontalFlip": "YES"}
    assert read_image(dicom(marked(), **WINDOW, **said, FieldOfViewRotation=0)).warnings == ()


def test_padding_and_spacing_are_reoriented_with_the_image() -> None:
    stored = marked()
    stored[:, :2] = 0
    turned = {"PatientOrientation": ["F", "R"], "PixelPaddingValue": 0}
    raw = read_raw(dicom(stored, **WINDOW, **turned, PixelSpacing=[0.2, 0.2002]))
    assert raw.spacing_mm == (0.2002, 0.2)
    assert raw.hidden is not None
    assert np.array_equal(np.flatnonzero(raw.hidden.all(axis=1)), [0, 1])


def ellipse(rows: int, columns: int) -> NDArray[np.uint16]:
    """A disc that fills three quarters of the image in either direction."""
    down, across = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    return np.where(down**2 + across**2 < 0.75**2, 3000, 300).astype(np.uint16)


@pytest.mark.parametrize(
    ("rows", "columns", "attributes", "side"),
    [
        (120, 180, {"PixelSpacing": [0.3, 0.2]}, 180),
        (180, 120, {"PixelSpacing": [0.2, 0.3]}, 180),
        (90, 180, {"PixelSpacing": None, "ImagerPixelSpacing": [0.28, 0.14]}, 180),
        (90, 180, {"PixelSpacing": None, "PixelAspectRatio": [2, 1]}, 180),
        (160, 120, {"PixelSpacing": None, "PixelAspectRatio": [3, 4]}, 160),
    ],
)
def test_oblong_pixels_are_resampled_to_squares(
    rows: int, columns: int, attributes: dict[str, Any], side: int
) -> None:
    data = dicom(ellipse(rows, columns), **WINDOW, **attributes)
    image = read_image(data)
    assert image.pixels.shape == (side, side)
    top, bottom, left, right = box(image.pixels, above=0.4)
    assert (bottom - top + 1) / (right - left + 1) == pytest.approx(1, abs=0.02)
    assert any("resampled to square" in warning for warning in image.warnings)
    if spacing := read_raw(data).spacing_mm:
        assert spacing[0] == spacing[1]


@pytest.mark.parametrize(
    "attributes",
    [{"PixelSpacing": None, "PixelAspectRatio": [100, 1]}, {"PixelSpacing": [9.0, 0.1]}],
)
def test_an_implausible_pixel_aspect_is_warned_of(attributes: dict[str, Any]) -> None:
    image = read_image(dicom(marked(), **WINDOW, **attributes))
    assert image.pixels.shape == (70, 50)
    assert any("distorted" in warning for warning in image.warnings)
    assert image.pixels.size < MAX_PIXELS


def test_a_padded_neighbour_hides_a_resampled_pixel() -> None:
    stored = marked()
    stored[20] = 0
    raw = read_raw(dicom(stored, **WINDOW, PixelPaddingValue=0, PixelSpacing=[0.4, 0.2]))
    assert raw.hidden is not None
    assert raw.hidden.sum() == 4 * 50  # the two rows of it, and those mixed with it
    assert raw.render()[raw.hidden].max() == 0


def test_an_image_that_is_stored_mirrored_has_no_preview(tmp_path: Any) -> None:
    large = np.kron(marked(), np.ones((40, 40), np.uint16))
    for number, attributes in enumerate(({}, {"PatientOrientation": ["R", "F"]})):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(dicom(large, syntax=JPEG_2000_LOSSLESS, **WINDOW, **attributes))
    assert read_preview(tmp_path / "0.dcm") is not None
    assert read_preview(tmp_path / "1.dcm") is None


def collimated(*, marker: bool, border: int = 0) -> NDArray[np.uint16]:
    """An exposed field on a quarter of the image, 2200 to 2500, in a wide border."""
    image = np.full((200, 200), border, np.uint16)
    image[50:150, 50:150] = np.linspace(2200, 2500, 100).astype(np.uint16)
    if marker:
        image[8:30, 10:60] = 4095
    return image


@pytest.mark.parametrize("marker", [False, True])
@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_border_and_marker_do_not_narrow_the_grey_scale_of_the_field(
    marker: bool, photometric: str
) -> None:
    stored = collimated(marker=marker)
    if photometric == "MONOCHROME1":
        stored = 4095 - stored
    pixels = read_image(dicom(stored, BitsStored=12, PhotometricInterpretation=photometric)).pixels
    assert pixels[100, 50] <= 0.1
    assert pixels[100, 149] >= 0.9


def test_a_noisy_border_with_a_soft_edge_is_recognised() -> None:
    noise = np.random.default_rng(5).normal(0, 10, (200, 200))
    soft = ndimage.gaussian_filter(np.clip(collimated(marker=True, border=60) + noise, 0, 4095), 1)
    pixels = read_image(dicom(soft.astype(np.uint16), BitsStored=12)).pixels
    assert pixels[60:140, 54:58].mean() < 0.3
    assert pixels[60:140, 142:146].mean() > 0.7


def test_an_image_without_border_gets_the_plain_percentiles() -> None:
    values = np.random.default_rng(1).normal(1800, 500, 100_000).clip(0, 4095).astype(np.uint16)
    found = Histogram.from_codes(values, slope=1.0, intercept=0.0)
    window = percentile_window(found, invert=False)
    assert window.width == found.percentile(99.5) - found.percentile(0.5)
