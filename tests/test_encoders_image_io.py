"""Reading films: formats, refusals, identity, and that nothing but ImageReadError comes out."""

import contextlib
import io
import json
import logging
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dicom_files as files
import numpy as np
import pytest
from dicom_files import dicom, ramp, ready_made_dicom
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from encoders.base import View
from encoders.image_io import (
    BLANK,
    COLOURFUL,
    MAX_BYTES,
    MAX_PIXELS,
    MIN_SIDE,
    HeaderIdentity,
    ImageReadError,
    Reason,
    read_header_identity,
    read_image,
    read_raw,
)

DATA = Path(os.environ.get("CXR_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
WINDOW = {"BitsStored": 12, "WindowCenter": 2048, "WindowWidth": 4096}


def refused(source: Path | bytes, **options: Any) -> ImageReadError:
    with pytest.raises(ImageReadError) as caught:
        read_image(source, **options)
    return caught.value


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


# --- what a film tells of itself


def test_a_film_tells_view_spacing_modality_and_hash(tmp_path: Path) -> None:
    data = dicom(ramp(12), **WINDOW)
    path = tmp_path / "film.png"  # the name lies; content counts
    path.write_bytes(data)

    image = read_image(path)

    assert image.view is View.PA
    assert image.spacing_mm == (0.15, 0.15)
    assert (image.modality, image.body_part) == ("DX", "CHEST")
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
        ({"PixelSpacing": [0.2, 0.3]}, (0.2, 0.3)),
        ({"PixelSpacing": [0, 0]}, None),
        ({"PixelSpacing": None, "ImagerPixelSpacing": [0.14, 0.14]}, (0.14, 0.14)),
        ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.14, 0.14]}, (0.14, 0.14)),
        ({"PixelSpacing": None}, None),
    ],
)
def test_spacing(attributes: dict[str, Any], spacing: tuple[float, float] | None) -> None:
    assert read_image(dicom(ramp(12), **WINDOW, **attributes)).spacing_mm == spacing


def test_raw_film_is_the_same_film_at_full_depth() -> None:
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


def test_no_patient_data_in_the_film_or_its_warnings() -> None:
    person = "ZIBULSKI^ADA"
    planted = dict.fromkeys(
        ("PatientName", "PatientID", "BodyPartExamined", "Modality", "SeriesDescription"), person
    )
    image = read_image(dicom(ramp(12), BitsStored=12, **planted))

    told = repr((image.view, image.modality, image.body_part, image.warnings))
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
        for read in (read_image, read_raw, read_header_identity):
            with contextlib.suppress(ImageReadError):
                read(bad)

    assert read_header_identity(data).patient_id == person * 8
    assert person not in caplog.text
    assert person not in "".join(capfd.readouterr())


# --- identity


def test_identity_of_a_dicom() -> None:
    uid = generate_uid()
    data = dicom(
        ramp(12), StudyInstanceUID=uid, AccessionNumber="A7 ", StudyID="A7", PatientID="P1"
    )
    assert read_header_identity(data) == HeaderIdentity((uid, "A7"), "P1")


def test_identity_of_a_picture_is_empty() -> None:
    assert read_header_identity(encoded(Image.new("L", (64, 64)), "PNG")) == HeaderIdentity()


# --- headers out of the workshop


def meta(data: bytes) -> int:
    """Where the data set begins."""
    return 144 + int(struct.unpack_from("<I", data, 140)[0])


def test_without_preamble_and_without_meta_header() -> None:
    for syntax in (files.EXPLICIT, files.IMPLICIT):
        data = dicom(ramp(12), syntax=syntax, **WINDOW)
        expected = read_image(data).pixels
        assert np.array_equal(read_image(data[132:]).pixels, expected)
        assert np.array_equal(read_image(data[meta(data) :]).pixels, expected)
    data = dicom(ramp(12), syntax=files.BIG_ENDIAN, **WINDOW)
    assert np.array_equal(read_image(data[meta(data) :]).pixels, read_image(data).pixels)


