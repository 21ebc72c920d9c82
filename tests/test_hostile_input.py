"""A short run of `tests/fuzz.py`, decompression bombs, and a thousand studies in one process."""

import gc
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import fuzz
import numpy as np
import pytest
from PIL import Image
from support import fake_choosing_llm, small_batch
from support.dicom_files import DEFLATED, EXPLICIT, RLE, dicom, ramp
from support.fake_encoder import FakeEncoder
from support.hostile_reader import LIMIT_MIB, LIMIT_SECONDS, READERS, WatchedReader
from support.small_corpus import small_corpus

from encoders.images.raw_image import MAX_BYTES
from rag.index import build_index
from rag.schema import Status

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def watched() -> Iterator[WatchedReader]:
    with WatchedReader() as reader:
        yield reader


@pytest.mark.slow
@pytest.mark.parametrize("kind", READERS)
def test_no_damaged_file_crashes_hangs_or_exhausts_memory(
    kind: str, watched: WatchedReader
) -> None:
    tally = fuzz.fuzz(kind, fuzz.mutation_count(kind, 300), 7, watched)
    assert not tally.bugs, list(tally.bugs)
    assert tally.outcomes.total() >= fuzz.mutation_count(kind, 300)


# --- decompression bombs


def png_of(width: int, height: int, *more: tuple[bytes, bytes], colour: int = 0) -> bytes:
    """A valid black PNG, well compressed; transparent if of colour type 6."""
    line = bytes(1 + width * (4 if colour == 6 else 1))
    rows = zlib.compressobj(1)
    body = b"".join(rows.compress(line) for _ in range(height)) + rows.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def deflated_bomb() -> bytes:
    data = dicom(ramp(12), syntax=DEFLATED, BitsStored=12)
    start = data.index(b"UL\x04\x00", 132)
    (length,) = struct.unpack("<L", data[start + 4 : start + 8])
    body = zlib.compressobj(9, wbits=-15)
    zeros = b"".join(body.compress(bytes(1 << 20)) for _ in range((MAX_BYTES >> 20) + 64))
    return data[: start + 8 + length] + zeros + body.flush()


def rle_bomb() -> bytes:
    """A small frame whose only segment repeats a byte endlessly."""
    data = bytearray(dicom(ramp(8), syntax=RLE))
    start = data.rindex(b"\xfe\xff\x00\xe0") + 8
    data[start + 64 :] = b"\x81\x00" * (8 << 20)
    data[start - 4 : start] = struct.pack("<L", len(data) - start)
    return bytes(data)


def many_frames() -> bytes:
    """A header that declares two billion frames."""
    data = dicom(ramp(8)[None].repeat(2, 0), syntax=EXPLICIT, NumberOfFrames=2)
    return data.replace(b"IS\x02\x002 ", b"IS\x0a\x002000000000"[:14])


def progressive_bomb() -> bytes:
    """A progressive JPEG with two thousand copies of its last scan."""
    out = io.BytesIO()
    Image.new("L", (4000, 4000)).save(out, "JPEG", progressive=True)
    data = out.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 2000 + data[-2:]


ZEROS = zlib.compress(bytes(256 << 20), 9)
BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "PNG of 3.6 billion pixels": ("PNG", lambda: png_of(60_000, 200)[:33] + bytes(99)),
    "PNG of 64 million transparent pixels": ("PNG", lambda: png_of(8000, 8000, colour=6)),
    "DICOM of 64 million pixels in colour": (
        "DICOM",
        lambda: dicom(np.full((8000, 8000, 3), 7, np.uint8)),
    ),
    "PNG with a text of 256 MB": (
        "PNG",
        lambda: png_of(64, 64, (b"zTXt", b"a\0\0" + ZEROS)),
    ),
    "PNG with a colour profile of 256 MB": (
        "PNG",
        lambda: png_of(64, 64, (b"iCCP", b"a\0\0" + ZEROS)),
    ),
    "JPEG with two thousand scans": ("JPEG", progressive_bomb),
    "DICOM that inflates to more than any image": ("DICOM", deflated_bomb),
    "DICOM whose RLE segment does not end": ("DICOM", rle_bomb),
    "DICOM of two billion frames": ("DICOM", many_frames),
    "CSV of one field": ("batch CSV", lambda: b"study_id,image\n" + b"a" * (32 << 20)),
    "JSONL of one line": ("reports JSONL", lambda: b'{"report_id": "' + b"a" * (32 << 20)),
    "JSON nested too deeply": ("ReXrank JSON", lambda: b'{"a":' * 1_000_000),
    "XML of entities": (
        "Open-I XML",
        lambda: b'<!DOCTYPE a [<!ENTITY b "' + b"c" * 9999 + b'">]><a>' + b"&b;" * 9999 + b"</a>",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_decompression_bomb_is_refused_or_read_within_limits(
    name: str, watched: WatchedReader
) -> None:
    kind, make = BOMBS[name]
    result = watched.read(kind, make())
    assert not result.bug
    assert result.outcome
    assert result.seconds < LIMIT_SECONDS
    assert result.mib < LIMIT_MIB


# --- many studies


@pytest.mark.slow
def test_a_thousand_studies_in_one_process_leave_memory_and_disk_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    image = tmp_path / "image.dcm"
    image.write_bytes(dicom(ramp(12, rows=64), BitsStored=12, StudyInstanceUID="1.2." + "7" * 20))
    build_index(small_corpus(), FakeEncoder(), tmp_path / "store")
    images, resident = tmp_path / "images", {}
    images.mkdir()
    with fake_choosing_llm.serve() as llm:
        for before, done in ((0, 200), (200, 1000)):
            for number in range(before, done):
                _numbered(image, images / f"{number}.dcm", number)
            summary = small_batch.run(
                images, tmp_path / "out", store=tmp_path / "store", url=llm.url
            )
            assert summary.statuses == {Status.OK: done}
            gc.collect()
            resident[done] = _resident_mib()
    assert resident[1000] - resident[200] < 48, resident
    assert not list(temporary.iterdir())


def _numbered(image: Path, path: Path, number: int) -> None:
    """The same image with another study UID of the same length."""
    data = image.read_bytes()
    start = data.index(b"\x20\x00\x0d\x00UI")
    (length,) = struct.unpack("<H", data[start + 6 : start + 8])
    uid = f"1.2.{number + 1}.".ljust(length - 1, "7").encode() + b"1"
    path.write_bytes(data[: start + 8] + uid[:length] + data[start + 8 + length :])


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20
