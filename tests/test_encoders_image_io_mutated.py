"""Mutated and random bytes give an image or an ImageReadError, nothing else."""

import contextlib

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from support import dicom_files as files
from support.dicom_files import dicom, ramp, ready_made_dicom
from support.image_reading import WINDOW, encode_image

from encoders.image_io import read_image, read_image_info
from encoders.images.raw_image import ImageReadError


def _seeds() -> list[bytes]:
    images = [
        dicom(ramp(12), syntax=syntax, **WINDOW)
        for syntax in (*files.UNCOMPRESSED, *files.LOSSLESS)
    ]
    images += [dicom(ramp(12), syntax=syntax, **WINDOW) for syntax in files.LOSSY]
    images += [ready_made_dicom("extended.jpg", syntax=files.JPEG_EXTENDED)]
    images += [dicom(ramp(8), syntax=files.JPEG_BASELINE)]
    lut = files.lut_item(np.arange(4096), first=0, bits=12)
    images += [dicom(ramp(12), BitsStored=12, VOILUTSequence=[lut], ModalityLUTSequence=[lut])]
    picture = Image.fromarray(ramp(8))
    return [
        *images,
        encode_image(picture, "PNG"),
        encode_image(picture, "JPEG"),
        encode_image(picture.convert("CMYK"), "JPEG"),
    ]


SEEDS = _seeds()


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """An image with some bytes changed, cut, or put in; half of the time in its header."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, min(len(data) - 1, draw(st.sampled_from([900, 10**6])))))
        kind = draw(st.sampled_from(["set", "set", "cut", "drop", "insert", "length"]))
        if kind == "set":
            data[place] = draw(st.integers(0, 255))
        elif kind == "cut":
            del data[max(place, 140) :]
        elif kind == "drop":
            del data[place : place + draw(st.integers(1, 8))]
        elif kind == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=16))
        else:
            data[place : place + 4] = draw(
                st.sampled_from([b"\xff" * 4, bytes(4), b"\xff\xff\xff\x7f"])
            )
        if not data:
            break
    return bytes(data)


def image_or_error(data: bytes) -> None:
    try:
        image = read_image(data)
    except ImageReadError as error:
        assert "not foreseen" not in str(error), error
    else:
        assert image.pixels.dtype == np.float32
        assert image.pixels.ndim == 2
        assert 0 <= image.pixels.min() <= image.pixels.max() <= 1  # False for NaN too
    with contextlib.suppress(ImageReadError):
        read_image_info(data)


@settings(max_examples=400, deadline=5000, suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_mutated_images_give_an_image_or_the_error(data: bytes) -> None:
    image_or_error(data)


@settings(max_examples=200, deadline=5000)
@given(
    st.binary(max_size=600),
    st.sampled_from([b"", bytes(128) + b"DICM", b"\x08\0", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"]),
)
def test_random_bytes_give_the_error(data: bytes, start: bytes) -> None:
    image_or_error(start + data)