def test_compressed_without_meta_header_is_recognised_by_its_stream() -> None:
    for syntax in (files.JPEG_2000_LOSSLESS, files.JPEG_LS, files.JPEG_LOSSLESS_SV1):
        data = dicom(ramp(12), syntax=syntax, **WINDOW)
        assert np.array_equal(read_image(data[meta(data) :]).pixels, read_image(data).pixels)


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
def test_wrong_transfer_syntax(written: str, claimed: str) -> None:
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


def test_pixel_data_a_little_short_or_long() -> None:
    stored = ramp(12)
    whole = stored.astype("<u2").tobytes()
    expected = read_image(dicom(stored, **WINDOW)).pixels

    long = read_image(dicom(stored, **WINDOW, PixelData=whole + b"\0" * 6))
    assert np.array_equal(long.pixels, expected)
    short = read_image(dicom(stored, **WINDOW, PixelData=whole[:-6]))
    assert np.abs(short.pixels - expected).max() < 0.05
    assert any("lacks 6 bytes" in warning for warning in short.warnings)
    error = refused(dicom(stored, **WINDOW, PixelData=whole[:-400]))
    assert error.reason is Reason.TRUNCATED
    assert "Rows (0028,0010) = 48" in str(error)


def test_garbage_in_unrelated_elements() -> None:
    elements = {0x00090010: ("LO", "VENDOR"), 0x00091001: ("SQ", []), 0x00091002: ("UN", b"?\0")}
    data = dicom(ramp(12), **WINDOW, elements=elements, SpecificCharacterSet="ISO_IR 100")
    data = data.replace(b"ISO_IR 100", b"ISO_IR 999").replace(b"0.15\\0.15 ", b"zero\\0,15 ")
    data = data.replace(b"PHANTOM^TEST", b"\xff\xfe\x1b$B\x80M^TEST")

    image = read_image(data)

    assert np.array_equal(image.pixels, read_image(dicom(ramp(12), **WINDOW)).pixels)
    assert image.spacing_mm is None


def test_decimal_comma_in_a_window() -> None:
    data = dicom(ramp(12), **{**WINDOW, "WindowCenter": "20.5"}).replace(b"20.5", b"20,5")
    assert read_raw(data).window.centre == 20.5


