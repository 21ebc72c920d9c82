"""Reads a user's file of rows, checked against a model: JSONL, JSON as ReXrank has it, CSV."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from encoders.json_text import parse_strict
from encoders.tabular import TableError, is_table, parse_id, read_table
from eval.errors import EvalDataError, EvalUsageError, Problems


class Entry(BaseModel):
    """One entry of a file; ``where`` is "line 17", or its key or place in a JSON file."""

    model_config = ConfigDict(frozen=True, validate_by_name=True)

    where: str = ""

    @property
    def key(self) -> str:
        """What only one entry of a file may be called."""
        return self.where


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
"""Text or a whole number, that is not rounded (1.2E+11); empty for null."""

Text = Annotated[str, BeforeValidator(_text)]
"""Text without the white space around it, and not only a word for nothing; empty for null."""


def named(*names: str, needed: bool = False) -> Any:
    """A field that files call by one of these names; the first that is there counts."""
    names_of = AliasChoices(*names)
    if needed:
        return Field(min_length=1, validation_alias=names_of)
    return Field(default="", validation_alias=names_of)


def parse_entries(path: Path, model: type[T]) -> dict[str, T]:
    """Every entry of a file by its key.

    Args:
        path: the file.
        model: of an entry. One that stands under a key in a JSON object of objects has it as
            ``study_id``, unless it has an id of its own.

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
    for where, values in read(path, problems):
        try:
            item = model.model_validate({**values, "where": where})
        except ValidationError as error:
            problems.add(where, "; ".join(_reason(each) for each in error.errors()))
            continue
        if item.key in found:
            problems.add(where, f"the id {item.key} was on {found[item.key].where} already")
        found.setdefault(item.key, item)
    problems.raise_if_any()
    return found


def _reason(error: Any) -> str:
    """What is wrong with a field; its value only if it is a number, as text may be a report."""
    said = error["msg"].removeprefix("Value error, ")
    value = f"(value: {error['input']!r})" if isinstance(error["input"], int | float) else ""
    return " ".join([".".join(map(str, error["loc"])), said, value]).strip()


_Values = tuple[str, dict[str, Any]]


def _table_entries(path: Path, problems: Problems) -> Iterator[_Values]:
    in_json = path.suffix.lower() in (".jsonl", ".ndjson")
    try:
        for row in read_table(path, strict=True):
            if row.problem:
                problems.add(row.where, row.problem)
            elif in_json:
                yield row.where, row.values
            else:  # an empty cell is a missing value
                yield row.where, {name: cell or None for name, cell in row.values.items()}
    except TableError as error:
        raise EvalDataError(str(error)) from error


def _json_entries(path: Path, problems: Problems) -> Iterator[_Values]:
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
        found = [(f"entry {key!r}", value, {"study_id": key}) for key, value in content.items()]
    elif isinstance(content, list):
        found = [(f"entry {at}", value, {}) for at, value in enumerate(content, 1)]
    else:
        raise EvalDataError(f"{path} is neither an object of studies nor a list of them")
    for where, values, own in found:
        if isinstance(values, dict):
            has_id = any(values.get(name) not in (None, "") for name in ("study_id", "id"))
            yield where, values if has_id else values | own
        else:
            problems.add(where, f"is a {type(values).__name__}, not an object")
