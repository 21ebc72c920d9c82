"""View, spacing and identity of an image, and no patient data elsewhere."""

import contextlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import generate_uid
from support.dicom_files import dicom, ramp
from support.image_reading import WINDOW, encode_image

from encoders.base import View
from encoders.image_io import read_image, read_image_info, read_raw
from encoders.images.image_info import ImageInfo
from encoders.images.raw_image import ImageReadError


def test_an_image_has_a_view_and_a_hash(tmp_path: Path) -> None:
    data = dicom(ramp(12), **WINDOW)
    path = tmp_path / "image.png"  # the name lies; content counts
    path.write_bytes(data)

    image = read_image(path)

    assert image.view is View.PA
    assert image.warnings == ()
    assert len(image.source_sha256) == 64
    again = read_image(data)
    assert again.source_sha256 == image.source_sha256
    assert again.pixels.tobytes() == image.pixels.tobytes()


@pytest.mark.parametrize(
    ("attributes", "view"),
    [
        ({"ViewPosition": "AP"}, View.AP),
        ({"ViewPosition": "LL"}, View.LATERAL),
        ({"ViewPosition": "LATERAL"}, View.LATERAL),
        ({"ViewPosition": "LLD"}, View.UNKNOWN),  # decubitus: frontal, but lying on the side
        ({"ViewPosition": ""}, View.UNKNOWN),
        ({"ViewPosition": None}, View.UNKNOWN),
    ],
)
def test_view(attributes: dict[str, Any], view: View) -> None:
    assert read_image(dicom(ramp(12), **WINDOW, **attributes)).view is view


@pytest.mark.parametrize(
    ("attributes", "spacing"),
    [
        ({"PixelSpacing": [0.2, 0.3]}, (0.2, 0.2)),
        ({"PixelSpacing": [0, 0]}, None),
        ({"PixelSpacing": None, "ImagerPixelSpacing": [0.14, 0.14]}, (0.14, 0.14)),
        ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.14, 0.14]}, (0.14, 0.14)),
        ({"PixelSpacing": None}, None),
    ],
)
def test_spacing(attributes: dict[str, Any], spacing: tuple[float, float] | None) -> None:
    assert read_raw(dicom(ramp(12), **WINDOW, **attributes)).spacing_mm == spacing


def test_a_raw_image_is_the_same_image_at_full_depth() -> None:
    stored = ramp(12, signed=True)
    data = dicom(
        stored,
        BitsStored=12,
        RescaleSlope=2,
        RescaleIntercept=100,
        WindowCenter=100,
        WindowWidth=8192,
    )

    raw = read_raw(data)

    assert raw.codes.dtype == np.uint16
    assert np.array_equal(raw.codes * raw.slope + raw.intercept, stored * 2.0 + 100)
    assert (raw.window.centre, raw.window.width, raw.invert) == (100, 8192, False)
    assert np.array_equal(raw.display_table()[raw.codes], read_image(data).pixels)


def test_no_patient_data_in_the_image_or_its_warnings() -> None:
    person = "ZIBULSKI^ADA"
    planted = dict.fromkeys(
        ("PatientName", "PatientID", "BodyPartExamined", "Modality", "SeriesDescription"), person
    )
    image = read_raw(dicom(ramp(12), BitsStored=12, **planted))

    told = repr((image.view, image.modality, image.warnings))
    assert "ZIBULSKI" not in told


def test_nothing_of_the_header_is_logged_or_warned(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """pydicom quotes malformed values in warnings and in its log; neither may come through."""
    caplog.set_level(logging.DEBUG)
    person = "ZIBULSKI"
    data = dicom(ramp(12), BitsStored=12, StudyInstanceUID="1.2.11111111", PatientID="1" * 64)
    data = data.replace(b"1.2.11111111", b"1.2." + person.encode()).replace(
        b"1" * 64, person.encode() * 8
    )
    for bad in (data, data.replace(b"DX", b"\xff\xfe"), data.replace(b"PN", b"XX"), data[:-4000]):
        for read in (read_image, read_raw, read_image_info):
            with contextlib.suppress(ImageReadError):
                read(bad)

    assert read_image_info(data).patient_id == person * 8
    assert person not in caplog.text
    assert person not in "".join(capfd.readouterr())


def test_identity_of_a_dicom_file() -> None:
    uid = generate_uid()
    data = dicom(
        ramp(12), StudyInstanceUID=uid, AccessionNumber="A7 ", StudyID="A7", PatientID="P1"
    )
    info = read_image_info(data)
    assert (info.study_ids, info.patient_id) == ((uid, "A7"), "P1")


def test_a_picture_has_no_identity() -> None:
    picture = encode_image(Image.new("L", (64, 64)), "PNG")
    assert read_image_info(picture) == ImageInfo()