# --- refusals, each with its reason


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares a size and brings one row."""
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    idat = b"IDAT" + zlib.compress(bytes(width + 1))  # the first row
    chunks = [
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (ihdr, idat)
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


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
    return data[: meta(data)] + zeros + body.flush()


PIXELS = ramp(12)
REFUSED: list[tuple[str, Callable[[], bytes], Reason, str]] = [
    ("empty", lambda: b"", Reason.NOT_A_FILM, "empty"),
    ("text", lambda: b"No acute disease.", Reason.NOT_A_FILM, "text"),
    ("PDF", lambda: b"%PDF-1.7\n" + bytes(99), Reason.NOT_A_FILM, "PDF"),
    ("ZIP", lambda: b"PK\x03\x04" + bytes(99), Reason.NOT_A_FILM, "ZIP"),
    ("noise", lambda: bytes(range(255, 0, -1)) * 9, Reason.NOT_A_FILM, "not known"),
    ("TIFF", lambda: encoded(Image.new("L", (64, 64)), "TIFF"), Reason.NOT_A_FILM, "TIFF"),
    ("GIF", lambda: encoded(Image.new("L", (64, 64)), "GIF"), Reason.NOT_A_FILM, "GIF"),
    ("only DICM", lambda: bytes(128) + b"DICM", Reason.NO_PIXELS, "PixelData (7FE0,0010)"),
    ("no pixels", lambda: dicom(PIXELS, PixelData=None), Reason.NO_PIXELS, "PixelData (7FE0,0010)"),
    ("no Rows", lambda: dicom(PIXELS, Rows=None), Reason.BAD_HEADER, "Rows (0028,0010) is missing"),
    ("Columns 0", lambda: dicom(PIXELS, Columns=0), Reason.BAD_HEADER, "Columns (0028,0011) is 0"),
    (
        "icon",
        lambda: dicom(ramp(12, rows=16, columns=16)),
        Reason.TOO_SMALL,
        "Rows (0028,0010) = 16",
    ),
    (
        "small PNG",
        lambda: encoded(Image.new("L", (40, 31)), "PNG"),
        Reason.TOO_SMALL,
        "height = 31",
    ),
    ("huge DICOM", lambda: dicom(PIXELS, Rows=60000, Columns=60000), Reason.TOO_LARGE, "60000"),
    ("huge PNG", lambda: png_header(60000, 60000), Reason.TOO_LARGE, "width = 60000"),
    ("huge stream", bomb_in_a_stream, Reason.BAD_HEADER, "60000 rows"),
    ("deflated bomb", deflated_bomb, Reason.TOO_LARGE, "inflates"),
    ("item bomb", item_bomb, Reason.TOO_LARGE, "more elements"),
    ("nesting bomb", nesting_bomb, Reason.BAD_HEADER, "RecursionError"),
    ("4 samples", lambda: dicom(PIXELS, SamplesPerPixel=4), Reason.UNSUPPORTED, "SamplesPerPixel"),
    ("12 allocated", lambda: dicom(PIXELS, BitsAllocated=12), Reason.UNSUPPORTED, "BitsAllocated"),
    ("HSV", lambda: dicom(PIXELS, PhotometricInterpretation="HSV"), Reason.UNSUPPORTED, "HSV"),
    (
        "palette lost",
        lambda: dicom(PIXELS, PhotometricInterpretation="PALETTE COLOR"),
        Reason.BAD_HEADER,
        "palette",
    ),
    (
        "cut PNG",
        lambda: encoded(Image.fromarray(ramp(8)), "PNG")[:-60],
        Reason.TRUNCATED,
        "cut short",
    ),
    (
        "cut JPEG",
        lambda: encoded(Image.fromarray(ramp(8)), "JPEG")[:-99],
        Reason.TRUNCATED,
        "cut short",
    ),
    ("cut DICOM", lambda: dicom(PIXELS)[:-2000], Reason.TRUNCATED, "PixelData"),
]


@pytest.mark.parametrize(
    ("make", "reason", "words"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_refused_with_a_reason(make: Callable[[], bytes], reason: Reason, words: str) -> None:
    error = refused(make(), name="upload")
    assert error.reason is reason
    assert words in str(error)
    assert str(error).startswith("upload: ")
    assert len(str(error)) < 500


@pytest.mark.parametrize("syntax", [*files.LOSSLESS, files.JPEG_LS_NEAR, files.JPEG_2000])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_streams_are_never_half_a_film(syntax: str, share: float) -> None:
    data = dicom(ramp(12), syntax=syntax, **WINDOW)
    start = data.rindex(b"\xe0\x7f\x10\x00")
    cut = data[: start + int((len(data) - start) * share)]
    assert refused(cut).reason in (Reason.TRUNCATED, Reason.UNDECODABLE)


def test_a_stream_cut_within_a_whole_file() -> None:
    """The items are complete, the codestream in them is not: writers that lost their disk."""
    for name, syntax in (("extended.jpg", files.JPEG_EXTENDED), ("lossless.j2c", files.HTJ2K)):
        dataset_bytes = ready_made_dicom(name, syntax=syntax, **WINDOW)
        stream = files.ready_made(name)
        half = stream[: len(stream) // 2] + bytes(len(stream) - len(stream) // 2)
        error = refused(dataset_bytes.replace(stream, half))
        assert error.reason in (Reason.TRUNCATED, Reason.UNDECODABLE)


def test_colour_that_its_decoder_has_no_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    grey = ramp(8)
    colour = dicom(
        np.stack([grey] * 3, -1),
        syntax=files.JPEG_2000_LOSSLESS,
        PhotometricInterpretation="RGB",
        BitsStored=8,
        HighBit=7,
    )
    read_image(colour)
    monkeypatch.setattr("encoders.dicom_pixels._MOST_SAMPLES", 2 * grey.size)
    assert refused(colour).reason is Reason.TOO_LARGE
    read_image(dicom(grey, syntax=files.JPEG_2000_LOSSLESS))


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    assert refused(tmp_path / "nothing.dcm").reason is Reason.FILE
    assert refused(tmp_path).reason is Reason.FILE
    assert refused(Path("a\0b")).reason is Reason.FILE
    os.mkfifo(tmp_path / "pipe")
    assert refused(tmp_path / "pipe").reason is Reason.FILE
    sparse = tmp_path / "large.dcm"
    with sparse.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert refused(sparse).reason is Reason.TOO_LARGE


def test_the_error_crosses_process_borders() -> None:
    error = refused(b"")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (str(copy), copy.reason) == (str(error), error.reason)


def test_limits_are_a_films() -> None:
    assert MIN_SIDE < 64
    assert MAX_PIXELS > 4300 * 4300  # 43 cm at 0.1 mm


# --- pictures


def test_png_and_jpeg_depths() -> None:
    grey = ramp(8)
    expected = grey / 255
    image = Image.fromarray(grey)
    exact = [
        encoded(image, "PNG"),
        encoded(image.convert("RGB"), "PNG"),
        encoded(image.convert("RGBA"), "PNG"),
        encoded(image.convert("LA"), "PNG"),
        encoded(image.quantize(256), "PNG"),
        encoded(Image.fromarray(ramp(16)), "PNG"),
    ]
    for data in exact:
        assert np.abs(read_image(data).pixels - expected).max() <= 1 / 255 + 1e-6
    lossy = [
        encoded(image, "JPEG", quality=100),
        encoded(image.convert("RGB"), "JPEG", quality=100),
        encoded(image.convert("CMYK"), "JPEG", quality=100),
        encoded(image, "JPEG", quality=100, progressive=True),
    ]
    for data in lossy:
        picture = read_image(data)
        assert np.abs(picture.pixels - expected).max() <= 2 / 255
        assert (picture.view, picture.spacing_mm, picture.modality) == (View.UNKNOWN, None, "")


def test_a_12_bit_film_in_a_16_bit_png_is_not_black() -> None:
    image = read_image(encoded(Image.fromarray(ramp(12)), "PNG"))
    assert image.pixels.max() == 1
    assert any("16-bit PNG" in warning for warning in image.warnings)


def test_transparent_is_black() -> None:
    layered = np.dstack([np.full((64, 64), 255, np.uint8), np.zeros((64, 64), np.uint8)])
    layered[:32, :, 1] = 255
    image = read_image(encoded(Image.fromarray(layered, "LA"), "PNG"))
    assert image.pixels[:32].min() == 1
    assert image.pixels[32:].max() == 0
    assert any("transparent" in warning for warning in image.warnings)


def test_exif_orientation_turns_a_jpeg_upright() -> None:
    grey = ramp(8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    data = encoded(Image.fromarray(np.rot90(grey)), "JPEG", quality=100, exif=exif)
    assert np.abs(read_image(data).pixels - grey / 255).max() <= 2 / 255


def test_colour_is_said() -> None:
    colour = Image.merge(
        "RGB", [Image.fromarray(layer) for layer in (ramp(8), 255 - ramp(8), ramp(8))]
    )
    assert any("colour" in warning for warning in read_image(encoded(colour, "PNG")).warnings)
    assert read_image(encoded(Image.fromarray(ramp(8)).convert("RGB"), "PNG")).warnings == ()


def test_several_colours_are_told_from_one_tint() -> None:
    grey = ramp(8).astype(float)
    yellow = np.stack([grey, 0.9 * grey, 0.5 * grey + 20], axis=2).astype(np.uint8)
    rows, columns = np.indices(grey.shape)
    cat = np.stack([grey, 255 * rows / rows.max(), 255 * (columns % 2)], axis=2).astype(np.uint8)
    tinted = read_image(encoded(Image.fromarray(yellow), "PNG")).warnings
    assert tinted == ("a colour image: its luminance is used",)
    assert read_image(encoded(Image.fromarray(cat), "PNG")).warnings == (COLOURFUL,)


def test_a_constant_picture_is_read_and_said() -> None:
    assert BLANK in read_image(encoded(Image.new("L", (64, 64), 90), "PNG")).warnings


# --- any bytes at all


def _seeds() -> list[bytes]:
    films = [
        dicom(ramp(12), syntax=syntax, **WINDOW)
        for syntax in (*files.UNCOMPRESSED, *files.LOSSLESS)
    ]
    films += [dicom(ramp(12), syntax=syntax, **WINDOW) for syntax in files.LOSSY]
    films += [ready_made_dicom("extended.jpg", syntax=files.JPEG_EXTENDED)]
    films += [dicom(ramp(8), syntax=files.JPEG_BASELINE)]
    lut = files.lut_item(np.arange(4096), first=0, bits=12)
    films += [dicom(ramp(12), BitsStored=12, VOILUTSequence=[lut], ModalityLUTSequence=[lut])]
    picture = Image.fromarray(ramp(8))
    return [
        *films,
        encoded(picture, "PNG"),
        encoded(picture, "JPEG"),
        encoded(picture.convert("CMYK"), "JPEG"),
    ]


SEEDS = _seeds()


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A film with some bytes changed, cut, or put in; half of the time in its header."""
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


