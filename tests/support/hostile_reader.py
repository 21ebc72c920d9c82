"""Reads damaged files in a process of its own, under watch: what it says, its time and memory.

As a script it is the process that reads; `Watched` is the one that watches. Only the errors that a
reader promises count as an answer: anything else is named as what it is.
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
"""Of the processor, readers and decoders together: a busy machine is no hang."""
LIMIT_MIB = 1024
_STOPPED_SECONDS = 60.0  # on the clock; then it is ended, it may have hung for ever


class Verdict(NamedTuple):
    """What became of one file.

    ``bug`` is empty where all is well; ``outcome`` is then "accepted" or why it was refused.
    """

    outcome: str
    seconds: float
    mib: float
    bug: str = ""


class Watched:
    """The process that reads; a context manager."""

    def __enter__(self) -> "Watched":
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def read(self, kind: str, data: bytes) -> Verdict:
        """Let it read one file."""
        pipe = self._process.stdin
        assert pipe is not None and self._process.stdout is not None
        started, used = time.perf_counter(), self._processor_seconds()
        clock = _alarm(_STOPPED_SECONDS, self._process)
        try:
            pipe.write(json.dumps([kind, len(data)]).encode() + b"\n" + data)
            pipe.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = b""
        clock.cancel()
        if not answer:
            seconds = time.perf_counter() - started
            code = self._process.wait()
            self._end()
            self._start()
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            what = "hang" if seconds >= _STOPPED_SECONDS else "crash"
            return Verdict("", seconds, 0, f"{what}: {how}")
        outcome, bug = json.loads(answer)
        seconds = self._processor_seconds() - used
        mib = self.peak_mib()
        if not bug and seconds > LIMIT_SECONDS:
            bug = f"slow: {seconds:.1f} s ({outcome})"
        if not bug and mib > LIMIT_MIB:
            bug = f"memory: {mib:.0f} MiB ({outcome})"
        return Verdict(outcome, seconds, mib, bug)

    def _processor_seconds(self) -> float:
        """Of it, of its decoders, and of those that have ended."""
        ticks = sum(_ticks(one) for one in self._pids())
        return ticks / os.sysconf("SC_CLK_TCK")

    def _pids(self) -> list[str]:
        pid = self._process.pid
        return [str(pid), *Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def peak_mib(self) -> float:
        """Most resident memory so far, of it and of its decoders together."""
        return sum(map(_peak, self._pids())) / 1024

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def _end(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _alarm(seconds: float, process: subprocess.Popen[bytes]) -> Any:
    import threading  # noqa: PLC0415

    clock = threading.Timer(seconds, process.kill)
    clock.daemon = True
    clock.start()
    return clock


def _ticks(pid: str) -> int:
    """utime, stime, and those of waited-for children."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))


def _peak(pid: str) -> int:
    """VmHWM in KiB; 0 of a process that is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return int(found[0]) if found else 0


# --- the process that reads


def _image(data: bytes, _: Path) -> str:
    from encoders.images.image_io import read_image, read_image_info  # noqa: PLC0415
    from encoders.images.raw_image import ImageReadError  # noqa: PLC0415
    from rag.pacs import PacsError  # noqa: PLC0415
    from rag.pacs.inbox import study_uid_of  # noqa: PLC0415
    from rag.screening.header import screen_header  # noqa: PLC0415

    with contextlib.suppress(PacsError):  # as a receiver looks at it, before it writes
        study_uid_of(data)
    try:
        screen_header(read_image_info(data))
        image = read_image(data)
    except ImageReadError as error:
        if "not foreseen" in str(error):  # the net below all readers: no crash, but no answer
            return f"refused, by the last net: {str(error).split('(')[1].split(')')[0]}"
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
            str(error).encode()  # can be shown
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
        for record in corpus.records:  # it will be written to the store and to the screen
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
    except Exception as error:  # noqa: BLE001 - what no reader may let out
        import traceback  # noqa: PLC0415

        where = traceback.extract_tb(error.__traceback__)[-1]
        return "", f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {error}"[
            :300
        ]


def serve() -> None:
    """Read files from stdin until it ends."""
    with tempfile.TemporaryDirectory() as name:
        while line := sys.stdin.buffer.readline():
            kind, length = json.loads(line)
            verdict = _read(kind, sys.stdin.buffer.read(length), Path(name))
            sys.stdout.buffer.write(json.dumps(verdict).encode() + b"\n")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve()
