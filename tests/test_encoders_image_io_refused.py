"""Files that are no image, or an incomplete one, are refused with reason and cure."""

import os
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import dicom_files as files
from support.dicom_files import dicom, ramp, ready_made_dicom
from support.image_reading import WINDOW, encode_image, meta_header_end, read_error

from encoders.image_io import read_image
from encoders.images.raw_image import MAX_BYTES, MAX_PIXELS, MIN_SIDE, ReadFailure


def png(width: int, height: int, data: bytes, *, bits: int = 8, colour: int = 0) -> bytes:
    """A PNG of these rows, each after its filter byte."""
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    idat = b"IDAT" + zlib.compress(data)
    chunks = [
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c))
        for c in (ihdr, idat, b"IEND")
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares a size and brings one row."""
    return png(width, height, bytes(width + 1))


def twelve_bits_in_colour() -> bytes:
    """The 12 bits of a detector in a 16-bit RGB PNG."""
    rows = ramp(12).astype(">u2").repeat(3, axis=1)
    height, width = ramp(12).shape
    return png(width, height, b"".join(b"\0" + row.tobytes() for row in rows), bits=16, colour=2)


def bomb_in_a_stream() -> bytes:
    """A header of 48 x 64 and a JPEG 2000 stream that claims 60 000 x 60 000."""
    data = bytearray(dicom(ramp(12), syntax=files.JPEG_2000_LOSSLESS, **WINDOW))
    start = data.index(b"\xff\x4f\xff\x51")
    data[start + 8 : start + 16] = struct.pack(">II", 60_000, 60_000)
    return bytes(data)


def item_bomb() -> bytes:
    """A sequence of a million empty items, which would take half a minute and a gigabyte."""
    start = struct.pack("<HH2sHL", 0x0040, 0x0275, b"SQ", 0, 0xFFFFFFFF)
    return bytes(128) + b"DICM" + start + struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 1_000_000


def crowded_sequence() -> bytes:
    """As many items in a sequence of a given length, which pydicom parses when it is asked for."""
    length = 8 * 400_000
    start = struct.pack("<HH2sHL", 0x0028, 0x3000, b"SQ", 0, length)
    crowd = start + struct.pack("<HHL", 0xFFFE, 0xE000, 0) * (length // 8)
    data = dicom(ramp(12))
    at = data.rindex(b"\xe0\x7f\x10\x00")
    return data[:at] + crowd + data[at:]


def nesting_bomb() -> bytes:
    """Sequences in sequences, a hundred thousand deep."""
    start = struct.pack("<HH2sHL", 0x0040, 0x0275, b"SQ", 0, 0xFFFFFFFF)
    return (
        bytes(128) + b"DICM" + (start + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)) * 100_000
    )


def deflated_bomb() -> bytes:
    data = dicom(ramp(12), syntax=files.DEFLATED, **WINDOW)
    body = zlib.compressobj(9, wbits=-15)
    zeros = b"".join(body.compress(bytes(1 << 20)) for _ in range((MAX_BYTES >> 20) + 64))
    return data[: meta_header_end(data)] + zeros + body.flush()


def deflated_bomb_without_a_meta_length() -> bytes:
    """As above, without (0002,0000), which readers do without."""
    data = deflated_bomb()
    return data[:132] + data[144:]


def deflated_behind_an_implicit_meta_header() -> bytes:
    syntax = files.DEFLATED.encode()
    meta = struct.pack("<HHL", 0x0002, 0x0010, len(syntax)) + syntax
    return bytes(128) + b"DICM" + meta + zlib.compress(bytes(999), wbits=-15)


PIXELS = ramp(12)


REFUSED: list[tuple[str, Callable[[], bytes], ReadFailure, str]] = [
    ("empty", lambda: b"", ReadFailure.NOT_AN_IMAGE, "empty"),
    ("text", lambda: b"No acute disease.", ReadFailure.NOT_AN_IMAGE, "text"),
    ("PDF", lambda: b"%PDF-1.7\n" + bytes(99), ReadFailure.NOT_AN_IMAGE, "PDF"),
    ("ZIP", lambda: b"PK\x03\x04" + bytes(99), ReadFailure.NOT_AN_IMAGE, "ZIP"),
    ("noise", lambda: bytes(range(255, 0, -1)) * 9, ReadFailure.NOT_AN_IMAGE, "unknown file type"),
    (
        "TIFF",
        lambda: encode_image(Image.new("L", (64, 64)), "TIFF"),
        ReadFailure.NOT_AN_IMAGE,
        "TIFF",
    ),
    ("GIF", lambda: encode_image(Image.new("L", (64, 64)), "GIF"), ReadFailure.NOT_AN_IMAGE, "GIF"),
    ("only DICM", lambda: bytes(128) + b"DICM", ReadFailure.NO_PIXELS, "PixelData (7FE0,0010)"),
    (
        "no pixels",
        lambda: dicom(PIXELS, PixelData=None),
        ReadFailure.NO_PIXELS,
        "PixelData (7FE0,0010)",
    ),
    (
        "no Rows",
        lambda: dicom(PIXELS, Rows=None),
        ReadFailure.BAD_HEADER,
        "Rows (0028,0010) is missing",
    ),
    (
        "Columns 0",
        lambda: dicom(PIXELS, Columns=0),
        ReadFailure.BAD_HEADER,
        "Columns (0028,0011) is 0",
    ),
    (
        "icon",
        lambda: dicom(ramp(12, rows=16, columns=16)),
        ReadFailure.TOO_SMALL,
        "Rows (0028,0010) = 16",
    ),
    (
        "small PNG",
        lambda: encode_image(Image.new("L", (40, 31)), "PNG"),
        ReadFailure.TOO_SMALL,
        "height = 31",
    ),
    ("12 bits in colour", twelve_bits_in_colour, ReadFailure.UNSUPPORTED, "6% of white"),
    (
        "huge DICOM",
        lambda: dicom(PIXELS, Rows=60000, Columns=60000),
        ReadFailure.TOO_LARGE,
        "60000",
    ),
    ("huge PNG", lambda: png_header(60000, 60000), ReadFailure.TOO_LARGE, "width = 60000"),
    ("huge stream", bomb_in_a_stream, ReadFailure.BAD_HEADER, "60000 rows"),
    ("deflated bomb", deflated_bomb, ReadFailure.TOO_LARGE, "inflates"),
    ("deflated, no length", deflated_bomb_without_a_meta_length, ReadFailure.TOO_LARGE, "inflates"),
    (
        "deflated, implicit meta",
        deflated_behind_an_implicit_meta_header,
        ReadFailure.UNSUPPORTED,
        "deflated",
    ),
    ("crowded sequence", crowded_sequence, ReadFailure.TOO_LARGE, "more elements"),
    ("item bomb", item_bomb, ReadFailure.TOO_LARGE, "more elements"),
    ("nesting bomb", nesting_bomb, ReadFailure.BAD_HEADER, "RecursionError"),
    (
        "4 samples",
        lambda: dicom(PIXELS, SamplesPerPixel=4),
        ReadFailure.UNSUPPORTED,
        "SamplesPerPixel",
    ),
    (
        "12 allocated",
        lambda: dicom(PIXELS, BitsAllocated=12),
        ReadFailure.UNSUPPORTED,
        "BitsAllocated",
    ),
    ("HSV", lambda: dicom(PIXELS, PhotometricInterpretation="HSV"), ReadFailure.UNSUPPORTED, "HSV"),
    (
        "palette lost",
        lambda: dicom(PIXELS, PhotometricInterpretation="PALETTE COLOR"),
        ReadFailure.BAD_HEADER,
        "palette",
    ),
    (
        "cut PNG",
        lambda: encode_image(Image.fromarray(ramp(8)), "PNG")[:-60],
        ReadFailure.TRUNCATED,
        "cut short",
    ),
    (
        "cut JPEG",
        lambda: encode_image(Image.fromarray(ramp(8)), "JPEG")[:-99],
        ReadFailure.TRUNCATED,
        "cut short",
    ),
    ("cut DICOM", lambda: dicom(PIXELS)[:-2000], ReadFailure.TRUNCATED, "PixelData"),
]


@pytest.mark.parametrize(
    ("make", "reason", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_an_unreadable_file_is_refused_with_a_reason(
    make: Callable[[], bytes], reason: ReadFailure, message: str
) -> None:
    error = read_error(make(), name="upload")
    assert error.reason is reason
    assert message in str(error)
    assert str(error).startswith("upload: ")
    assert len(str(error)) < 500


@pytest.mark.parametrize("syntax", [*files.LOSSLESS, files.JPEG_LS_NEAR, files.JPEG_2000])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_streams_are_refused(syntax: str, share: float) -> None:
    data = dicom(ramp(12), syntax=syntax, **WINDOW)
    start = data.rindex(b"\xe0\x7f\x10\x00")
    cut = data[: start + int((len(data) - start) * share)]
    assert read_error(cut).reason in (ReadFailure.TRUNCATED, ReadFailure.UNDECODABLE)


def test_a_truncated_stream_in_a_complete_file_is_refused() -> None:
    """The items are complete, the codestream in them is not: writers that lost their disk."""
    for name, syntax in (("extended.jpg", files.JPEG_EXTENDED), ("lossless.j2c", files.HTJ2K)):
        dataset_bytes = ready_made_dicom(name, syntax=syntax, **WINDOW)
        stream = files.ready_made(name)
        half = stream[: len(stream) // 2] + bytes(len(stream) - len(stream) // 2)
        error = read_error(dataset_bytes.replace(stream, half))
        assert error.reason in (ReadFailure.TRUNCATED, ReadFailure.UNDECODABLE)


def test_colour_that_needs_too_much_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    grey = ramp(8)
    colour = dicom(
        np.stack([grey] * 3, -1),
        syntax=files.JPEG_2000_LOSSLESS,
        PhotometricInterpretation="RGB",
        BitsStored=8,
        HighBit=7,
    )
    read_image(colour)
    monkeypatch.setattr("encoders.dicom.pixels._MAX_JPEG_2000_SAMPLES", 2 * grey.size)
    assert read_error(colour).reason is ReadFailure.TOO_LARGE
    read_image(dicom(grey, syntax=files.JPEG_2000_LOSSLESS))


def test_unreadable_paths_are_refused(tmp_path: Path) -> None:
    assert read_error(tmp_path / "nothing.dcm").reason is ReadFailure.FILE
    assert read_error(tmp_path).reason is ReadFailure.FILE
    assert read_error(Path("a\0b")).reason is ReadFailure.FILE
    os.mkfifo(tmp_path / "pipe")
    assert read_error(tmp_path / "pipe").reason is ReadFailure.FILE
    sparse = tmp_path / "large.dcm"
    with sparse.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert read_error(sparse).reason is ReadFailure.TOO_LARGE


def test_the_error_can_be_pickled() -> None:
    error = read_error(b"")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (str(copy), copy.reason) == (str(error), error.reason)


def test_size_limits_allow_real_images() -> None:
    assert MIN_SIDE < 64
    assert MAX_PIXELS > 4300 * 4300  # 43 cm at 0.1 mm
