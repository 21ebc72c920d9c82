"""Reads a user's file into entries with checked fields: JSONL, JSON as ReXrank has it, CSV."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from encoders.json_text import parse_strict
from encoders.tabular import TableError, is_table, read_table
from encoders.tabular import identifier as table_id
from eval.errors import EvalDataError, EvalUsageError, Problems

T = TypeVar("T")

MAX_WORDS = 2_000
"""Far longer than any chest X-ray report: a longer draft is a generation gone wrong."""


class FieldError(Exception):
    """A field is invalid; the message is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a file.

    Attributes:
        values: its fields, by name.
        where: "line 17", or the entry's key or place in a JSON file.
        key: the key it stands under in a JSON object of objects, else empty.
    """

    values: dict[str, Any]
    where: str = ""
    key: str = ""

    def identifier(self, *names: str) -> str:
        """The first of these fields that is there, as text; empty if none is.

        Raises:
            FieldError: it is no text and no whole number, a number that was rounded (1.2E+11), or
                has a control character.
        """
        for name in names:
            value = self.values.get(name)
            if isinstance(value, bool | list | dict):
                raise FieldError(
                    f"{name} is a {type(value).__name__}, not a text or a whole number"
                )
            try:
                text = table_id(value)
            except ValueError as error:
                raise FieldError(f"{name} {error}") from error
            if not text.isprintable():
                raise FieldError(f"{name} holds a control character")
            if text:
                return text
        return ""

    def text(self, name: str) -> str:
        """A text without the white space around it; empty if it is missing, null or blank.

        Raises:
            FieldError: it is no text, only a word for nothing, or far too long.
        """
        value = self.values.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise FieldError(f"{name} is a {type(value).__name__}, not a text")
        stripped = value.strip()
        if stripped.lower() in {"nan", "none", "null", "n/a"}:
            raise FieldError(f"{name} is the word {stripped!r}: leave out what is missing")
        return checked_length(stripped, name)

    def number(self, name: str) -> float | None:
        """A finite number, or None if it is missing or null.

        Raises:
            FieldError: it is something else.
        """
        value = self.values.get(name)
        if value is None:
            return None
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise FieldError(f"{name} is {value!r}, not a finite number")
        return float(value)


def checked_length(text: str, name: str) -> str:
    """The text.

    Raises:
        FieldError: it has more words than `MAX_WORDS`.
    """
    words = len(text.split())
    if words > MAX_WORDS:
        raise FieldError(
            f"{name} has {words} words: more than {MAX_WORDS} is too long for a report"
        )
    return text


def parse_entries(
    path: Path,
    parse: Callable[[Entry], T | None],
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
        EvalUsageError: no such file, or its ending says nothing.
        EvalDataError: names every line that is wrong, or says why none can be read.
    """
    if not path.is_file():
        raise EvalUsageError(f"there is no file {path}")
    if path.suffix.lower() == ".json":
        read = _json_entries
    elif is_table(path):
        read = _table_entries
    else:
        kinds = ".jsonl, .ndjson, .json, .csv, .tsv"
        raise EvalUsageError(f"{path} is none of {kinds}: name it by what it holds")
    problems = Problems(path)
    found: dict[str, T] = {}
    first: dict[str, str] = {}
    for entry in read(path, problems):
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


def _table_entries(path: Path, problems: Problems) -> Iterator[Entry]:
    in_json = path.suffix.lower() in (".jsonl", ".ndjson")
    try:
        for row in read_table(path, strict=True):
            if row.problem:
                problems.add(row.where, row.problem)
            elif in_json:
                yield Entry(row.values, row.where)
            else:  # an empty cell is a missing value
                yield Entry({name: cell or None for name, cell in row.values.items()}, row.where)
    except TableError as error:
        raise EvalDataError(str(error)) from error


def _json_entries(path: Path, problems: Problems) -> Iterator[Entry]:
    """An object of objects by study id, or a list of objects, as ReXrank's files are.

    Those files hold NaN for a missing section, as pandas writes it: here, and only here, NaN is
    read as missing.
    """
    try:
        content = parse_strict(path.read_text("utf-8-sig"), nan_is_null=True)
    except UnicodeDecodeError as error:
        raise EvalDataError(f"{path} is not UTF-8 ({error.reason}): save it as UTF-8") from error
    except ValueError as error:
        raise EvalDataError(f"{path}: {error}") from error
    if isinstance(content, dict):
        found = [(f"entry {key!r}", value, key) for key, value in content.items()]
    elif isinstance(content, list):
        found = [(f"entry {at}", value, "") for at, value in enumerate(content, 1)]
    else:
        raise EvalDataError(f"{path} is neither an object of studies nor a list of them")
    for where, values, key in found:
        if isinstance(values, dict):
            yield Entry(values, where, key)
        else:
            problems.add(where, f"is a {type(values).__name__}, not an object")
