"""Decoding in child processes: crashes, time and memory limits, and frame headers."""

import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from openjpeg.utils import encode_array
from support import dicom_files as files
from support.dicom_files import dicom, ramp

from encoders.dicom import codecs
from encoders.dicom.codecs import (
    Codec,
    CodecError,
    Codestream,
    TruncatedError,
    _DecoderProcess,
    _Pool,
    inspect,
)
from encoders.image_io import read_image
from encoders.images.raw_image import ImageReadError, ReadFailure

pytestmark = pytest.mark.slow


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Pool]:
    """A pool of this test's own."""
    fresh = _Pool()
    monkeypatch.setattr(codecs, "_pool", fresh)
    yield fresh
    fresh.close()


def lossless_jpeg() -> bytes:
    return files.lossless_jpeg(ramp(12), bits=12, predictor=1)


IMAGE = {"BitsStored": 12, "WindowCenter": 2048, "WindowWidth": 4096}


def test_a_stream_that_crashes_its_decoder_fails_only_its_own_image(pool: _Pool) -> None:
    """A zero in its Huffman table makes GDCM 3.2.6 call std::terminate."""
    good = lossless_jpeg()
    bad = good[:16] + b"\0" + good[17:]
    data = dicom(ramp(12), syntax=files.JPEG_LOSSLESS_SV1, **IMAGE)
    assert good in data

    with pytest.raises(ImageReadError) as caught:
        read_image(data.replace(good, bad))
    assert caught.value.reason is ReadFailure.UNDECODABLE
    assert "crashed" in str(caught.value)

    assert np.abs(read_image(data).pixels - read_image(dicom(ramp(12), **IMAGE)).pixels).max() == 0


def test_a_decoder_that_exceeds_its_time_is_killed(pool: _Pool) -> None:
    noise = np.random.default_rng(0).integers(0, 4096, (2000, 2000)).astype(np.uint16)
    frame = bytes(encode_array(noise, bits_stored=12))
    request = {"codec": "jpeg-2000", "halvings": 0, "cpu_seconds": 0.1}
    with pytest.raises(CodecError, match="more than 0 seconds of CPU time"):
        pool.decode(request, frame)
    assert pool._idle.empty()


def test_an_idle_worker_that_died_is_replaced(pool: _Pool) -> None:
    frame = lossless_jpeg()
    first = codecs.decode(frame, inspect(frame))
    (worker,) = pool._idle.queue
    os.kill(worker._process.pid, signal.SIGKILL)
    worker._process.wait()
    assert np.array_equal(codecs.decode(frame, inspect(frame)), first)


def test_threads_sharing_the_pool_get_their_own_frames(pool: _Pool) -> None:
    images = [np.roll(ramp(12), shift, axis=1) for shift in range(8)]
    frames = [files.lossless_jpeg(image, bits=12, predictor=4) for image in images]
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(5):
            got = codecs.decode(frames[number], inspect(frames[number]))
            if not np.array_equal(got, images[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert pool._idle.qsize() <= (os.cpu_count() or 1)


def test_a_forked_process_starts_workers_of_its_own(pool: _Pool) -> None:
    frame = lossless_jpeg()
    expected = codecs.decode(frame, inspect(frame))
    child = os.fork()
    if child == 0:  # pragma: no cover - coverage does not follow a fork
        same = np.array_equal(codecs.decode(frame, inspect(frame)), expected)
        alone = pool._idle.qsize() == 1
        pool.close()
        os._exit(0 if same and alone else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert np.array_equal(codecs.decode(frame, inspect(frame)), expected)


def test_workers_exit_with_their_parent() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from encoders.dicom.codecs import _pool, decode, inspect\n"
        "frame = bytes.fromhex(sys.argv[2])\n"
        "decode(frame, inspect(frame))\n"
        "print(_pool._idle.queue[0]._process.pid, flush=True)\n"
        "import os; os.kill(os.getpid(), 9)\n"
    )
    root = str(Path(codecs.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code, root, lossless_jpeg().hex()],
        capture_output=True,
        text=True,
        check=False,
    )
    worker = int(done.stdout)
    for _ in range(100):
        if not Path(f"/proc/{worker}").exists():
            return
        threading.Event().wait(0.05)
    pytest.fail("the worker outlived its parent")


def test_worker_memory_is_limited() -> None:
    """A stream of 60 000 x 60 000 samples, which `inspect` would not have let through."""
    frame = bytearray(files.ready_made("lossless.j2c"))
    start = frame.index(b"\xff\x4f\xff\x51")
    for offset in (8, 24):  # image and tile size
        frame[start + offset : start + offset + 8] = struct.pack(">II", 60_000, 60_000)
    worker = _DecoderProcess()
    with pytest.raises((CodecError, EOFError, ValueError, OSError)):
        worker.decode({"codec": "jpeg-2000", "halvings": 0, "cpu_seconds": 60}, bytes(frame))
    worker.close()


# --- what streams say of themselves


def test_inspect_reads_headers() -> None:
    assert inspect(lossless_jpeg()) == Codestream(Codec.GDCM, 48, 64, 1, 12, lossless=True)
    assert inspect(files.ready_made("extended.jpg")) == Codestream(Codec.GDCM, 48, 64, 1, 12)
    assert inspect(files.ready_made("lossy.j2c")) == Codestream(Codec.JPEG_2000, 48, 64, 1, 16)


@pytest.mark.parametrize(
    ("frame", "error", "words"),
    [
        (b"", CodecError, "no JPEG"),
        (b"\xff\xd8\xff", TruncatedError, "ends before"),
        (b"\xff\xd8\x00\x00\x00\x00", CodecError, "damaged"),
        (lossless_jpeg()[:-2], TruncatedError, "no end marker"),
        (lossless_jpeg().replace(b"\xff\xc3", b"\xff\xc9"), CodecError, "FFC9"),
        (lossless_jpeg().replace(b"\x00\x0b\x0c", b"\x00\x0b\x63"), CodecError, "99 bits"),
        (files.ready_made("lossless.j2c")[:20], TruncatedError, "inside its header"),
        (
            files.ready_made("extended.jpg").replace(b"\x00\x00\x3f\x00", b"\x00\x00\x00\x00"),
            CodecError,
            "scan header is invalid",
        ),
    ],
)
def test_inspect_refuses_invalid_streams(frame: bytes, error: type[CodecError], words: str) -> None:
    with pytest.raises(error, match=words):
        inspect(frame)
