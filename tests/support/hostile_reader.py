"""Reads damaged files in a child process, and watches its answers, time and memory.

As a script it is the child; `WatchedReader` is the parent. Only the errors that a reader documents
count as refusals; any other is a bug.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

LIMIT_SECONDS = 5.0
"""CPU time of reader and decoders together, so that a busy machine is not a hang."""
LIMIT_MIB = 1024
_KILL_SECONDS = 60.0  # on the clock


class ReadResult(NamedTuple):
    """The result of reading one file.

    ``outcome`` is "accepted" or why the file was refused; ``bug`` describes any other result.
    """

    outcome: str
    seconds: float
    mib: float
    bug: str = ""


class WatchedReader:
    """The reading process, as a context manager."""

    def __enter__(self) -> "WatchedReader":
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def read(self, kind: str, data: bytes) -> ReadResult:
        """Have it read one file."""
        pipe = self._process.stdin
        assert pipe is not None and self._process.stdout is not None
        started, cpu_before = time.perf_counter(), self._cpu_seconds()
        timer = _start_timer(_KILL_SECONDS, self._process)
        try:
            pipe.write(json.dumps([kind, len(data)]).encode() + b"\n" + data)
            pipe.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = b""
        timer.cancel()
        if not answer:
            seconds = time.perf_counter() - started
            code = self._process.wait()
            self._stop()
            self._start()
            cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            kind = "hang" if seconds >= _KILL_SECONDS else "crash"
            return ReadResult("", seconds, 0, f"{kind}: {cause}")
        outcome, bug = json.loads(answer)
        seconds = self._cpu_seconds() - cpu_before
        mib = self.peak_mib()
        if not bug and seconds > LIMIT_SECONDS:
            bug = f"slow: {seconds:.1f} s ({outcome})"
        if not bug and mib > LIMIT_MIB:
            bug = f"memory: {mib:.0f} MiB ({outcome})"
        return ReadResult(outcome, seconds, mib, bug)

    def _cpu_seconds(self) -> float:
        """CPU time of the process and its decoders, also of those that have exited."""
        ticks = sum(map(_cpu_ticks, self._pids()))
        return ticks / os.sysconf("SC_CLK_TCK")

    def _pids(self) -> list[str]:
        pid = self._process.pid
        return [str(pid), *Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def peak_mib(self) -> float:
        """Peak resident memory so far, of the process and its decoders together."""
        return sum(map(_peak_kib, self._pids())) / 1024

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def _stop(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _start_timer(seconds: float, process: subprocess.Popen[bytes]) -> Any:
    import threading  # noqa: PLC0415

    timer = threading.Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    return timer


def _cpu_ticks(pid: str) -> int:
    """utime, stime, and those of waited-for children."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))


