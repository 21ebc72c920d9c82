"""Rows of CSV and JSONL tables, each with the place that an error names.

Owns the reading of files (also .gz) and of single cells. Knows no layout.
"""

import csv
import gzip
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from encoders.training.dataset import TrainingDataError

CURE = "correct the row or take it out"
"""For any row of a user's; a published file that fails was cut on its way: fetch it again."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row: where it stands, and its cells by column name in small letters."""

    where: str
    values: Mapping[str, Any]

    def error(self, reason: str, *, cure: str = CURE) -> TrainingDataError:
        """The error of this row, to be raised."""
        return TrainingDataError(f"{self.where}: {reason}; {cure}")

    def text(self, key: str) -> str:
        """A cell as text without the blanks around it; empty if it is not there.

        Raises:
            TrainingDataError: it is neither text nor a whole number.
        """
        value = self.values.get(key)
        if value is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise self.error(f"{key} is {type(value).__name__}, not text")
        return str(value).strip()

    def needed(self, key: str) -> str:
        """A cell that must not be empty.

        Raises:
            TrainingDataError: it is empty.
        """
        value = self.text(key)
        if not value:
            raise self.error(f"{key} is empty")
        return value

    def number(self, key: str) -> float:
        """A finite number.

        Raises:
            TrainingDataError: it is none.
        """
        return self.as_number(self.values.get(key), key)

    def as_number(self, value: object, name: str) -> float:
        """Any value of this row as a finite number.

        Raises:
            TrainingDataError: it is none.
        """
        try:
            number = float(value) if isinstance(value, str | int | float) else math.nan
        except (ValueError, OverflowError):
            number = math.nan
        if isinstance(value, bool) or not math.isfinite(number):
            raise self.error(f"{name} is {str(value)[:40]!r}, not a finite number")
        return number


def is_csv(path: Path) -> bool:
    """Whether a file is a CSV table by its name."""
    return Path(path.name.removesuffix(".gz")).suffix.lower() == ".csv"


def find_table(folder: Path, name: str) -> Path:
    """A table as published, or unpacked from its .gz.

    Raises:
        TrainingDataError: there is neither.
    """
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise TrainingDataError(
        f"there is no {name} or {name}.gz in {folder}; set the path to the folder that holds it"
    )


def read_rows(path: Path, *, needed: Sequence[str] = ()) -> Iterator[TableRow]:
    """Rows of a .csv (comma, semicolon or tab) or .jsonl file, either also as .gz.

    Args:
        path: the file; UTF-8.
        needed: columns that must be there, in small letters.

    Raises:
        TrainingDataError: the file cannot be read, a column is missing, or a row is broken.
    """
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    readers = {".csv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl}
    if suffix not in readers:
        raise TrainingDataError(f"{path} is no table that can be read; give a .csv or .jsonl file")
    try:
        with _open(path) as stream:
            yield from readers[suffix](stream, path, needed)
    except OSError as error:
        raise TrainingDataError(f"cannot read {path}: {error.strerror or error}") from error
    except EOFError as error:
        raise TrainingDataError(f"{path} ends in the middle; fetch it again") from error
    except UnicodeDecodeError as error:
        raise TrainingDataError(
            f"{path} is not UTF-8 ({error.reason}); save it as UTF-8"
        ) from error


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _csv(stream: TextIO, path: Path, needed: Sequence[str]) -> Iterator[TableRow]:
    first = stream.readline()
    separator = max(",;\t", key=first.count)
    reader = csv.reader(stream, delimiter=separator, strict=True)
    try:
        names = next(csv.reader([first], delimiter=separator, strict=True), [])
        header = [name.strip().lower() for name in names]
        _refuse_missing(header, needed, f"{path} line 1")
        for cells in reader:
            row = TableRow(f"{path} line {1 + reader.line_num}", {})
            if len(cells) != len(header) and cells:
                raise row.error(f"{len(cells)} cells where the header has {len(header)}")
            if cells:
                yield TableRow(row.where, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise TrainingDataError(f"{path} line {1 + reader.line_num}: {error}; {CURE}") from error


def _jsonl(stream: TextIO, path: Path, needed: Sequence[str]) -> Iterator[TableRow]:
    for number, line in enumerate(stream, start=1):
        if line.strip():
            yield parse_json(line, where=f"{path} line {number}", needed=needed)


def parse_json(text: str, *, where: str, needed: Sequence[str] = ()) -> TableRow:
    """One JSON object as a row.

    Raises:
        TrainingDataError: it is none, or a column is missing.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TrainingDataError(f"{where}: not JSON ({error}); {CURE}") from error
    if not isinstance(values, dict):
        raise TrainingDataError(f"{where}: {type(values).__name__}, not an object; {CURE}")
    row = TableRow(where, {key.strip().lower(): value for key, value in values.items()})
    _refuse_missing(list(row.values), needed, where)
    return row


def _refuse_missing(names: Sequence[str], needed: Sequence[str], where: str) -> None:
    if missing := [name for name in needed if name not in names]:
        raise TrainingDataError(
            f"{where} has no column {', '.join(missing)}; it has {', '.join(names)[:300] or 'none'}"
        )
