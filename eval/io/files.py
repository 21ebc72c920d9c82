"""Reads a user's file into entries: JSONL, JSON as ReXrank has it, CSV."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from encoders.tabular import TableError, is_table, read_table
from eval.errors import EvalDataError, EvalUsageError, Problems
from eval.io.fields import FieldError

T = TypeVar("T")


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


def parse_entries(
    path: Path,
    parse: Callable[[FileEntry], T | None],
    *,
    key: Callable[[T], str] | None = None,
    what: str = "entry",
) -> dict[str, T]:
    """What `parse` makes of each entry, without those that it skips with None.

    Args:
        path: the file.
        parse: may raise `FieldError`.
        key: under which an entry is returned, and which may be there once only; where there is
            none, its place in the file.
        what: an entry is, for messages.

    Raises:
        EvalUsageError: no such file.
        EvalDataError: names every line that is wrong.
    """
    problems = Problems(path)
    found: dict[str, T] = {}
    first: dict[str, str] = {}
    for entry in read_entries(path, problems):
        try:
            item = parse(entry)
        except FieldError as error:
            problems.add(entry.where, str(error))
            continue
        if item is None:
            continue
        name = key(item) if key else entry.where
        if name in first:
            problems.add(entry.where, f"the {what} {name} was on {first[name]} already")
        found[name] = item
        first.setdefault(name, entry.where)
    problems.raise_if_any()
    return found


def read_entries(path: Path, problems: Problems) -> Iterator[FileEntry]:
    """Entries in order; what cannot be read goes to ``problems``.

    Raises:
        EvalUsageError: there is no such file, or its ending says nothing.
        EvalDataError: the whole file cannot be read.
    """
    if not path.is_file():
        raise EvalUsageError(f"there is no file {path}")
    if path.suffix.lower() == ".json":
        yield from _json(path, problems)
    elif is_table(path):
        yield from _table(path, problems)
    else:
        kinds = ".jsonl, .ndjson, .json, .csv, .tsv"
        raise EvalUsageError(f"{path} is none of {kinds}: name it by what it holds")


def _table(path: Path, problems: Problems) -> Iterator[FileEntry]:
    in_json = path.suffix.lower() in (".jsonl", ".ndjson")
    try:
        for row in read_table(path, strict=True):
            if row.problem:
                problems.add(row.where, row.problem)
            else:
                yield FileEntry(row.where, row.values if in_json else _cells(row.values))
    except TableError as error:
        raise EvalDataError(str(error)) from error


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


def _cells(values: dict[str, Any]) -> dict[str, Any]:
    """Cells of a CSV: an empty one is a missing value."""
    return {name: None if cell == "" else cell for name, cell in values.items()}


def _given(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


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
