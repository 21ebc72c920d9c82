"""Reads users' tables row by row, and tells which rows cannot be used.

CSV separated by comma, semicolon, tab or bar, and JSONL, also .gz, with the quirks of spreadsheets
and pandas: Excel's ``sep=`` line, empty columns, old Mac line ends, UTF-16, "nan" for missing, ids
that became floats. Lines end at a line feed, or at a carriage return if the first line does; never
at U+2028, U+0085, a form feed or a vertical tab, which occur in cells (so no ``str.splitlines``).
"""

import csv
import gzip
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from encoders.json_text import parse_lenient, parse_strict

MAX_LINE_CHARS = 1_000_000
"""Longer lines are truncated, and then fail as a row."""

_DELIMITERS = ",;\t|"
_SEPARATOR_LINE = re.compile(r"""\s*"?sep=(?P<delimiter>.)"?\s*""", re.IGNORECASE)
_HEAD_BYTES = 1 << 16  # searched for the first line end
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_MISSING_VALUES = frozenset(
    ("nan", "-nan", "null", "none", "na", "n/a", "#n/a", "#na", "<na>", "nat", "n.a.", "-", "--")
)
_SPREADSHEET_ERROR = re.compile(r"#(?:REF!|VALUE!|NAME\?|DIV/0!|NUM!|NULL!|SPILL!|CALC!|#+)")
_TEXT_NUMBER = re.compile(r"""="(?P<quoted>[^"]*)"|'(?P<marked>\S+)""")
"""Numbers marked as text in a spreadsheet: ="0077" and '0077."""
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+")
_AMBIGUOUS_THOUSANDS = re.compile(r"\d{1,3}(?:,000|(?:\.000)+)")
"""1,000 and 1.000 are a thousand in one country and 1 in another."""
_WHOLE_FLOAT = re.compile(r"(\d+)[.,]0+")
_EXPONENT = re.compile(r"[+-]?\d+(?:[.,]\d*)?[eE][+-]\d+")
_MAX_EXACT_INT = 2**53
"""Larger whole numbers lose digits as floats."""


class TableError(Exception):
    """A table that cannot be read; the message is a sentence for the user."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Attributes:
        where: "line 7" or "lines 7-9", as an editor counts.
        values: cells by lower-case column name; text in a CSV, any JSON value in JSONL.
        problem: why the row cannot be used; its values then only serve to name it.
    """

    where: str
    values: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


def read_table(
    path: Path, *, required: Sequence[str | tuple[str, ...]] = (), strict: bool = False
) -> Iterator[Row]:
    """Rows of a .csv, .tsv, .jsonl or .ndjson file, also .gz, without empty ones.

    Args:
        path: the file; UTF-8 with or without a byte order mark, or UTF-16 with one.
        required: columns that a CSV's header must have; a tuple names alternatives.
        strict: reject JSON with NaN, duplicate keys or lone surrogates; else NaN means missing, as
            in pandas' files.

    Raises:
        TableError: the header is missing or unreadable, or the file is not text.
        OSError: the file cannot be read.
    """
    if is_json_lines(path):
        yield from _json_rows(path, strict=strict)
    else:
        yield from _csv_rows(path, required)


def is_json_lines(path: Path) -> bool:
    """Whether `read_table` takes a file for JSONL, by its suffix."""
    return _suffix(path) in (".jsonl", ".ndjson")


def is_table(path: Path) -> bool:
    """Whether a file is a table by its name."""
    return is_json_lines(path) or _suffix(path) in (".csv", ".tsv")


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def is_missing(value: object) -> bool:
    """Whether a cell is empty, or says that a value is missing: null, NaN, "N/A".

    >>> [is_missing(value) for value in (None, " ", "NULL", "nan", "None.", 0)]
    [True, True, True, True, False, False]
    """
    if isinstance(value, float):
        return math.isnan(value)
    if isinstance(value, str):
        text = value.strip()
        is_error = _SPREADSHEET_ERROR.fullmatch(text) is not None
        return not text or text.lower() in _MISSING_VALUES or is_error
    return value is None


def parse_id(value: object) -> str:
    """An id as text; empty if it is missing.

    A spreadsheet's or pandas' ``77.0`` is 77, and so are ``="77"`` and ``'77``. An id that lost
    digits is refused, since two patients would become one.

    Raises:
        ValueError: the message continues "the id ...".

    >>> parse_id("77.0"), parse_id(77.0), parse_id(" A7 "), parse_id("nan")
    ('77', '77', 'A7', '')
    """
    if isinstance(value, str) and _SPREADSHEET_ERROR.fullmatch(value.strip()):
        raise ValueError(f"is {value.strip()[:40]}: the spreadsheet lost the id; export it again")
    if is_missing(value):
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"is {type(value).__name__}, not text")  # noqa: TRY004 - a user's value
    text = str(value).strip()
    if as_text := _TEXT_NUMBER.fullmatch(text):
        return (as_text["quoted"] or as_text["marked"] or "").strip()
    if _AMBIGUOUS_THOUSANDS.fullmatch(text):
        raise ValueError(f"is {text[:40]}, with or without thousands; export the column as text")
    if _THOUSANDS.fullmatch(text):
        return text.replace(",", "")
    if _EXPONENT.fullmatch(text):
        raise ValueError(
            f"is {text[:40]}: a spreadsheet made a number of the id and dropped its digits; export "
            "the column as text"
        )
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f"is the number {text[:40]}, not an id")
    whole = _WHOLE_FLOAT.fullmatch(text)
    if not whole:
        return text
    if int(whole[1]) > _MAX_EXACT_INT:
        raise ValueError(f"is {text[:40]}: a number this long was rounded; export it as text")
    return whole[1]