def _peak_kib(pid: str) -> int:
    """VmHWM in KiB; 0 for a process that has exited."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    values = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return int(values[0]) if values else 0


# --- the child process


def _image(data: bytes, _: Path) -> str:
    from encoders.image_io import read_image, read_image_info  # noqa: PLC0415
    from encoders.images.raw_image import ImageReadError  # noqa: PLC0415
    from rag.pacs import PacsError  # noqa: PLC0415
    from rag.pacs.inbox import study_uid_of  # noqa: PLC0415
    from rag.screening.header import screen_header  # noqa: PLC0415

    with contextlib.suppress(PacsError):  # what a receiver reads before it stores a file
        study_uid_of(data)
    try:
        screen_header(read_image_info(data))
        image = read_image(data)
    except ImageReadError as error:
        if "not foreseen" in str(error):  # the catch-all: no reader handles this exception
            return f"refused, by the catch-all: {str(error).split('(')[1].split(')')[0]}"
        return f"refused: {error.reason.value}"
    assert image.pixels.dtype.name == "float32"
    assert 0 <= image.pixels.min() <= image.pixels.max() <= 1
    return "accepted"


def _batch_list(suffix: str) -> Callable[[bytes, Path], str]:
    def read(data: bytes, folder: Path) -> str:
        from rag.batch.grouping import group_images  # noqa: PLC0415
        from rag.batch.inputs import list_images  # noqa: PLC0415
        from rag.errors import UsageError  # noqa: PLC0415

        path = folder / f"list{suffix}"
        path.write_bytes(data)
        try:
            images = list_images(path).images
        except UsageError as error:
            str(error).encode()  # can be printed
            return "refused: a line or the file is wrong, and named"
        studies, _ = group_images(images)
        assert sum(1 + len(s.other_views) + len(s.unused) for s in studies) == len(images)
        return "accepted"

    return read


def _reports(suffix: str) -> Callable[[bytes, Path], str]:
    def read(data: bytes, folder: Path) -> str:
        from rag.corpus.user_collection import read_collection  # noqa: PLC0415
        from rag.errors import CorpusError  # noqa: PLC0415

        path = folder / f"reports{suffix}"
        path.write_bytes(data)
        try:
            corpus = read_collection(path)
        except CorpusError:
            return "refused: nothing can be read"
        for record in corpus.records:  # can be stored and printed
            record.text.encode()
        for problem in corpus.problems:
            str(problem).encode()
        return "accepted, with rows left out" if corpus.problems else "accepted"

    return read


def _xml(data: bytes, _: Path) -> str:
    from rag.corpus.openi import read_openi_xml  # noqa: PLC0415
    from rag.corpus.records import Problem  # noqa: PLC0415

    found = read_openi_xml(data, name="x.xml")
    return "refused: named as a problem" if isinstance(found, Problem) else "accepted"


def _marks(data: bytes, folder: Path) -> str:
    from encoders.training.sources.settings import AnnotationTable  # noqa: PLC0415
    from encoders.training.sources.tables import read_annotation_table  # noqa: PLC0415

    (folder / "marks.jsonl").write_bytes(data)
    return _rendered(lambda: read_annotation_table(AnnotationTable(path=folder / "marks.jsonl")))


def _rendered(readings: Callable[[], Iterable[Any]]) -> str:
    import numpy as np  # noqa: PLC0415

    from encoders.annotations import render_heatmap  # noqa: PLC0415
    from encoders.training.dataset import TrainingDataError  # noqa: PLC0415

    try:
        for reading in readings():
            heat = render_heatmap(reading.annotation, height=32, width=32)
            assert np.isfinite(heat).all()
            assert 0 <= heat.min() <= heat.max() <= 1
    except TrainingDataError:
        return "refused: a row is wrong, and named"
    return "accepted"


READERS: dict[str, Callable[[bytes, Path], str]] = {
    "DICOM": _image,
    "PNG": _image,
    "JPEG": _image,
    "batch CSV": _batch_list(".csv"),
    "batch JSONL": _batch_list(".jsonl"),
    "ReXrank JSON": _batch_list(".json"),
    "reports CSV": _reports(".csv"),
    "reports JSONL": _reports(".jsonl"),
    "marks JSONL": _marks,
    "Open-I XML": _xml,
}


def _read(kind: str, data: bytes, folder: Path) -> tuple[str, str]:
    try:
        return READERS[kind](data, folder), ""
    except Exception as error:  # noqa: BLE001 - a bug: an undocumented exception
        import traceback  # noqa: PLC0415

        where = traceback.extract_tb(error.__traceback__)[-1]
        return "", f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {error}"[
            :300
        ]


def serve() -> None:
    """Read files from stdin until it closes."""
    with tempfile.TemporaryDirectory() as name:
        while line := sys.stdin.buffer.readline():
            kind, length = json.loads(line)
            result = _read(kind, sys.stdin.buffer.read(length), Path(name))
            sys.stdout.buffer.write(json.dumps(result).encode() + b"\n")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve()
