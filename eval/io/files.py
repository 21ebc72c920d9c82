"""Reads a user's file into entries: JSONL, JSON as ReXrank has it, CSV. Knows no field."""

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.errors import EvalDataError, EvalUsageError, Problems
from rag.predictions import read_lines

_LARGEST_CELL = 1_000_000


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One entry of a file.

    Attributes:
        where: "line 17", or the entry's key or place in a JSON file.
        values: its fields, by name.
        key: the key it stands under in a JSON object of objects, else empty.
    """

    where: str
    values: dict[str, Any]
    key: str = ""


def read_entries(path: Path, problems: Problems) -> Iterator[FileEntry]:
    """Entries in order; what cannot be read goes to ``problems``.

    Raises:
        EvalUsageError: there is no such file, or its ending says nothing.
        EvalDataError: the whole file cannot be read.
    """
    if not path.is_file():
        raise EvalUsageError(f"there is no file {path}")
    readers = {".jsonl": _jsonl, ".ndjson": _jsonl, ".json": _json, ".csv": _csv, ".tsv": _csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise EvalUsageError(f"{path} is none of {', '.join(readers)}: name it by what it holds")
    yield from reader(path, problems)


def _jsonl(path: Path, problems: Problems) -> Iterator[FileEntry]:
    for line in read_lines(path):
        where = f"line {line.number}"
        if line.problem:
            problems.add(where, line.problem)
        else:
            yield FileEntry(where, line.values)


def _json(path: Path, problems: Problems) -> Iterator[FileEntry]:
    """An object of objects by study id, or a list of objects, as ReXrank's files are.

    Those files hold NaN for a missing section, as pandas writes it: here, and only here, NaN is
    read as missing.
    """
    try:
        content = json.loads(_decoded(path), object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise EvalDataError(f"{path} is not JSON: {where}: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise EvalDataError(f"{path} cannot be read: {error or 'nested too deeply'}") from error
    if isinstance(content, dict):
        found = [(f"entry {key!r}", value, key) for key, value in content.items()]
    elif isinstance(content, list):
        found = [(f"entry {at}", value, "") for at, value in enumerate(content, 1)]
    else:
        raise EvalDataError(f"{path} is neither an object of studies nor a list of them")
    for where, values, key in found:
        if isinstance(values, dict):
            yield FileEntry(where, {name: _given(value) for name, value in values.items()}, key)
        else:
            problems.add(where, f"is a {type(values).__name__}, not an object")


def _given(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _csv(path: Path, problems: Problems) -> Iterator[FileEntry]:
    before = csv.field_size_limit(_LARGEST_CELL)  # the limit is the whole process's
    try:
        yield from _csv_rows(path, problems)
    finally:
        csv.field_size_limit(before)


def _csv_rows(path: Path, problems: Problems) -> Iterator[FileEntry]:
    lines = _decoded(path).splitlines(keepends=True)
    reader = csv.DictReader(
        lines, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True
    )
    try:
        header = list(reader.fieldnames or [])
        twice = {name for name in header if header.count(name) > 1}
        if twice:
            raise EvalDataError(f"{path} has the column {twice.pop()!r} twice")
        for row in reader:
            # a record ends on line_num; with newlines in its cells it began earlier
            where = f"line {reader.line_num}"
            if None in row:
                problems.add(where, f"has more cells than the {len(header)} columns")
            elif None in row.values():
                problems.add(where, f"has fewer cells than the {len(header)} columns")
            else:
                yield FileEntry(where, {name: cell or None for name, cell in row.items()})
    except csv.Error as error:
        raise EvalDataError(f"{path}, line {reader.line_num}: {error}") from error


def _decoded(path: Path) -> str:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise EvalDataError(
            f"{path}, line {line}: not UTF-8 (byte 0x{data[error.start]:02x}): save it as UTF-8"
        ) from error
    if "\x00" in text:
        raise EvalDataError(f"{path} holds zero bytes, as UTF-16 does: save it as UTF-8")
    return text


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return values
