"""predictions.jsonl: one study a line, appended safely; `encoders.tabular` reads it back."""

import io
import json
import os
from pathlib import Path
from types import TracebackType

from encoders.json_text import parse_strict
from rag.atomic_io import disk_explained, flush
from rag.prediction import Prediction


class PredictionLog:
    """Appends predictions to a file; after a crash a line is whole or absent.

    Opening cuts off a torn last line: its study was being written when the plug was pulled. A disk
    that is full leaves no half line either.

    Raises:
        OutputError: the file cannot be opened or written; the message says the hint.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: io.FileIO | None = None

    def __enter__(self) -> "PredictionLog":
        with disk_explained(self._path):
            new = not self._path.exists()
            # unbuffered: what a full disk did not take must not be tried again at the end
            self._file = io.FileIO(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
            _mend_end(self._file)
            if new:
                flush(self._path.parent)
        return self

    def append(self, prediction: Prediction) -> None:
        """Write one line and wait until it is on the disk."""
        if self._file is None:
            raise ValueError("open the log with `with` first")
        line = memoryview(prediction_line(prediction).encode("utf-8"))
        with disk_explained(self._path):
            end = self._file.seek(0, os.SEEK_END)
            try:
                while line:
                    line = line[self._file.write(line) :]
                os.fsync(self._file.fileno())
            except OSError:
                self._file.truncate(end)
                raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def prediction_line(prediction: Prediction) -> str:
    """One line with its newline. NaN and infinities are a ValueError: no JSON holds them."""
    return json.dumps(prediction.to_json(), ensure_ascii=False, allow_nan=False) + "\n"


def _mend_end(file: io.FileIO) -> None:
    """Make the file end with a newline: close a whole last line, cut a torn one."""
    end = file.seek(0, os.SEEK_END)
    last = b""
    while end and b"\n" not in last:
        start = max(end - 65_536, 0)
        file.seek(start)
        last = file.read(end - start) + last
        end = start
    _, _, last = last.rpartition(b"\n")
    if not last:
        return
    try:
        parse_strict(last.decode("utf-8"))
    except ValueError:
        file.truncate(file.seek(-len(last), os.SEEK_END))
    else:
        file.write(b"\n")
