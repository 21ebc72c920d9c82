"""Files of a report collection -> rows, one at a time, whatever is wrong inside them.

Knows how CSV, JSONL and text files go wrong; does not know what a row must hold.
"""

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag.corpus import Problem
from rag.errors import CorpusError

_LONGEST_LINE = 1_000_000  # characters; what is longer is cut, and then fails as a row
_MIMIC_PATIENT = re.compile(r"p\d{8}")  # files/p10/p10000032/s50414267.txt
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Row:
    """One report as its file has it: where it stands, and its columns."""

    where: str
    values: dict[str, Any]


def csv_rows(path: Path) -> Iterator[Row | Problem]:
    """Rows of a CSV file with a header line.

    Quoting is read strictly: a stray quotation mark would else swallow the next patients' rows
    into one report.

    Raises:
        CorpusError: the header has no report_id column.
    """
    lines = _lines(path)
    header, delimiter = _header(path, next(lines, ""))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        first = reader.line_num + 2
        try:
            fields = next(reader, None)
        except csv.Error as error:
            yield Problem(_where(first, reader.line_num + 1), f"not readable as CSV: {error}")
            continue
        if fields is None:
            return
        where = _where(first, reader.line_num + 1)
        if len(fields) == len(header):
            yield Row(where, dict(zip(header, fields, strict=True)))
        elif fields:
            yield Problem(where, f"has {len(fields)} fields where the header has {len(header)}")


def jsonl_rows(path: Path) -> Iterator[Row | Problem]:
    """Objects of a file with one JSON object a line; empty lines are skipped."""
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Problem(f"line {number}", f"not JSON: {_first_words(error)}")
            continue
        if isinstance(values, dict):
            yield Row(f"line {number}", {key.strip().lower(): values[key] for key in values})
        else:
            yield Problem(f"line {number}", f"is {type(values).__name__}, not a JSON object")


def text_rows(folder: Path) -> Iterator[Row | Problem]:
    """Text files of a folder and its subfolders, by path; the file name is the report id."""
    paths = (path for path in folder.rglob("*") if path.suffix.lower() == ".txt")
    for path in sorted(paths):
        where = str(path.relative_to(folder))
        try:
            size = path.stat().st_size
            if size > _LONGEST_LINE:
                yield Problem(where, f"{size} bytes is not one report", path.stem)
                continue
            text = path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            reason = f"not UTF-8 at byte {error.start}: save it as UTF-8"
            yield Problem(where, reason, path.stem)
        except OSError as error:
            yield Problem(where, error.strerror or str(error), path.stem)
        else:
            values = {"report_id": path.stem, "study_id": path.stem, "text": text}
            if _MIMIC_PATIENT.fullmatch(path.parent.name):
                values["patient_id"] = path.parent.name
            yield Row(where, values)


def _header(path: Path, line: str) -> tuple[list[str], str]:
    """Column names in small letters, and what separates them."""
    delimiter = max(",;\t", key=line.count)
    try:
        names = [name.strip().lower() for name in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error as error:
        raise CorpusError(f"{path.name} has no readable header line: {error}") from error
    shown = ", ".join(name[:40] for name in names[:12])
    if "report_id" not in names:
        raise CorpusError(f"{path.name} has no column report_id; its columns are: {shown}")
    if len(set(names)) < len(names):
        raise CorpusError(f"{path.name} has two columns of the same name: {shown}")
    return names, delimiter


def _lines(path: Path) -> Iterator[str]:
    """Lines with their ends. Bytes that are not UTF-8 arrive as surrogates, for the row to fail."""
    with path.open("rb") as raw:
        if raw.read(2) in _UTF16_MARKS:
            raise CorpusError(f"{path.name} is UTF-16: save it as UTF-8")
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as file:
        while line := file.readline(_LONGEST_LINE):
            cut = not line.endswith("\n")
            yield line
            while cut and (rest := file.readline(_LONGEST_LINE)):
                cut = not rest.endswith("\n")


def _where(first: int, last: int) -> str:
    return f"line {first}" if first == last else f"lines {first}-{last}"


def _first_words(error: Exception) -> str:
    """What the JSON reader says, without the text it stumbled over."""
    return str(error).partition(":")[0] if isinstance(error, ValueError) else "nested too deeply"
