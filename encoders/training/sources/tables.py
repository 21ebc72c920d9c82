"""Rows of CSV and JSONL tables, each with the place that an error names, and their cells."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoders.tabular import TableError, identifier, is_table, read_table
from encoders.training.dataset import TrainingDataError

CURE = "correct the row or take it out"


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row: where it stands, and its cells by column name in small letters.

    Every reading of a cell raises `TrainingDataError` where the cell is something else.
    """

    where: str
    values: Mapping[str, Any]

    def error(self, reason: str, *, cure: str = CURE) -> TrainingDataError:
        """The error of this row, to be raised."""
        return TrainingDataError(f"{self.where}: {reason}; {cure}")

    def text(self, key: str) -> str:
        """A cell as text without the blanks around it; empty if it is not there."""
        value = self.values.get(key)
        if isinstance(value, str):
            return value.strip()
        try:
            return identifier(value)
        except ValueError as error:
            raise self.error(f"{key} {error}") from None

    def needed(self, key: str) -> str:
        """A cell that must not be empty."""
        value = self.text(key)
        if not value:
            raise self.error(f"{key} is empty")
        return value

    def number(self, key: str) -> float:
        """A finite number."""
        return self.as_number(self.values.get(key), key)

    def as_number(self, value: object, name: str) -> float:
        """Any value of this row as a finite number."""
        try:
            number = float(value) if isinstance(value, str | int | float) else math.nan
        except (ValueError, OverflowError):
            number = math.nan
        if isinstance(value, bool) or not math.isfinite(number):
            raise self.error(f"{name} is {str(value)[:40]!r}, not a finite number")
        return number


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
    """Rows of a table (`encoders.tabular`) that has the needed columns.

    Raises:
        TrainingDataError: the file cannot be read, a column is missing, or a row is broken.
    """
    if not is_table(path):
        raise TrainingDataError(f"{path} is no table that can be read; give a .csv or .jsonl file")
    try:
        for found in read_table(path, needed=needed):
            row = TableRow(f"{path} {found.where}", found.values)
            if found.problem:
                raise row.error(found.problem)
            if missing := [name for name in needed if name not in row.values]:
                raise row.error(f"has no {', '.join(missing)}")
            yield row
    except TableError as error:
        raise TrainingDataError(f"{error} (in {path.parent})") from error
    except OSError as error:
        raise TrainingDataError(f"cannot read {path}: {error.strerror or error}") from error