def film_or_error(data: bytes) -> None:
    try:
        image = read_image(data)
    except ImageReadError as error:
        assert "not foreseen" not in str(error), error
    else:
        assert image.pixels.dtype == np.float32
        assert image.pixels.ndim == 2
        assert 0 <= image.pixels.min() <= image.pixels.max() <= 1  # False for NaN too
    with contextlib.suppress(ImageReadError):
        read_header_identity(data)


@settings(max_examples=400, deadline=5000, suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_mutated_films_give_a_film_or_the_error(data: bytes) -> None:
    film_or_error(data)


@settings(max_examples=200, deadline=5000)
@given(
    st.binary(max_size=600),
    st.sampled_from([b"", bytes(128) + b"DICM", b"\x08\0", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"]),
)
def test_random_bytes_give_the_error(data: bytes, start: bytes) -> None:
    film_or_error(start + data)


# --- the shared films


def manifest() -> list[dict[str, Any]]:
    path = DATA / "dicom" / "manifest.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.skipif(
    not manifest(), reason="no shared films: CXR_DATA names no folder with dicom/manifest.jsonl"
)
def test_shared_films_give_what_their_manifest_says() -> None:
    for entry in manifest():
        path = DATA / "dicom" / entry["file"]
        if not entry["decode"].startswith("ok") or entry["rows"] < MIN_SIDE:
            assert refused(path).reason in (Reason.UNDECODABLE, Reason.NO_PIXELS, Reason.TOO_SMALL)
            continue
        image, raw = read_image(path), read_raw(path)
        assert image.pixels.shape == (entry["rows"], entry["cols"]), entry["file"]
        assert image.modality == entry["modality"]
        assert image.body_part == entry["body_part"]
        assert image.view.value == (entry["view"] if entry["view"] in ("PA", "AP") else "UNKNOWN")
        assert image.pixels.max() > 0.8
        assert image.pixels.std() > 0.05, "no contrast"
        if not entry["has_modality_lut_seq"]:
            _, dtype, _, low, _, high = entry["decode"].split()[0:6]
            values = raw.codes * raw.slope + raw.intercept
            # another decoder's DCT may round the last bit otherwise
            assert abs(values.min() - int(low)) <= 1, (entry["file"], dtype)
            assert abs(values.max() - int(high)) <= 1, (entry["file"], dtype)


@pytest.mark.skipif(
    not manifest(), reason="no shared films: CXR_DATA names no folder with dicom/manifest.jsonl"
)
def test_one_shared_film_is_the_same_in_every_transfer_syntax() -> None:
    derived = sorted((DATA / "dicom" / "derived").glob("test3_*.dcm"))
    assert len(derived) >= 6
    films = [read_image(path).pixels for path in derived]
    for film in films[1:]:
        assert np.abs(film - films[0]).max() <= 1 / 255 + 1e-6
