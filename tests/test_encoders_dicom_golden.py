"""The golden table (tests/support/dicom_cases.py) against our reader and dcmtk."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import dicom_files as files
from support.dicom_cases import CASES, EXPECTED12, TOLERANCE, Case, build
from support.dicom_files import dicom, ready_made_dicom

from encoders.image_io import read_image

TABLE = [
    pytest.param(case, syntax, id=f"{case.name} | {syntax}")
    for case in CASES
    for syntax in case.syntaxes
]


@pytest.mark.parametrize(("case", "syntax"), TABLE)
def test_golden(case: Case, syntax: str) -> None:
    image = read_image(build(case, syntax))

    assert image.pixels.dtype == np.float32
    assert image.pixels.shape == case.expected.shape
    worst = np.abs(image.pixels - case.expected).max()
    assert worst <= case.tolerance, f"off by {worst * 255:.2f} grey values of 255; {image.warnings}"
    if case.warning:
        assert any(case.warning in warning for warning in image.warnings), image.warnings
    else:
        assert image.warnings == ()


@pytest.mark.parametrize(
    ("name", "syntax"),
    [
        ("extended.jpg", files.JPEG_EXTENDED),
        ("lossless.j2c", files.HTJ2K_LOSSLESS),
        ("lossless.j2c", files.HTJ2K_RPCL),
        ("lossy.j2c", files.HTJ2K),
    ],
)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_golden_ready_made_streams(name: str, syntax: str, photometric: str) -> None:
    data = ready_made_dicom(
        name,
        syntax=syntax,
        WindowCenter=2048,
        WindowWidth=4096,
        PhotometricInterpretation=photometric,
    )

    expected = 1 - EXPECTED12 if photometric == "MONOCHROME1" else EXPECTED12
    assert np.abs(read_image(data).pixels - expected).max() <= TOLERANCE


def test_the_golden_table_covers_all_transfer_syntaxes() -> None:
    assert len(CASES) >= 30
    assert len({case.name for case in CASES}) == len(CASES)
    syntaxes = {syntax for case in CASES for syntax in case.syntaxes}
    syntaxes |= {files.JPEG_EXTENDED, files.HTJ2K_LOSSLESS, files.HTJ2K_RPCL, files.HTJ2K}
    assert len(syntaxes) == 16  # all of pydicom's plugin table


def test_values_worked_out_by_hand() -> None:
    """A handful of values worked out by hand, so that no shared mistake of formulas can hide."""
    stored = np.full((32, 32), 0, np.uint16)
    stored[0, :6] = [0, 1024, 2047, 2048, 3000, 4095]
    attributes = {"BitsStored": 12, "WindowCenter": 2048, "WindowWidth": 2048}
    got = read_image(dicom(stored, **attributes)).pixels[0, :6]
    assert got == pytest.approx([0.0, 0.0, 0.499756, 0.500244, 0.965315, 1.0], abs=1e-5)

    inverted = {**attributes, "PhotometricInterpretation": "MONOCHROME1"}
    got = read_image(dicom(stored, **inverted, PresentationLUTShape="INVERSE")).pixels[0, :6]
    assert got == pytest.approx([1.0, 1.0, 0.500244, 0.499756, 0.034685, 0.0], abs=1e-5)


DCMTK = {
    **dict.fromkeys((*files.UNCOMPRESSED, files.RLE, files.JPEG_BASELINE), "dcmj2pnm"),
    **dict.fromkeys((files.JPEG_LOSSLESS, files.JPEG_LOSSLESS_SV1), "dcmj2pnm"),
    **dict.fromkeys((files.JPEG_LS, files.JPEG_LS_NEAR), "dcml2pnm"),
}
"""Which of dcmtk's tools reads a transfer syntax; it reads no JPEG 2000."""

NOT_COMPARED = {
    "MONOCHROME1 IDENTITY": "a contradiction: dcmtk follows the LUT shape, we the photometric",
    "intercept without slope": "incomplete: dcmtk ignores the intercept, we take the slope for 1",
    "no photometric interpretation": "dcmtk refuses it",
    "photometric MONOCHROME": "dcmtk refuses it",
    "no PixelRepresentation": "dcmtk refuses it",
    "no HighBit": "dcmtk refuses it where it is compressed",
    "no SamplesPerPixel": "dcmtk refuses it where it is compressed",
    "constant, without a window": "no window: each reader's own choice",
    "constant, MONOCHROME1": "no window: each reader's own choice",
    "YBR_FULL": "dcmtk goes by RGB, where these colours are clipped",
    "YBR_FULL_422": "dcmtk goes by RGB, where these colours are clipped",
    "VOI LUT that says 16 bits and means 12": "mended by us, shown nearly black by dcmtk",
}


def _compared(case: Case) -> bool:
    """Where an image has no window that fits it, each reader chooses its own."""
    chosen = case.warning in ("no usable window", "nearly black, white or flat", "FOR PROCESSING")
    return not chosen and "WindowWidth (0028" not in case.warning and case.name not in NOT_COMPARED


SECOND_TABLE = [
    pytest.param(case, syntax, id=f"{case.name} | {syntax}")
    for case in CASES
    if _compared(case)
    for syntax in case.syntaxes
    if syntax in DCMTK
]


@pytest.mark.skipif(
    shutil.which("dcmj2pnm") is None or shutil.which("dcml2pnm") is None,
    reason="no second reader: dcmj2pnm and dcml2pnm (Debian package dcmtk) are not installed",
)
@pytest.mark.parametrize(("case", "syntax"), SECOND_TABLE)
def test_dcmtk_agrees(case: Case, syntax: str, tmp_path: Path) -> None:
    data = build(case, syntax)
    (tmp_path / "image.dcm").write_bytes(data)
    voi = ["+Wl", "1"] if "VOILUTSequence" in case.attributes else ["+Wi", "1"]
    if "WindowWidth" not in case.attributes and "VOILUTSequence" not in case.attributes:
        voi = []
    command = [DCMTK[syntax], "--no-overlays", "+G", *voi, "+on2", "image.dcm", "image.png"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    with Image.open(tmp_path / "image.png") as image:
        other = np.asarray(image).astype(np.float64) / (65535 if image.mode != "L" else 255)

    ours = read_image(data).pixels
    shown = ours > 0  # dcmtk leaves padding and what a shutter covers in sight
    grey = "a colour image" not in case.warning  # dcmtk's luminance is .30, .59, .11
    assert np.abs(ours - other)[shown].max() <= (1 if grey else 2) * case.tolerance
