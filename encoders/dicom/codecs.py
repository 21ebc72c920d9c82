"""Decompresses frames in child processes, so that no stream can take this one with it.

Owns the pool of `encoders.dicom.worker` processes: started when the first compressed image comes,
kept for the next, ended when they exceed their time: of the processor, so that a busy machine
refuses no image, and ten times that on the clock. Knows nothing of DICOM tags.
"""

import atexit
import json
import os
import subprocess
import sys
import threading
from multiprocessing import BufferTooShort, Pipe
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders.dicom.codestream import CodecError, Codestream

Pixels = NDArray[Any]

_BUSY = 10
"""Seconds on the clock for one of the processor: a machine may be busy, and a worker must start."""


class _DecoderProcess:
    """One child process and the connection to it."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("worker.py")
        self._connection, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and script
                [sys.executable, "-P", str(script), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # decoders print; nobody would know which image
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )

    def decode(self, request: dict[str, Any], frame: bytes, *, seconds: float) -> Pixels:
        """One frame. Any exception but `CodecError` means that this worker is no more."""
        connection = self._connection
        connection.send_bytes(json.dumps({**request, "seconds": seconds}).encode())
        connection.send_bytes(frame)
        if not connection.poll(seconds * _BUSY):
            raise TimeoutError
        head = json.loads(connection.recv_bytes())
        if "error" in head:
            raise CodecError(head["error"])
        pixels: Pixels = np.empty(head["shape"], dtype=head["dtype"])
        if connection.recv_bytes_into(pixels.data.cast("B")) != pixels.nbytes:
            raise EOFError
        return pixels

    @property
    def alive(self) -> bool:
        """False where something ended the idle child."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the child and free the connection."""
        self._process.kill()
        self._process.wait()
        self._connection.close()


class _Pool:
    """Idle workers, for the threads of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_DecoderProcess] = []
        self._owner = os.getpid()
        self._registered = False

    @property
    def idle(self) -> int:
        """Workers that wait."""
        return len(self._idle)

    def decode(self, request: dict[str, Any], frame: bytes, *, seconds: float) -> Pixels:
        worker = self._take()
        try:
            pixels = worker.decode(request, frame, seconds=seconds)
        except CodecError:
            self._give(worker)
            raise
        except (OSError, EOFError, ValueError, BufferTooShort):
            worker.close()
            raise CodecError(
                f"the decoder crashed on it, or needed more than {seconds:.0f} seconds of "
                "the processor or too much memory"
            ) from None
        except BaseException:
            worker.close()  # interrupted between request and answer
            raise
        self._give(worker)
        return pixels

    def _take(self) -> _DecoderProcess:
        with self._lock:
            if self._owner != os.getpid():  # forked: these pipes are the parent's
                self._idle, self._owner = [], os.getpid()
            while self._idle:
                worker = self._idle.pop()
                if worker.alive:
                    return worker
                worker.close()
            if not self._registered:
                atexit.register(self.close)
                self._registered = True
        return _DecoderProcess()

    def _give(self, worker: _DecoderProcess) -> None:
        with self._lock:
            if len(self._idle) < (os.cpu_count() or 1):
                self._idle.append(worker)
                return
        worker.close()

    def close(self) -> None:
        with self._lock:
            if self._owner == os.getpid():
                while self._idle:
                    self._idle.pop().close()


_pool = _Pool()


def decode(
    frame: bytes,
    codestream: Codestream,
    *,
    allocated: int = 16,
    colour: str = "",
    halvings: int = 0,
) -> Pixels:
    """Decompress one frame in a worker process.

    Args:
        frame: the whole codestream.
        codestream: what `inspect` found, or for RLE what the DICOM header says.
        allocated: bits of a sample in memory, 8, 16 or 32; RLE needs it.
        colour: photometric interpretation, for JPEG streams that carry no colour marker.
        halvings: how often to halve both sides; unsigned grey JPEG 2000 only.

    Returns:
        Samples as decoded: [rows, columns] or [rows, columns, samples]. JPEG in colour may come
        as luminance.

    Raises:
        CodecError: the decoder refused, crashed, or took too long.
    """
    request = {
        "kind": codestream.codec.value,
        "rows": codestream.rows,
        "columns": codestream.columns,
        "samples": codestream.samples,
        "bits": codestream.bits,
        "allocated": allocated,
        "colour": colour,
        "halvings": halvings,
    }
    # of the processor: one core decodes 5 to 30 million pixels a second
    seconds = 3.0 + codestream.rows * codestream.columns / 2.5e6
    pixels = _pool.decode(request, frame, seconds=seconds)
    if pixels.shape[:2] != halved(codestream.rows, codestream.columns, halvings):
        raise CodecError(f"it decodes to {pixels.shape[0]} x {pixels.shape[1]} pixels")
    return pixels


def halved(rows: int, columns: int, times: int) -> tuple[int, int]:
    """Rows and columns of a lower resolution level (ITU T.800 B.5): rounded up."""
    return -(-rows // 2**times), -(-columns // 2**times)
