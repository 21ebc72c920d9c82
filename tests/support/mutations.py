"""Damaged files for `tests/fuzz.py`: seeds that our readers accept, and edits of them.

Hypothesis draws the edits as data, so that a seed reproduces a run and a failure shrinks to few
edits. They aim at element headers, chunk starts and separators. Edited PNG chunks get new
checksums, or hardly any would pass the first check.
"""

import io
import json
import random
import re
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from hypothesis import strategies as st
from PIL import Image
from support.dicom_files import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    HTJ2K_LOSSLESS,
    IMPLICIT,
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    JPEG_LS_NEAR,
    RLE,
    dicom,
    lut_item,
    ramp,
    ready_made_dicom,
)

Edit = tuple[str, int, int, int]
"""Name of an edit in `_EDITS`, position, amount and value."""

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_TOKENS = (
    *(b'"', b"'", b",", b";", b"\t", b"\r", b"\n", b"\0", b"{", b"}", b"[", b"]", b":", b"\\"),
    *(b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-1", b"0.5", b"[]", b"{}", b'""'),
    *(b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3", b"\\ud800", b"\xed\xa0\x80", "\u2028".encode()),
    *(b"[" * 50_000, b'{"a":' * 50_000, b"9" * 10_000, b"A" * 200_000, b"\n" * 20_000),
    *(b"../../../etc/passwd", b"/dev/zero", b"2026-02-30", b"<!DOCTYPE x>", b"&lol;"),
)


def edits() -> st.SearchStrategy[list[Edit]]:
    """One to four edits."""
    number = st.integers(0, 0xFFFF)
    return st.lists(
        st.tuples(st.sampled_from(sorted(_EDITS)), number, number, number), min_size=1, max_size=4
    )


def apply_edits(kind: str, seed: bytes, edits: list[Edit]) -> bytes:
    """A seed with edits."""
    data = bytearray(seed)
    landmarks = list(_landmarks(kind, seed)) or [0]
    for name, where, amount, value in edits:
        if data:
            position = where * len(data) >> 16
            if where & 3:  # three of four edits are at a landmark or shortly after it
                position = landmarks[where % len(landmarks)] + (amount & 7)
            _EDITS[name](data, min(position, len(data) - 1), amount, value)
    del data[4 << 20 :]
    return _fix_checksums(bytes(data)) if kind == "PNG" else bytes(data)


def _flip(data: bytearray, position: int, _: int, value: int) -> None:
    data[position] ^= 1 << (value & 7)


def _byte(data: bytearray, position: int, _: int, value: int) -> None:
    data[position] = value & 0xFF


def _number(data: bytearray, position: int, amount: int, value: int) -> None:
    """An extreme number of one, two or four bytes in either order."""
    size = (1, 2, 4)[amount % 3]
    number = _NUMBERS[value % len(_NUMBERS)] & ((1 << 8 * size) - 1)
    data[position : position + size] = number.to_bytes(size, "big" if value & 0x100 else "little")


def _cut(data: bytearray, position: int, amount: int, _: int) -> None:
    del data[position : position + 1 + amount % 300]


def _repeat(data: bytearray, position: int, amount: int, value: int) -> None:
    part = bytes(data[position : position + 1 + amount % 300])
    data[position:position] = part * (1 << value % 12)


def _noise(data: bytearray, position: int, amount: int, value: int) -> None:
    data[position:position] = random.Random(value).randbytes(1 + amount % 64)  # noqa: S311


def _overwrite(data: bytearray, position: int, amount: int, value: int) -> None:
    part = random.Random(value).randbytes(1 + amount % 64)  # noqa: S311
    data[position : position + len(part)] = part


def _truncate(data: bytearray, position: int, _: int, __: int) -> None:
    del data[position + 1 :]


def _move(data: bytearray, position: int, amount: int, value: int) -> None:
    size, to = 1 + amount % 300, value * len(data) >> 16
    part = bytes(data[position : position + size])
    data[to : to + size] = part


def _token(data: bytearray, position: int, amount: int, value: int) -> None:
    token = _TOKENS[value % len(_TOKENS)]
    data[position : position + (amount % 16 if amount & 0x100 else 0)] = token


_EDITS: dict[str, Callable[[bytearray, int, int, int], None]] = {
    "flip": _flip,
    "byte": _byte,
    "number": _number,
    "cut": _cut,
    "repeat": _repeat,
    "noise": _noise,
    "overwrite": _overwrite,
    "truncate": _truncate,
    "move": _move,
    "token": _token,
}

_LANDMARKS = {
    "DICOM": re.compile(
        rb"[\x02\x08\x18\x20\x28\x40\x88\x54]\x00.\x00|\xe0\x7f\x10|\xfe\xff|\xff.", re.S
    ),
    "PNG": re.compile(rb"....(?:IHDR|PLTE|IDAT|IEND|tRNS|acTL|iCCP|zTXt)", re.S),
    "JPEG": re.compile(rb"\xff[\xc0-\xfe]"),
}
_TEXT_LANDMARKS = re.compile(rb"[,;:{}\[\]\"\n<>]")


def _landmarks(kind: str, seed: bytes) -> Iterator[int]:
    """Positions to edit, without the signature, which random positions hit often enough."""
    first = {"DICOM": 132, "PNG": 8, "JPEG": 2}.get(kind, 0)
    return (match.start() for match in _LANDMARKS.get(kind, _TEXT_LANDMARKS).finditer(seed, first))


def _fix_checksums(data: bytes) -> bytes:
    """A PNG with correct checksums, up to the first chunk that is cut."""
    out, position = [data[:8]], 8
    while position + 12 <= len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        if position + 12 + size > len(data):
            break
        body = data[position + 4 : position + 8 + size]
        out.append(data[position : position + 4] + body + struct.pack(">I", zlib.crc32(body)))
        position += 12 + size
    return b"".join([*out, data[position:]])


def seeds(kind: str) -> list[bytes]:
    """Undamaged files, which are accepted."""
    return _SEEDS[kind]()


def _dicom() -> list[bytes]:
    image = ramp(12, rows=48, columns=64)
    grey = ramp(8, rows=48, columns=64)
    plain = (IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN, RLE, JPEG_LOSSLESS, JPEG_LOSSLESS_SV1)
    coded = (JPEG_LS, JPEG_LS_NEAR, JPEG_2000_LOSSLESS, JPEG_2000)
    entries = np.linspace(0, 4095, 256).astype(np.uint16)
    table = [lut_item(entries, first=0, bits=12)]
    return [
        *(dicom(image, syntax=syntax, BitsStored=12) for syntax in (*plain, *coded)),
        dicom(grey, syntax=JPEG_BASELINE),
        ready_made_dicom("extended.jpg", syntax=JPEG_EXTENDED),
        ready_made_dicom("lossless.j2c", syntax=HTJ2K_LOSSLESS),
        dicom(image, BitsStored=12, WindowCenter=[2000, 1000], WindowWidth=[900, 3000]),
        dicom(image, BitsStored=12, VOILUTSequence=table, RescaleSlope=2, RescaleIntercept=-5),
        dicom(np.stack([grey, grey]), NumberOfFrames=2),
        dicom(np.stack([grey] * 3, axis=-1), PhotometricInterpretation="RGB"),
        dicom(
            image,
            BitsStored=12,
            ShutterShape="RECTANGULAR",
            ShutterLeftVerticalEdge=5,
            ShutterRightVerticalEdge=60,
            ShutterUpperHorizontalEdge=2,
            ShutterLowerHorizontalEdge=40,
        ),
    ]


def _encode(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)  # type: ignore[arg-type]
    return out.getvalue()


def _png() -> list[bytes]:
    grey = Image.fromarray(ramp(8, rows=40, columns=50))
    modes = ("L", "RGB", "RGBA", "LA", "P", "1")
    return [
        *(_encode(grey.convert(mode), "PNG") for mode in modes),
        _encode(Image.fromarray(ramp(16, rows=40, columns=50)), "PNG"),
        _encode(grey, "PNG", save_all=True, append_images=[grey.rotate(90)]),
    ]


def _jpeg() -> list[bytes]:
    grey = Image.fromarray(ramp(8, rows=40, columns=50))
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation
    return [
        _encode(grey, "JPEG"),
        _encode(grey.convert("RGB"), "JPEG", progressive=True),
        _encode(grey.convert("CMYK"), "JPEG"),
        _encode(grey, "JPEG", exif=exif, restart_marker_rows=1),
    ]


def _lines(rows: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


_STUDIES: list[dict[str, object]] = [
    {"study_id": f"s{n}", "image": f"a/{n}.png", "view": "PA", "indication": "Cough, \u00e9."}
    for n in range(6)
]
_REPORTS: list[dict[str, object]] = [
    {
        "report_id": f"r{n}",
        "patient_id": f"p{n // 2}",
        "findings": f'The "heart" is {n}.\nLungs, clear.',
        "impression": "No acute disease.",
        "date": "2024-02-29",
    }
    for n in range(6)
]


def _table(rows: list[dict[str, object]]) -> bytes:
    quoted = [['"' + str(cell).replace('"', '""') + '"' for cell in row.values()] for row in rows]
    return "\n".join([",".join(rows[0]), *map(",".join, quoted), ""]).encode()


_ANNOTATIONS: list[dict[str, object]] = [
    {"image": "a.png", "kind": "box", "x": 0.1, "y": 0.2, "width": 0.3, "height": 0.4},
    {"image": "a.png", "kind": "fixation", "x": 0.5, "y": 0.5, "seconds": 0.2},
    {"image": "b.png", "kind": "box", "x": 0, "y": 0, "width": 1, "height": 1},
]

_SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "DICOM": _dicom,
    "PNG": _png,
    "JPEG": _jpeg,
    "batch CSV": lambda: [_table(_STUDIES)],
    "batch JSONL": lambda: [_lines(_STUDIES)],
    "ReXrank JSON": lambda: [
        json.dumps({f"s{n}": {"image_path": ["a.png"], "context": "x"} for n in range(5)}).encode()
    ],
    "reports CSV": lambda: [_table(_REPORTS)],
    "reports JSONL": lambda: [_lines(_REPORTS)],
    "marks JSONL": lambda: [_lines(_ANNOTATIONS)],
    "Open-I XML": lambda: [
        b'<eCitation><uId id="CXR1"/><MedlineCitation><Article><Abstract>'
        b'<AbstractText Label="FINDINGS">Heart &amp; lungs.</AbstractText>'
        b'<AbstractText Label="IMPRESSION">Clear.</AbstractText>'
        b"</Abstract></Article></MedlineCitation></eCitation>"
    ],
}
