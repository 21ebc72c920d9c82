"""predictions.jsonl: one study a line, appended safely, read strictly.

Owns the file. `rag.schema` owns what a prediction is, and readers decide what a line must hold:
the keys of `Prediction.to_json`, or at least ``study_id`` and a text.
"""

import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from encoders.tabular import parse_strict
from rag.atomic_io import disk_explained, flush
from rag.prediction import Prediction


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a JSONL file: an object, or the reason why it is none.

    Attributes:
        number: counted from 1, blank lines included.
        values: the object; empty where there is a problem.
        problem: one sentence for the user, empty where there is none.
    """

    number: int
    values: dict[str, Any]
    problem: str = ""


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


def read_lines(path: Path) -> Iterator[Line]:
    """Lines of a JSONL file in order; blank ones are passed over.

    Strict: UTF-8 (a byte order mark is let pass), one object a line, no key twice, no NaN, no half
    surrogates. What breaks a rule comes back as a problem, so that one run can name them all.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")  # noqa: PLW2901
            if raw.strip():
                yield _read_line(number, raw)


def _read_line(number: int, raw: bytes) -> Line:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte 0x{raw[error.start]:02x} at position {error.start + 1}"
        return Line(number, {}, f"not UTF-8 ({found}): save the file as UTF-8")
    if "\x00" in text:
        return Line(number, {}, "holds zero bytes, as UTF-16 does: save the file as UTF-8")
    try:
        values = parse_strict(text)
    except ValueError as error:
        return Line(number, {}, str(error))
    if not isinstance(values, dict):
        return Line(number, {}, f"is a {type(values).__name__}, not an object {{...}}")
    return Line(number, values)


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
    if _read_line(0, last).problem:
        file.truncate(file.seek(-len(last), os.SEEK_END))
    else:
        file.write(b"\n")
