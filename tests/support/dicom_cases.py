"""The golden table: images and what they must look like, by the standard's own formulas.

Expected values are written down or computed here by a scalar transcription of DICOM PS3.3, never by
the code under test. tests/test_encoders_dicom_golden.py reads every case through every transfer
syntax that can carry it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from support import dicom_files as files
from support.dicom_files import dicom, lut_item, ramp

Floats = NDArray[np.float64]
TOLERANCE = 1 / 255 + 1e-6  # one grey value of a screen, and float32 rounding


# PS3.3 C.11.2.1.2.1, C.11.2.1.3.1, C.11.2.1.3.2, with ymin 0 and ymax 1


def linear(x: float, c: float, w: float) -> float:
    if x <= c - 0.5 - (w - 1) / 2:
        return 0.0
    if x > c - 0.5 + (w - 1) / 2:
        return 1.0
    return (x - (c - 0.5)) / (w - 1) + 0.5


def linear_exact(x: float, c: float, w: float) -> float:
    if x <= c - w / 2:
        return 0.0
    if x > c + w / 2:
        return 1.0
    return (x - c) / w + 0.5


def sigmoid(x: float, c: float, w: float) -> float:
    return 1 / (1 + math.exp(-4 * (x - c) / w))


def lut(x: float, first: int, entries: NDArray[Any], top: float) -> float:
    index = min(max(int(x) - first, 0), len(entries) - 1)
    return float(entries[index]) / top


def percentiles(x: NDArray[Any], visible: NDArray[np.bool_] | None = None) -> Floats:
    """From the value with 0.5 % of the pixels at or below it, to that with 99.5 %."""
    ordered = np.sort(x.reshape(-1) if visible is None else x[visible]).astype(float)
    low = ordered[math.ceil(len(ordered) * 0.005) - 1]
    high = ordered[math.ceil(len(ordered) * 0.995) - 1]
    return np.clip((x - low) / (high - low), 0, 1)


def per_pixel(x: NDArray[Any], formula: Callable[..., float], *args: Any) -> Floats:
    return np.array([[formula(float(value), *args) for value in row] for row in x])


@dataclass(frozen=True)
class Case:
    name: str
    stored: NDArray[Any]
    expected: Floats
    attributes: dict[str, Any] = field(default_factory=dict)
    warning: str = ""
    syntaxes: tuple[str, ...] = (*files.UNCOMPRESSED, *files.LOSSLESS)
    tolerance: float = TOLERANCE


WITH_RLE = (*files.UNCOMPRESSED, files.RLE)
RAMP8, RAMP10, RAMP12, RAMP15, RAMP16 = (ramp(bits) for bits in (8, 10, 12, 15, 16))
SIGNED12, SIGNED16 = ramp(12, signed=True), ramp(16, signed=True)
FULL_WINDOW = {"BitsStored": 12, "WindowCenter": 2048, "WindowWidth": 4096}
EXPECTED12 = per_pixel(RAMP12, linear, 2048, 4096)


def _depths() -> list[Case]:
    def window(bits: int) -> dict[str, Any]:
        return {"WindowCenter": 1 << (bits - 1), "WindowWidth": 1 << bits, "BitsStored": bits}

    high = (RAMP12 << 4).astype(np.uint16)
    dirty = RAMP12 | np.uint16(0xA000)
    r32 = ramp(32)
    bits1 = (np.indices((48, 64)).sum(axis=0) // 8 % 2).astype(np.uint8)
    packed = {
        "BitsAllocated": 1,
        "BitsStored": 1,
        "HighBit": 0,
        "PixelData": np.packbits(bits1, bitorder="little").tobytes(),
    }
    signed12 = (SIGNED12.view(np.uint16) & np.uint16(0xFFF)).astype(np.uint16)  # no sign extension
    signed = {"PixelRepresentation": 1, "WindowCenter": 0, "WindowWidth": 4096}
    no_jpeg_ls = tuple(s for s in files.LOSSLESS if s != files.JPEG_LS)  # 12 bits of precision
    return [
        Case("8 bits", RAMP8, per_pixel(RAMP8, linear, 128, 256), window(8)),
        Case("10 bits", RAMP10, per_pixel(RAMP10, linear, 512, 1024), window(10)),
        Case(
            "12 bits",
            RAMP12,
            EXPECTED12,
            FULL_WINDOW,
            syntaxes=(*files.UNCOMPRESSED, *files.LOSSLESS, *files.LOSSY),
        ),
        Case("15 bits", RAMP15, per_pixel(RAMP15, linear, 16384, 32768), window(15)),
        Case("16 bits", RAMP16, per_pixel(RAMP16, linear, 32768, 65536), window(16)),
        Case(
            "32 bits",
            r32,
            per_pixel(r32, linear, 2**31, 2**32),
            {"WindowCenter": 2**31, "WindowWidth": "4294967296"},
            # not big endian: readers differ in the order of its 16-bit words
            syntaxes=files.UNCOMPRESSED[:3],
        ),
        Case("1 bit", bits1, bits1.astype(float), packed, "no usable window", files.UNCOMPRESSED),
        Case(
            "HighBit 15 of 12", high, EXPECTED12, {**FULL_WINDOW, "HighBit": 15}, syntaxes=WITH_RLE
        ),
        Case("bits beyond BitsStored", dirty, EXPECTED12, FULL_WINDOW, syntaxes=WITH_RLE),
        Case(
            "signed 16 bits",
            SIGNED16,
            per_pixel(SIGNED16, linear, 0, 65536),
            {"WindowCenter": 0, "WindowWidth": 65536},
        ),
        Case(
            "signed 12 of 16 bits",
            signed12,
            per_pixel(SIGNED12, linear, 0, 4096),
            {**signed, "BitsStored": 12},
            syntaxes=(*files.UNCOMPRESSED, *no_jpeg_ls, files.JPEG_LS),
        ),
        Case(
            "signed, sign extended",
            SIGNED12,
            per_pixel(SIGNED12, linear, 0, 4096),
            {**signed, "BitsStored": 12},
            syntaxes=(*WITH_RLE, files.JPEG_2000_LOSSLESS),
        ),
    ]


def _windows() -> list[Case]:
    def case(name: str, expected: Floats, warning: str = "", **attributes: Any) -> Case:
        return Case(name, RAMP12, expected, {"BitsStored": 12, **attributes}, warning)

    return [
        case(
            "narrow window",
            per_pixel(RAMP12, linear, 1500, 800),
            WindowCenter=1500,
            WindowWidth=800,
        ),
        case(
            "LINEAR_EXACT",
            per_pixel(RAMP12, linear_exact, 1500, 800),
            WindowCenter=1500,
            WindowWidth=800,
            VOILUTFunction="LINEAR_EXACT",
        ),
        case(
            "SIGMOID",
            per_pixel(RAMP12, sigmoid, 2000, 1500),
            WindowCenter=2000,
            WindowWidth=1500,
            VOILUTFunction="SIGMOID",
        ),
        case(
            "several windows",
            per_pixel(RAMP12, linear, 2000, 1000),
            "2 windows in the file: the first is used (centre 2000, width 1000)",
            WindowCenter=[2000, 500],
            WindowWidth=[1000, 300],
        ),
        case("no window", percentiles(RAMP12), "no usable window"),
        case(
            "empty window",
            percentiles(RAMP12),
            "no usable window",
            WindowCenter="",
            WindowWidth="",
        ),
        case(
            "window of width 0",
            percentiles(RAMP12),
            "WindowWidth (0028,1051) = 0",
            WindowCenter=2048,
            WindowWidth=0,
        ),
        case(
            "window of width 1",
            percentiles(RAMP12),
            "nearly black, white or flat",
            WindowCenter=2048,
            WindowWidth=1,
        ),
        case(
            "window above the image",
            percentiles(RAMP12),
            "nearly black, white or flat",
            WindowCenter=50000,
            WindowWidth=2000,
        ),
        case(
            "16-bit window on a 12-bit image",
            percentiles(RAMP12),
            "nearly black, white or flat",
            WindowCenter=32768,
            WindowWidth=65535,
        ),
    ]


def _luts() -> list[Case]:
    squares = np.rint(np.arange(4096) ** 2 / 4095).astype(np.uint16)  # 0 ... 4095
    shown = per_pixel(RAMP12, lut, 0, squares, 4095)
    bright = np.rint(255 * np.sqrt(np.arange(4096) / 4095)).astype(np.uint16)
    part = np.linspace(0, 1023, 2000).astype(np.uint16)
    full = np.rint(65535 * np.linspace(1, 0, 65536)).astype(np.uint16)
    curve = {"BitsStored": 12}
    after_squares = {"WindowCenter": 2048, "WindowWidth": 4096}
    signed_first = np.rint(np.linspace(0, 4095, 4096)).astype(np.uint16)
    return [
        Case(
            "rescale, window in its units",
            RAMP12,
            per_pixel(RAMP12 * 0.5 - 100, linear, 800, 1200),
            {
                **curve,
                "RescaleSlope": "0.5",
                "RescaleIntercept": -100,
                "WindowCenter": 800,
                "WindowWidth": 1200,
            },
        ),
        Case(
            "negative slope",
            RAMP12,
            per_pixel(4095.0 - RAMP12, linear, 2048, 4096),
            {**FULL_WINDOW, "RescaleSlope": -1, "RescaleIntercept": 4095},
        ),
        Case(
            "intercept without slope",
            RAMP12,
            per_pixel(RAMP12 - 50.0, linear, 2048, 4096),
            {**FULL_WINDOW, "RescaleIntercept": -50},
        ),
        Case(
            "modality LUT",
            RAMP12,
            per_pixel(per_pixel(RAMP12, lut, 0, squares, 1.0), linear, 2048, 4096),
            {
                **curve,
                **after_squares,
                "ModalityLUTSequence": [lut_item(squares, first=0, bits=12)],
            },
        ),
        Case(
            "modality LUT beats rescale",
            RAMP12,
            per_pixel(per_pixel(RAMP12, lut, 0, squares, 1.0), linear, 2048, 4096),
            {
                **curve,
                **after_squares,
                "RescaleSlope": 1,
                "RescaleIntercept": 0,
                "ModalityLUTSequence": [lut_item(squares, first=0, bits=12)],
            },
        ),
        Case(
            "modality LUT, negative first value",
            SIGNED12,
            per_pixel(SIGNED12 + 2048.0, linear, 2048, 4096),
            {
                **after_squares,
                "BitsStored": 12,
                "ModalityLUTSequence": [lut_item(signed_first, first=-2048, bits=12)],
            },
            syntaxes=(*WITH_RLE, files.JPEG_2000_LOSSLESS),
        ),
        Case(
            "VOI LUT",
            RAMP12,
            shown,
            {**curve, "VOILUTSequence": [lut_item(squares, first=0, bits=12)]},
        ),
        Case(
            "VOI LUT beats window",
            RAMP12,
            shown,
            {**FULL_WINDOW, "VOILUTSequence": [lut_item(squares, first=0, bits=12)]},
        ),
        Case(
            "VOI LUT of 8 bits in words",
            RAMP12,
            per_pixel(RAMP12, lut, 0, bright, 255),
            {**curve, "VOILUTSequence": [lut_item(bright, first=0, bits=8)]},
        ),
        Case(
            "VOI LUT of 8 bits in bytes",
            RAMP12,
            per_pixel(RAMP12, lut, 0, bright, 255),
            {**curve, "VOILUTSequence": [_byte_lut(bright)]},
            syntaxes=(files.IMPLICIT, files.EXPLICIT, files.DEFLATED, *files.LOSSLESS),
        ),
        Case(
            "VOI LUT over a part",
            RAMP12,
            per_pixel(RAMP12, lut, 1000, part, 1023),
            {**curve, "VOILUTSequence": [lut_item(part, first=1000, bits=10)]},
        ),
        Case(
            "VOI LUT of 65536 entries",
            RAMP16,
            per_pixel(RAMP16, lut, 0, full, 65535),
            {"VOILUTSequence": [lut_item(full, first=0, bits=16)]},
        ),
        Case(
            "VOI LUT that says 16 bits and means 12",
            RAMP12,
            shown,
            {**curve, "VOILUTSequence": [lut_item(squares, first=0, bits=16)]},
        ),
        Case(
            "two VOI LUTs",
            RAMP12,
            shown,
            {
                **curve,
                "VOILUTSequence": [
                    lut_item(squares, first=0, bits=12),
                    lut_item(bright, first=0, bits=8),
                ],
            },
            "2 VOI LUTs in the file: the first is used",
        ),
    ]


def _byte_lut(entries: NDArray[Any]) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries), 0, 8]
    item.add_new("LUTData", "OW", entries.astype(np.uint8).tobytes())
    return item


def _polarity() -> list[Case]:
    def case(photometric: str, shape: str | None, *, inverted: bool, warning: str = "") -> Case:
        attributes = {**FULL_WINDOW, "PhotometricInterpretation": photometric}
        if shape is not None:
            attributes["PresentationLUTShape"] = shape
        expected = 1 - EXPECTED12 if inverted else EXPECTED12
        return Case(f"{photometric} {shape}", RAMP12, expected, attributes, warning)

    return [
        case("MONOCHROME1", None, inverted=True),
        case("MONOCHROME1", "INVERSE", inverted=True),
        case("MONOCHROME1", "IDENTITY", inverted=True, warning="PresentationLUTShape"),
        case("MONOCHROME2", "IDENTITY", inverted=False),
        case("MONOCHROME2", "INVERSE", inverted=True, warning="PresentationLUTShape"),
        Case(
            "no photometric interpretation",
            RAMP12,
            EXPECTED12,
            {**FULL_WINDOW, "PhotometricInterpretation": None},
            "MONOCHROME2 assumed",
        ),
        Case(
            "photometric MONOCHROME",
            RAMP12,
            EXPECTED12,
            {**FULL_WINDOW, "PhotometricInterpretation": "MONOCHROME"},
            "MONOCHROME2 assumed",
        ),
        Case(
            "MONOCHROME1 with SIGMOID",
            RAMP12,
            1 - per_pixel(RAMP12, sigmoid, 2000, 1500),
            {
                "BitsStored": 12,
                "PhotometricInterpretation": "MONOCHROME1",
                "WindowCenter": 2000,
                "WindowWidth": 1500,
                "VOILUTFunction": "SIGMOID",
            },
        ),
        Case(
            "MONOCHROME1 without a window",
            RAMP12,
            1 - percentiles(RAMP12),
            {"BitsStored": 12, "PhotometricInterpretation": "MONOCHROME1"},
            "no usable window",
        ),
        Case(
            "FOR PROCESSING",
            RAMP12,
            percentiles(RAMP12),
            {"BitsStored": 12, "PresentationIntentType": "FOR PROCESSING"},
            "FOR PROCESSING",
        ),
    ]


def _masks() -> list[Case]:
    frame = np.zeros((48, 64), bool)
    frame[:6] = frame[-6:] = frame[:, :6] = frame[:, -6:] = True
    padded = np.where(frame, np.uint16(4095), np.minimum(RAMP12, 2000)).astype(np.uint16)
    inside = percentiles(padded, ~frame)
    signed = np.where(frame, np.int16(-2000), SIGNED12 // 4).astype(np.int16)
    row, column = np.indices((48, 64)) + 1
    rectangle = (row < 5) | (row > 40) | (column < 9) | (column > 60)
    circle = (row - 24) ** 2 + (column - 32) ** 2 > 20**2
    triangle = ((column - 1) < (row - 1)) | ((column - 1) > 47)
    polygon = [1, 1, 1, 48, 48, 48]
    window = {"BitsStored": 12, "WindowCenter": 1000, "WindowWidth": 2000}

    def black(where: NDArray[np.bool_], shown: Floats) -> Floats:
        return np.where(where, 0.0, shown)

    def case(name: str, stored: NDArray[Any], expected: Floats, **attributes: Any) -> Case:
        warning = "" if "WindowWidth" in attributes else "no usable window"
        return Case(name, stored, expected, {"BitsStored": 12, **attributes}, warning)

    signed_syntaxes = (*WITH_RLE, files.JPEG_2000_LOSSLESS)
    return [
        case("padding, no window", padded, black(frame, inside), PixelPaddingValue=4095),
        case(
            "padding, MONOCHROME1",
            padded,
            black(frame, 1 - inside),
            PixelPaddingValue=4095,
            PhotometricInterpretation="MONOCHROME1",
        ),
        case(
            "padding and window",
            padded,
            black(frame, per_pixel(padded, linear, 1000, 2000)),
            PixelPaddingValue=4095,
            **window,
        ),
        case(
            "padding range",
            padded,
            black(padded >= 1500, percentiles(padded, padded < 1500)),
            PixelPaddingValue=4095,
            PixelPaddingRangeLimit=1500,
        ),
        Case(
            "signed padding",
            signed,
            black(frame, percentiles(signed, ~frame)),
            {"BitsStored": 12, "PixelPaddingValue": -2000},
            "no usable window",
            signed_syntaxes,
        ),
        case(
            "rectangular shutter",
            RAMP12,
            black(rectangle, EXPECTED12),
            **FULL_WINDOW,
            ShutterShape="RECTANGULAR",
            ShutterLeftVerticalEdge=9,
            ShutterRightVerticalEdge=60,
            ShutterUpperHorizontalEdge=5,
            ShutterLowerHorizontalEdge=40,
        ),
        case(
            "circular shutter, MONOCHROME1",
            RAMP12,
            black(circle, 1 - EXPECTED12),
            **FULL_WINDOW,
            PhotometricInterpretation="MONOCHROME1",
            ShutterShape="CIRCULAR",
            CenterOfCircularShutter=[24, 32],
            RadiusOfCircularShutter=20,
        ),
        case(
            "polygonal shutter",
            RAMP12,
            black(triangle, EXPECTED12),
            **FULL_WINDOW,
            ShutterShape="POLYGONAL",
            VerticesOfThePolygonalShutter=polygon,
        ),
        case(
            "two shutters",
            RAMP12,
            black(rectangle | circle, EXPECTED12),
            **FULL_WINDOW,
            ShutterShape=["RECTANGULAR", "CIRCULAR"],
            ShutterLeftVerticalEdge=9,
            ShutterRightVerticalEdge=60,
            ShutterUpperHorizontalEdge=5,
            ShutterLowerHorizontalEdge=40,
            CenterOfCircularShutter=[24, 32],
            RadiusOfCircularShutter=20,
        ),
    ]


def _colours() -> list[Case]:
    rgb = np.stack([RAMP8, 255 - RAMP8, RAMP8 // 2], axis=-1).astype(np.uint8)
    luminance = (rgb @ np.array([0.299, 0.587, 0.114])) / 255
    rgb16 = rgb.astype(np.uint16) * 257
    planar = {"PlanarConfiguration": 1, "PixelData": rgb.transpose(2, 0, 1).tobytes()}
    ybr = np.stack([RAMP8, np.full_like(RAMP8, 100), np.full_like(RAMP8, 180)], axis=-1)
    half = np.stack(
        [RAMP8[:, ::2], RAMP8[:, 1::2], RAMP8[:, ::2] * 0 + 90, RAMP8[:, ::2] * 0 + 70], axis=-1
    )
    packed = {"PhotometricInterpretation": "YBR_FULL_422", "PixelData": half.tobytes()}
    reds = np.arange(256, dtype=np.uint16) * 257
    palette: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, table in (("Red", reds), ("Green", reds[::-1]), ("Blue", reds // 2)):
        palette[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        palette[f"{name}PaletteColorLookupTableData"] = table.astype("<u2").tobytes()
    coloured = (0.299 * reds + 0.587 * reds[::-1] + 0.114 * (reds // 2))[RAMP8] / 65535
    colour = "a colour image"
    with_streams = (*files.UNCOMPRESSED, files.RLE, files.JPEG_LS, files.JPEG_2000_LOSSLESS)
    ybr_jpeg = {"PhotometricInterpretation": "YBR_FULL_422"}
    return [
        Case("RGB", rgb, luminance, {}, colour, with_streams),
        Case("RGB of 16 bits", rgb16, luminance, {}, colour, WITH_RLE),
        Case("RGB by plane", rgb, luminance, planar, colour, files.UNCOMPRESSED),
        Case(
            "YBR_FULL",
            ybr,
            RAMP8 / 255,
            {"PhotometricInterpretation": "YBR_FULL"},
            colour,
            with_streams,
        ),
        Case("YBR_FULL_422", ybr, RAMP8 / 255, packed, colour, files.UNCOMPRESSED),
        # Lossy: Y is rounded when RGB is converted, and again by the DCT
        Case(
            "YBR_FULL_422 as JPEG",
            rgb,
            luminance,
            ybr_jpeg,
            colour,
            (files.JPEG_BASELINE,),
            1.5 * TOLERANCE,
        ),
        Case(
            "PALETTE COLOR", RAMP8, coloured, palette, colour, (*files.UNCOMPRESSED[:3], files.RLE)
        ),
        Case(
            "8 bits as JPEG",
            RAMP8,
            per_pixel(RAMP8, linear, 128, 256),
            {"WindowCenter": 128, "WindowWidth": 256},
            syntaxes=(files.JPEG_BASELINE,),
        ),
    ]


def _oddities() -> list[Case]:
    frames = np.stack([RAMP12, RAMP12[::-1], RAMP12 // 2])
    overlay = {0x60000010: ("US", 48), 0x60000011: ("US", 64), 0x60000040: ("CS", "G")}
    return [
        Case(
            "three frames",
            frames,
            EXPECTED12,
            FULL_WINDOW,
            "3 frames in the file: the first is shown",
        ),
        Case("NumberOfFrames empty", RAMP12, EXPECTED12, {**FULL_WINDOW, "NumberOfFrames": ""}),
        Case(
            "no PixelRepresentation",
            RAMP12,
            EXPECTED12,
            {**FULL_WINDOW, "PixelRepresentation": None},
            syntaxes=files.UNCOMPRESSED[1:],
        ),
        Case("no HighBit", RAMP12, EXPECTED12, {**FULL_WINDOW, "HighBit": None}),
        Case("no SamplesPerPixel", RAMP12, EXPECTED12, {**FULL_WINDOW, "SamplesPerPixel": None}),
        Case("overlay", RAMP12, EXPECTED12, {**FULL_WINDOW, "elements": overlay}, "an overlay"),
        Case(
            "unknown VOI LUT function",
            RAMP12,
            EXPECTED12,
            {**FULL_WINDOW, "VOILUTFunction": "CUBIC"},
            "LINEAR assumed",
        ),
        Case(
            "RescaleSlope 0",
            RAMP12,
            EXPECTED12,
            {**FULL_WINDOW, "RescaleSlope": 0, "RescaleIntercept": 0},
            "RescaleSlope",
        ),
        Case(
            "constant, with a window",
            np.full((48, 64), 1024, np.uint16),
            per_pixel(np.full((48, 64), 1024), linear, 2048, 4096),
            FULL_WINDOW,
            "every pixel has the same value",
        ),
        Case(
            "constant, without a window",
            np.full((48, 64), 1024, np.uint16),
            np.zeros((48, 64)),
            {"BitsStored": 12},
            "every pixel has the same value",
        ),
        Case(
            "constant, MONOCHROME1",
            np.full((48, 64), 1024, np.uint16),
            np.zeros((48, 64)),
            {"BitsStored": 12, "PhotometricInterpretation": "MONOCHROME1"},
            "every pixel has the same value",
        ),
    ]


CASES = [
    *_depths(),
    *_windows(),
    *_luts(),
    *_polarity(),
    *_masks(),
    *_colours(),
    *_oddities(),
]


def build(case: Case, syntax: str) -> bytes:
    """The case as a DICOM file."""
    return dicom(case.stored, syntax=syntax, **case.attributes)
