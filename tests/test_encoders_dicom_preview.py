"""The preview of a large image: close to the whole one, or absent."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless

from encoders.dicom.write import write_dx
from encoders.image_io import read_preview, read_raw

pytestmark = pytest.mark.slow

ROWS, COLUMNS = 2002, 1603


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("image") / "large.dcm", ROWS, COLUMNS)


def _write(path: Path, rows: int, columns: int) -> Path:
    across, down = np.linspace(0, 1, columns), np.linspace(0, 1, rows)
    pixels = 4095 * (0.5 + 0.5 * np.sin(9 * across) * np.cos(7 * down)[:, None])
    write_dx(
        path,
        pixels.astype(np.uint16),
        bits=12,
        spacing_mm=0.15,
        patient_name="PHANTOM^LARGE",
        patient_id="PHANTOM-LARGE",
        description="Drawn phantom, no patient",
    )
    _compress(path)
    return path


def _compress(path: Path) -> None:
    image = dcmread(path)
    image.compress(JPEG2000Lossless)
    image.save_as(path)


@pytest.mark.parametrize(
    ("rows", "columns", "step"),
    [
        *((2002, 1603, 4), (2004, 1603, 4), (2005, 1603, 2)),
        *((3200, 2560, 8), (3204, 2565, 8), (3201, 2560, 2), (3202, 2560, 4)),
    ],
)
def test_a_preview_is_the_image_at_a_lower_resolution(
    tmp_path: Path, rows: int, columns: int, step: int
) -> None:
    image = _write(tmp_path / "image.dcm", rows, columns)
    found, whole = read_preview(image), read_raw(image)
    assert found is not None
    small, size = found
    assert size == whole.codes.shape == (rows, columns)
    assert small.codes.shape == (-(-rows // step), -(-columns // step))
    near = whole.codes[::step, ::step].astype(int) - small.codes
    assert np.abs(near).max() < 60  # of 4095, on a smooth image
    assert small.source_sha256 == whole.source_sha256
    assert small.window == whole.window
    assert (small.spacing_mm, small.view) == (whole.spacing_mm, whole.view)


@pytest.mark.parametrize("change", ["shutter", "signed", "uncompressed", "cut", "other bits"])
def test_there_is_no_preview_if_it_would_be_wrong_or_no_quicker(
    image: Path, tmp_path: Path, change: str
) -> None:
    header = dcmread(image)
    if change == "shutter":
        header.ShutterShape = "CIRCULAR"
    elif change == "signed":
        header.PixelRepresentation = 1
    elif change == "uncompressed":
        header.decompress()
    elif change == "other bits":
        header.BitsStored, header.HighBit = 10, 9
    path = tmp_path / "image.dcm"
    header.save_as(path)
    if change == "cut":
        path.write_bytes(path.read_bytes()[:-5000])
    assert read_preview(path) is None or change == "cut"


def test_only_large_dicom_images_have_a_preview(tmp_path: Path) -> None:
    from demo.phantom import write_phantom_dicom  # noqa: PLC0415

    small = tmp_path / "small.dcm"
    write_phantom_dicom(small, seed=1)
    _compress(small)
    rubbish = tmp_path / "x.dcm"
    rubbish.write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 500)
    picture = tmp_path / "x.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    for path in (small, rubbish, picture, tmp_path / "none.dcm"):
        assert read_preview(path) is None
