"""Reads a user's CSV, JSONL or ReXrank JSON and checks every entry against a pydantic model."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from encoders.json_text import parse_strict
from encoders.tabular import TableError, is_json_lines, is_table, parse_id, read_table
from eval.errors import EvalDataError, EvalUsageError, Problems


class Entry(BaseModel):
    """One entry of a file; ``where`` is "line 17", or its key or position in a JSON file."""

    model_config = ConfigDict(frozen=True, validate_by_name=True)

    where: str = ""

    @property
    def key(self) -> str:
        """Unique within the file."""
        return self.where

    @model_validator(mode="before")
    @classmethod
    def _prefer_values(cls, row: dict[str, Any]) -> dict[str, Any]:
        """Drop an empty column if another column of the same field has a value."""
        empty = {name for name, value in row.items() if value is None or value == ""}
        for field in cls.model_fields.values():
            alias = field.validation_alias
            names = set(alias.choices if isinstance(alias, AliasChoices) else ()) & row.keys()
            if names - empty:
                row = {name: row[name] for name in row if name not in names & empty}
        return row


T = TypeVar("T", bound=Entry)


def _identifier(value: Any) -> str:
    text = parse_id(value)
    if not text.isprintable():
        raise ValueError("holds a control character")
    return text


def _text(value: Any) -> Any:
    stripped = value.strip() if isinstance(value, str) else value
    if isinstance(stripped, str) and stripped.lower() in {"nan", "none", "null", "n/a"}:
        raise ValueError(f"is the word {stripped!r}: leave out what is missing")
    return "" if stripped is None else stripped


Identifier = Annotated[str, BeforeValidator(_identifier)]
"""Text or an exact whole number (not 1.2E+11); empty for null."""

Text = Annotated[str, BeforeValidator(_text)]
"""Stripped text, but not the mere word "nan" or "none"; empty for null."""


def column(*names: str, required: bool = False) -> Any:
    """A text field under any of these column names; the first one with a value is used."""
    alias = AliasChoices(*names)
    if required:
        return Field(min_length=1, validation_alias=alias)
    return Field(default="", validation_alias=alias)


def parse_entries(path: Path, model: type[T]) -> dict[str, T]:
    """Every entry of a file by its key.

    Raises:
        EvalUsageError: no such file, or an unknown file extension.
        EvalDataError: names every invalid line, or says why the file cannot be read.
    """
    if not path.is_file():
        raise EvalUsageError(f"there is no file {path}")
    if path.suffix.lower() == ".json":
        read = _read_json
    elif is_table(path):
        read = _read_table
    else:
        extensions = ".jsonl, .ndjson, .json, .csv, .tsv"
        raise EvalUsageError(f"{path} is none of {extensions}: rename it to match its format")
    problems = Problems(path)
    entries: dict[str, T] = {}
    for where, values in read(path, problems):
        try:
            entry = model.model_validate({**values, "where": where})
        except ValidationError as error:
            problems.add(where, "; ".join(map(_describe, error.errors())))
            continue
        if entry.key in entries:
            problems.add(where, f"the id {entry.key} was on {entries[entry.key].where} already")
        entries.setdefault(entry.key, entry)
    problems.raise_if_any()
    return entries


def _describe(error: Any) -> str:
    """What is wrong with a field; its value only if it is a number, as text may be a report."""
    message = error["msg"].removeprefix("Value error, ")
    value = f"(value: {error['input']!r})" if isinstance(error["input"], int | float) else ""
    return " ".join([".".join(map(str, error["loc"])), message, value]).strip()


_Rows = Iterator[tuple[str, dict[str, Any]]]
"""Where each entry is, and its values."""


def _read_table(path: Path, problems: Problems) -> _Rows:
    is_json = is_json_lines(path)
    try:
        for row in read_table(path, strict=True):
            if row.problem:
                problems.add(row.where, row.problem)
            elif is_json:
                yield row.where, row.values
            else:  # an empty cell is a missing value
                yield row.where, {name: cell or None for name, cell in row.values.items()}
    except TableError as error:
        raise EvalDataError(str(error)) from error


def _read_json(path: Path, problems: Problems) -> _Rows:
    """ReXrank's format: an object of objects by study id, or a list of objects.

    NaN is read as missing here, and only here: these files were written by pandas.
    """
    try:
        content = parse_strict(path.read_text("utf-8-sig"), nan_is_null=True)
    except UnicodeDecodeError as error:
        raise EvalDataError(f"{path} is not UTF-8 ({error.reason}): save it as UTF-8") from error
    except ValueError as error:
        raise EvalDataError(f"{path}: {error}") from error
    if isinstance(content, dict):
        entries = [(f"entry {key!r}", value, {"study_id": key}) for key, value in content.items()]
    elif isinstance(content, list):
        entries = [(f"entry {number}", value, {}) for number, value in enumerate(content, 1)]
    else:
        raise EvalDataError(f"{path} is neither an object of studies nor a list of them")
    for where, values, default_id in entries:
        if isinstance(values, dict):
            has_id = any(values.get(name) not in (None, "") for name in ("study_id", "id"))
            yield where, values if has_id else values | default_id
        else:
            problems.add(where, f"is a {type(values).__name__}, not an object")
