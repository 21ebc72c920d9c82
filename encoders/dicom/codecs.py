"""Compressed frames: parses their headers, and decodes them in child processes.

No stream can crash this process. Workers (`encoders.dicom.worker`) start with the first compressed
image, are reused, and are killed when they exceed their CPU time, or ten times that on the clock.
"""

import atexit
import json
import os
import struct
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from multiprocessing import BufferTooShort, Pipe
from pathlib import Path
from queue import Empty, Full, LifoQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]

_J2K_START = b"\xff\x4f\xff\x51"
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
"""SOF markers: C4, C8 and CC between them are tables; F7 is JPEG-LS."""

_WALL_TO_CPU_SECONDS = 10
"""Seconds on the clock per second of CPU time: the machine may be busy, and a worker must start."""


class CodecError(Exception):
    """A frame that cannot be decompressed; the message holds no header value."""


class TruncatedError(CodecError):
    """A frame without its end marker."""


class Codec(StrEnum):
    """The decoder that a frame needs, as the worker names it."""

    JPEG = "jpeg"
    GDCM = "gdcm"
    JPEG_LS = "jpeg-ls"
    JPEG_2000 = "jpeg-2000"
    RLE = "rle"


@dataclass(frozen=True, slots=True)
class Codestream:
    """What a compressed frame declares in its own header.

    Attributes:
        rows, columns, samples, bits: size, components, and bits per component.
        lossless: True if the compression process is lossless.
    """

    codec: Codec
    rows: int
    columns: int
    samples: int
    bits: int
    lossless: bool = False


def inspect(frame: bytes) -> Codestream:
    """Read the header of a JPEG, JPEG-LS or JPEG 2000 frame.

    Raises:
        CodecError: another format, or an invalid header.
        TruncatedError: the end marker is missing.
    """
    if frame.startswith(b"\xff\xd8"):
        return _inspect_jpeg(frame)
    start = frame.find(_J2K_START, 0, 4096)  # there may be boxes of a JP2 file before it
    if start < 0:
        raise CodecError("its bytes are no JPEG, JPEG-LS or JPEG 2000 stream")
    try:  # the SIZ segment, ITU T.800 A.5.1
        right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
        (samples, depth) = struct.unpack_from(">HB", frame, start + 40)
    except struct.error:
        raise TruncatedError("its JPEG 2000 stream ends inside its header") from None
    return Codestream(Codec.JPEG_2000, bottom - top, right - left, samples, (depth & 0x7F) + 1)


def _jpeg_headers(frame: bytes) -> tuple[tuple[int, int, int, int, int], bytes]:
    """(process, bits, rows, columns, samples), and the first scan's header (ITU T.81)."""
    header = None
    position = 2
    while position + 4 <= len(frame):
        if frame[position] != 0xFF:
            raise CodecError("its JPEG markers are damaged")
        marker = frame[position + 1]
        if marker in (0xFF, 0x01) or 0xD0 <= marker <= 0xD8:  # fill bytes, markers without length
            position += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", frame, position + 2)
        body = frame[position + 4 : position + 2 + length]
        if marker in _FRAME_MARKERS and len(body) >= 6:
            header = (marker, *struct.unpack_from(">BHHB", body))
        if marker == 0xDA:
            break
        position += 2 + length
    else:
        raise TruncatedError("its JPEG stream ends before the first scan")
    if header is None:
        raise CodecError("its JPEG stream has no frame header")
    return header, body


def _inspect_jpeg(frame: bytes) -> Codestream:
    (process, bits, rows, columns, samples), scan = _jpeg_headers(frame)
    if process in (0xC0, 0xC1) and scan[-3:] != b"\x00\x3f\x00":
        # T.81 table B.3: some decoders would guess
        raise CodecError("its JPEG scan header is invalid for a sequential process (T.81 B.2.3)")
    if b"\xff\xd9" not in frame[-64:]:  # some writers add padding
        raise TruncatedError("its JPEG stream has no end marker")
    if process == 0xF7 and bits <= 16:
        codec = Codec.JPEG_LS
    elif process in (0xC0, 0xC1, 0xC2) and bits == 8:
        codec = Codec.JPEG
    elif (process == 0xC3 and bits <= 16) or (process == 0xC1 and bits == 12):
        codec = Codec.GDCM
    else:
        raise CodecError(f"its JPEG process (marker FF{process:02X}, {bits} bits) is not supported")
    return Codestream(codec, rows, columns, samples, bits, lossless=process == 0xC3)