def printable(text: str) -> str:
    """A user's text without control characters, for a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def is_repaired_id(value: object) -> bool:
    """Whether `parse_id` changes this valid id."""
    if isinstance(value, float):
        return not math.isnan(value)
    return isinstance(value, str) and not is_missing(value) and parse_id(value) != value.strip()


def _json_rows(path: Path, *, strict: bool) -> Iterator[Row]:
    max_chars = 10 * MAX_LINE_CHARS if strict else MAX_LINE_CHARS
    for number, line in enumerate(_read_lines(path, max_chars), 1):
        if not line.strip():
            continue
        where = f"line {number}"
        if strict and any("\udc80" <= character <= "\udcff" for character in line):
            yield Row(where, problem="not UTF-8: save the file as UTF-8")
            continue
        try:
            values = parse_strict(line) if strict else parse_lenient(line)
        except ValueError as error:
            yield Row(where, problem=str(error))
            continue
        if isinstance(values, dict):
            cells = {key.strip().lower(): value for key, value in values.items()}
            yield _check_text(where, cells)
        else:
            yield Row(where, problem=f"is a {type(values).__name__}, not a JSON object")


def _csv_rows(path: Path, required: Sequence[str | tuple[str, ...]]) -> Iterator[Row]:
    lines = _read_lines(path)
    first, skipped = next(lines, ""), 1
    marked = _SEPARATOR_LINE.fullmatch(first)
    if marked:
        first, skipped = next(lines, ""), 2
    while first and not first.strip():
        first, skipped = next(lines, ""), skipped + 1
    if "\x00" in first:
        raise TableError(f"{path.name} holds zero bytes, as UTF-16 does: save it as UTF-8")
    delimiter = marked["delimiter"] if marked else _guess_delimiter(first)
    names = _read_header(path, first, delimiter, required)
    # strict: otherwise a stray quotation mark merges the following rows into one field
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        start = reader.line_num + skipped + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            where = _line_range(start, reader.line_num + skipped)
            yield Row(where, problem=f"not readable as CSV: {error}")
            continue
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield _parse_row(_line_range(start, reader.line_num + skipped), names, cells)


def _parse_row(where: str, names: list[str], cells: list[str]) -> Row:
    if not any(cell.strip() for cell in cells[len(names) :]):
        cells = cells[: len(names)]  # spreadsheets keep cells that were once edited
    if len(cells) != len(names):
        return Row(where, problem=f"has {len(cells)} fields where the header has {len(names)}")
    values = {name: cell for name, cell in zip(names, cells, strict=True) if name}
    # pandas writes its index as a first column without a name; others mean that cells have shifted
    for index, name in enumerate(names):
        if index and not name and cells[index].strip():
            return Row(where, problem=f"has a value in column {index + 1}, which has no name")
    return _check_text(where, values)


def _check_text(where: str, values: dict[str, Any]) -> Row:
    for name, value in values.items():
        if not isinstance(value, str):
            continue
        if "\x00" in value:
            reason = f"{name} holds a NUL byte: the file is damaged or not text"
            return Row(where, values, reason)
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            return Row(where, values, f"{name} is not valid UTF-8: save the file as UTF-8")
    return Row(where, values)


def _read_header(
    path: Path, line: str, delimiter: str, required: Sequence[str | tuple[str, ...]]
) -> list[str]:
    """Lower-case column names; raises as `read_table` does."""
    try:
        cells = next(csv.reader([line], delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        raise TableError(f"{path.name} has no readable header line: {error}") from error
    names = [name.strip().lower() for name in cells]
    shown = ", ".join(name[:40] for name in names[:12] if name) or "none"
    for column in required:
        alternatives = (column,) if isinstance(column, str) else column
        if not set(alternatives) & set(names):
            wanted = " or ".join(alternatives)
            raise TableError(f"{path.name} has no column {wanted}; its columns are: {shown}")
    nonempty = [name for name in names if name]
    if len(set(nonempty)) < len(nonempty):
        raise TableError(f"{path.name} has two columns of the same name: {shown}")
    return names


def _guess_delimiter(line: str) -> str:
    """The delimiter that is most frequent outside quotation marks."""
    unquoted = re.sub(r'"[^"]*"', "", line)
    return max(_DELIMITERS, key=unquoted.count)


def _read_lines(path: Path, max_chars: int = MAX_LINE_CHARS) -> Iterator[str]:
    """Lines with their line ends, truncated to ``max_chars``.

    Bytes that are not UTF-8 become surrogates, so that their row fails.
    """
    open_file: Any = gzip.open if path.suffix.lower() == ".gz" else Path.open
    encoding, errors = "utf-8-sig", "surrogateescape"
    try:
        with open_file(path, "rb") as raw:
            head = raw.read(_HEAD_BYTES)
        if head.startswith(_UTF16_BOMS):
            encoding, errors = "utf-16", "replace"
        first_end = re.search(rb"\r\x00?\n?|\n", head)
        end = "\r" if first_end and first_end.group().rstrip(b"\x00") == b"\r" else "\n"
        with open_file(path, "rt", encoding=encoding, errors=errors, newline=end) as stream:
            while line := stream.readline(max_chars):
                yield line
                while not line.endswith(end) and (line := stream.readline(max_chars)):
                    pass  # skip the rest of a long line
    except (EOFError, zlib.error) as error:
        raise OSError(f"{path.name} is damaged or ends in the middle; fetch it again") from error


def _line_range(first: int, last: int) -> str:
    return f"line {first}" if first >= last else f"lines {first}-{last}"
