"""DICOM files that violate the standard but can be read."""

import struct

import numpy as np
import pytest
from pydicom.dataset import Dataset
from support import dicom_files as files
from support.dicom_files import dicom, ramp
from support.image_reading import WINDOW, meta_header_end, read_error

from encoders.image_io import read_image, read_raw
from encoders.images.raw_image import ReadFailure


def test_a_file_without_preamble_or_meta_header() -> None:
    for syntax in (files.EXPLICIT, files.IMPLICIT):
        data = dicom(ramp(12), syntax=syntax, **WINDOW)
        expected = read_image(data).pixels
        assert np.array_equal(read_image(data[132:]).pixels, expected)
        assert np.array_equal(read_image(data[meta_header_end(data) :]).pixels, expected)
    data = dicom(ramp(12), syntax=files.BIG_ENDIAN, **WINDOW)
    assert np.array_equal(read_image(data[meta_header_end(data) :]).pixels, read_image(data).pixels)


def test_compressed_without_meta_header_is_recognised_by_its_stream() -> None:
    for syntax in (files.JPEG_2000_LOSSLESS, files.JPEG_LS, files.JPEG_LOSSLESS_SV1):
        data = dicom(ramp(12), syntax=syntax, **WINDOW)
        assert np.array_equal(
            read_image(data[meta_header_end(data) :]).pixels, read_image(data).pixels
        )


@pytest.mark.parametrize(
    ("written", "claimed"),
    [
        (files.EXPLICIT, files.IMPLICIT),
        (files.IMPLICIT, files.EXPLICIT),
        (files.EXPLICIT, files.DEFLATED),
        (files.EXPLICIT, files.JPEG_2000_LOSSLESS),
        (files.JPEG_LS, files.JPEG_2000),
        (files.JPEG_LOSSLESS_SV1, files.JPEG_BASELINE),
        (files.JPEG_2000_LOSSLESS, files.EXPLICIT),
        (files.JPEG_LS, "1.2.3.4.5"),
    ],
)
def test_a_wrong_transfer_syntax_is_overruled(written: str, claimed: str) -> None:
    right = dicom(ramp(12), syntax=written, **WINDOW)
    start = right.index(b"\x02\0\x10\0UI")
    length = struct.unpack_from("<H", right, start + 6)[0]
    uid = claimed.encode() + b"\0" * (len(claimed) % 2)
    element = right[start : start + 6] + struct.pack("<H", len(uid)) + uid
    group = struct.unpack_from("<I", right, 140)[0] + len(uid) - length
    wrong = (
        right[:140]
        + struct.pack("<I", group)
        + right[144:start]
        + element
        + right[start + 8 + length :]
    )

    assert np.array_equal(read_image(wrong).pixels, read_image(right).pixels)


def test_window_and_rescale_of_an_enhanced_object() -> None:
    """Enhanced objects keep them in functional groups (PS3.3 C.7.6.16)."""
    stored = ramp(12)
    window, rescale, shared, frame = Dataset(), Dataset(), Dataset(), Dataset()
    window.WindowCenter, window.WindowWidth = 1000, 1500
    rescale.RescaleSlope, rescale.RescaleIntercept = 0.5, 10
    shared.PixelValueTransformationSequence = [rescale]
    frame.FrameVOILUTSequence = [window]
    grouped = dicom(
        stored,
        BitsStored=12,
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=[frame],
    )
    flat = dicom(
        stored,
        BitsStored=12,
        WindowCenter=1000,
        WindowWidth=1500,
        RescaleSlope=0.5,
        RescaleIntercept=10,
    )
    assert np.array_equal(read_image(grouped).pixels, read_image(flat).pixels)


def test_slightly_short_or_long_pixel_data() -> None:
    stored = ramp(12)
    whole = stored.astype("<u2").tobytes()
    expected = read_image(dicom(stored, **WINDOW)).pixels

    long = read_image(dicom(stored, **WINDOW, PixelData=whole + b"\0" * 6))
    assert np.array_equal(long.pixels, expected)
    short = read_image(dicom(stored, **WINDOW, PixelData=whole[:-6]))
    assert np.abs(short.pixels - expected).max() < 0.05
    assert any("lacks 6 bytes" in warning for warning in short.warnings)
    error = read_error(dicom(stored, **WINDOW, PixelData=whole[:-400]))
    assert error.reason is ReadFailure.TRUNCATED
    assert "Rows (0028,0010) = 48" in str(error)


def test_garbage_in_unrelated_elements() -> None:
    elements = {0x00090010: ("LO", "VENDOR"), 0x00091001: ("SQ", []), 0x00091002: ("UN", b"?\0")}
    data = dicom(ramp(12), **WINDOW, elements=elements, SpecificCharacterSet="ISO_IR 100")
    data = data.replace(b"ISO_IR 100", b"ISO_IR 999").replace(b"0.15\\0.15 ", b"zero\\0,15 ")
    data = data.replace(b"PHANTOM^TEST", b"\xff\xfe\x1b$B\x80M^TEST")

    image = read_image(data)

    assert np.array_equal(image.pixels, read_image(dicom(ramp(12), **WINDOW)).pixels)
    assert read_raw(data).spacing_mm is None


def test_decimal_comma_in_a_window() -> None:
    data = dicom(ramp(12), **{**WINDOW, "WindowCenter": "20.5"}).replace(b"20.5", b"20,5")
    assert read_raw(data).window.centre == 20.5


def test_image_bits_above_bits_stored_are_warned_of_and_an_overlay_is_not() -> None:
    pixels = ramp(12)
    wrong = read_image(dicom(pixels, **{**WINDOW, "BitsStored": 10, "HighBit": 9}))
    assert any("BitsStored (0028,0101) = 10" in warning for warning in wrong.warnings)
    drawn = pixels.copy()
    drawn[::20, ::4] |= 0x8000
    overlaid = read_image(dicom(drawn, **WINDOW))
    assert not any("BitsStored" in warning for warning in overlaid.warnings)
    assert np.array_equal(overlaid.pixels, read_image(dicom(pixels, **WINDOW)).pixels)