def decode(
    frame: bytes,
    codestream: Codestream,
    *,
    bits_allocated: int = 16,
    colour: str = "",
    halvings: int = 0,
) -> Pixels:
    """Decompress one frame in a worker process.

    Args:
        frame: the whole codestream.
        codestream: from `inspect`, or for RLE from the DICOM header.
        bits_allocated: 8, 16 or 32; used for RLE.
        colour: photometric interpretation, for JPEG streams without a colour marker.
        halvings: how often to halve both sides; unsigned grey JPEG 2000 only.

    Returns:
        [rows, columns] or [rows, columns, samples]; colour JPEG may be returned as luminance.

    Raises:
        CodecError: the decoder failed, crashed, or took too long.
    """
    rows, columns = codestream.rows, codestream.columns
    request = {
        **asdict(codestream),
        "bits_allocated": bits_allocated,
        "colour": colour,
        "halvings": halvings,
        "cpu_seconds": 3.0 + rows * columns / 2.5e6,  # a core decodes 5 to 30 million a second
    }
    pixels = _pool.decode(request, frame)
    if pixels.shape[:2] != halved_size(rows, columns, halvings):
        raise CodecError(f"it decodes to {pixels.shape[0]} x {pixels.shape[1]} pixels")
    return pixels


def halved_size(rows: int, columns: int, times: int) -> tuple[int, int]:
    """Rows and columns of a lower resolution level (ITU T.800 B.5): rounded up."""
    return -(-rows // 2**times), -(-columns // 2**times)


class _DecoderProcess:
    """One child process and the connection to it; it exits when the connection closes."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("worker.py")
        self._connection, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and script
                [sys.executable, "-P", str(script), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # decoders print
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )

    def decode(self, request: dict[str, Any], frame: bytes) -> Pixels:
        """Decode a frame. After any exception but `CodecError` this worker is unusable."""
        connection = self._connection
        connection.send_bytes(json.dumps(request).encode())
        connection.send_bytes(frame)
        if not connection.poll(request["cpu_seconds"] * _WALL_TO_CPU_SECONDS):
            raise TimeoutError
        answer = json.loads(connection.recv_bytes())
        if "error" in answer:
            raise CodecError(answer["error"])
        pixels: Pixels = np.empty(answer["shape"], dtype=answer["dtype"])
        if connection.recv_bytes_into(pixels.data.cast("B")) != pixels.nbytes:
            raise EOFError
        return pixels

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._connection.close()


class _Pool:
    """The idle workers, shared by the threads of one process."""

    def __init__(self) -> None:
        self._reset()
        os.register_at_fork(after_in_child=self._reset)  # the pipes belong to the parent
        atexit.register(self.close)

    def _reset(self) -> None:
        self._idle = LifoQueue[_DecoderProcess](os.cpu_count() or 1)

    def decode(self, request: dict[str, Any], frame: bytes) -> Pixels:
        worker = self._acquire()
        try:
            pixels = worker.decode(request, frame)
        except CodecError:
            self._release(worker)
            raise
        except (OSError, EOFError, ValueError, BufferTooShort):
            worker.close()
            raise CodecError(
                f"the decoder crashed on it, or needed more than {request['cpu_seconds']:.0f} "
                "seconds of CPU time or too much memory"
            ) from None
        except BaseException:
            worker.close()  # interrupted between request and answer
            raise
        self._release(worker)
        return pixels

    def _acquire(self) -> _DecoderProcess:
        with suppress(Empty):
            while not (worker := self._idle.get_nowait()).is_alive:
                worker.close()
            return worker
        return _DecoderProcess()

    def _release(self, worker: _DecoderProcess) -> None:
        try:
            self._idle.put_nowait(worker)
        except Full:
            worker.close()

    def close(self) -> None:
        with suppress(Empty):
            while True:
                self._idle.get_nowait().close()


_pool = _Pool()
