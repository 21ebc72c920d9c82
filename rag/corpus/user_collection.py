"""Reads a user's own reports: a CSV or JSONL file, or a folder of .txt files.

The columns are documented in docs/collections.md. A row that cannot be used becomes a `Problem`
with its line and the reason; the rest is read. Screening for names and dates happens at indexing.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from datetime import date, datetime
from html import unescape
from pathlib import Path
from typing import Any

from encoders.report_sections import parse_sections
from encoders.tabular import (
    Row,
    TableError,
    is_missing,
    is_repaired_id,
    is_table,
    parse_id,
    read_table,
)
from rag.corpus.records import Corpus, Problem, make_corpus
from rag.errors import CorpusError
from rag.report_nlp.sentences import with_sentences
from rag.schema import ReportRecord

_IDS = ("report_id", "study_id", "patient_id")
_TEXTS = ("findings", "impression", "addendum", "text", "indication", "comparison")
COLUMNS = (*_IDS, *_TEXTS, "labels", "date")
_COLUMN_ALIASES = {
    "reportid": "report_id",
    "studyid": "study_id",
    "patientid": "patient_id",
    "report": "text",
    "id": "report_id",
    "studyinstanceuid": "study_id",
}
"""Columns of PadChest's and ReXGradient's tables -> ours."""
MAX_SECTION_CHARS = 50_000
"""The longest Open-I report has 1 054."""

_MAX_ID_CHARS = 128
_MAX_FILE_BYTES = 1_000_000
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ESCAPED_LINE_END = re.compile(r"\\r\\n|\\n|\\r")
_EXPORT_MARKUP = re.compile(
    r"_x000D_|(?P<line><br ?/?>|</(?:p|div|li|h\d)>)|</?(?:p|div|ul|ol|li|span)(?: [^<>]*)?>",
    re.IGNORECASE,
)
"""What Excel and web forms write for carriage returns, line ends and paragraphs."""
_HTML_ENTITY = re.compile(r"&(?:[a-z]{2,6}|#\d{1,5}|#x[0-9a-f]{1,4});", re.IGNORECASE)
_MIMIC_PATIENT = re.compile(r"p\d{8}")  # files/p10/p10000032/s50414267.txt
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class _RowError(Exception):
    """A row cannot be used; the message says why."""


def read_collection(
    path: Path, *, name: str = "", licence: str = "not stated", attribution: str = ""
) -> Corpus:
    """A user's own collection.

    Args:
        path: a .csv (comma, semicolon or tab), .jsonl or .ndjson file, or a folder of .txt.
        name: of the collection in the index; by default the file's or folder's name.
        licence: shown wherever its reports are shown.
        attribution: shown beside the licence.

    Raises:
        CorpusError: nothing can be read: no such file, empty, another format, no report_id.
    """
    try:
        if path.is_dir():
            rows = _text_rows(path)
        elif not path.exists():
            raise CorpusError(f"there is no {path}")
        elif not is_table(path):
            raise CorpusError(
                f"{path.name}: {path.suffix or 'no suffix'} is not a report collection; give .csv, "
                ".jsonl or a folder of .txt files"
            )
        elif path.stat().st_size == 0:
            raise CorpusError(f"{path} is empty")
        else:
            id_columns = ("report_id", "reportid", "id")
            rows = map(_rename_columns, read_table(path, required=(id_columns,)))
        records, problems, warnings = _read_rows(rows)
    except TableError as error:
        raise CorpusError(str(error)) from error
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror or error}") from error
    if not records and not problems:
        raise CorpusError(f"{path} holds no report")
    return make_corpus(
        name or path.resolve().stem,
        records=records,
        problems=problems,
        warnings=warnings,
        licence=licence,
        attribution=attribution,
    )


def _rename_columns(row: Row) -> Row:
    values = dict(row.values)
    for alias, column in _COLUMN_ALIASES.items():
        if alias in values and column not in values:
            values[column] = values.pop(alias)
    return replace(row, values=values)


def _text_rows(folder: Path) -> Iterator[Row]:
    """Text files of a folder and its subfolders, by path; the file name is the report id."""
    paths = (path for path in folder.rglob("*") if path.suffix.lower() == ".txt")
    for path in sorted(paths):
        where = str(path.relative_to(folder))
        values = {"report_id": path.stem, "study_id": path.stem}
        try:
            size = path.stat().st_size
            if size > _MAX_FILE_BYTES:
                yield Row(where, values, f"{size} bytes is not one report")
                continue
            data = path.read_bytes()
            text = data.decode("utf-16" if data.startswith(_UTF16_MARKS) else "utf-8-sig")
        except UnicodeDecodeError as error:
            yield Row(where, values, f"not UTF-8 at byte {error.start}: save it as UTF-8")
        except OSError as error:
            yield Row(where, values, error.strerror or str(error))
        else:
            values["text"] = text
            if _MIMIC_PATIENT.fullmatch(path.parent.name):
                values["patient_id"] = path.parent.name
            yield Row(where, values)


def _read_rows(rows: Iterable[Row]) -> tuple[list[ReportRecord], list[Problem], list[str]]:
    records: list[ReportRecord] = []
    where_seen: dict[str, str] = {}
    problems: list[Problem] = []
    missing_ids: Counter[str] = Counter()
    repaired_ids: Counter[str] = Counter()
    unused_columns: set[str] = set()
    for row in rows:
        report_id = str(row.values.get("report_id", "")).strip()[:_MAX_ID_CHARS]
        if "imageid" in row.values and report_id in where_seen:
            continue  # PadChest has one row per image of a report
        try:
            record = _make_record(row, where_seen)
        except _RowError as error:
            problems.append(Problem(row.where, str(error), report_id))
            continue
        where_seen[record.report_id] = row.where
        records.append(record)
        missing_ids.update(key for key in _IDS[1:] if is_missing(row.values.get(key)))
        repaired_ids.update(key for key in _IDS if is_repaired_id(row.values.get(key)))
        unused_columns.update(key for key in row.values if key not in COLUMNS)
    default_of = {"study_id": "report_id", "patient_id": "study_id"}
    warnings = [
        f"{count} of {len(records)} reports have no {key}; their {default_of[key]} is taken "
        f"instead, so reports of the same {key.removesuffix('_id')} may be retrieved for each other"
        for key, count in missing_ids.items()
    ]
    warnings += [
        f"{count} values of {key} had become numbers with a point (77.0), a comma or a quotation "
        "mark and are read without it"
        for key, count in repaired_ids.items()
    ]
    if unused_columns:
        warnings.append(f"columns that are not used: {', '.join(sorted(unused_columns))}"[:500])
    if is_not_english(record.text for record in records):
        warnings.append(NOT_ENGLISH)
    return records, problems, warnings


def _make_record(row: Row, where_seen: Mapping[str, str]) -> ReportRecord:
    if row.problem:
        raise _RowError(row.problem)
    values = row.values
    report_id = _clean_id(values, "report_id", default="")
    if report_id in where_seen:
        raise _RowError(f"its report_id is used at {where_seen[report_id]} already")
    study_id = _clean_id(values, "study_id", default=report_id)
    texts = {key: _clean_text(values.get(key), key) for key in _TEXTS}
    if not texts["findings"].strip() and not texts["impression"].strip():
        parsed = parse_sections(texts["text"])
        texts |= {key: value for key, value in asdict(parsed).items() if value}
    if texts["addendum"].strip():  # corrects the rest, so it is read last
        texts["impression"] = f"{texts['impression']}\n\n{texts['addendum']}".strip()
    if not texts["findings"].strip() and not texts["impression"].strip():
        raise _RowError("has neither findings nor impression nor text")
    return with_sentences(
        ReportRecord(
            report_id=report_id,
            study_id=study_id,
            patient_id=_clean_id(values, "patient_id", default=study_id),
            findings=texts["findings"],
            impression=texts["impression"],
            indication=texts["indication"],
            comparison=texts["comparison"],
            labels=_parse_labels(values.get("labels")),
            date=_parse_date(values.get("date")),
        )
    )


def _clean_id(values: Mapping[str, Any], key: str, *, default: str) -> str:
    try:
        value = _clean_text(parse_id(values.get(key)), key) or default
    except ValueError as error:
        raise _RowError(f"{key} {error}") from error
    if not value:
        raise _RowError(f"has no {key}")
    if len(value) > _MAX_ID_CHARS or _CONTROL_CHARACTER.search(value):
        raise _RowError(
            f"{key} is longer than {_MAX_ID_CHARS} characters or holds control characters"
        )
    return value


def _clean_text(value: Any, key: str) -> str:
    if is_missing(value):
        return ""
    if not isinstance(value, str):
        raise _RowError(f"{key} is {type(value).__name__}, not text")
    if "\x00" in value:
        raise _RowError(f"{key} holds a NUL byte: the file is damaged or not text")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise _RowError(f"{key} is not valid UTF-8: save the file as UTF-8")
    if len(value) > MAX_SECTION_CHARS:
        raise _RowError(f"{key} has {len(value)} characters, more than {MAX_SECTION_CHARS}")
    value = _EXPORT_MARKUP.sub(lambda found: "\n" if found["line"] else "", value)
    value = _HTML_ENTITY.sub(lambda found: unescape(found.group()), value)
    return _ESCAPED_LINE_END.sub("\n", value)


def _parse_labels(value: Any) -> tuple[str, ...]:
    parts = value.split(";") if isinstance(value, str) else ([] if is_missing(value) else value)
    if isinstance(value, str) and value.startswith("["):  # a list of Python, as in PadChest
        parts = re.findall(r"'([^']*)'", value)
    if not isinstance(parts, list):
        raise _RowError(f"labels is {type(value).__name__}, not a list or text separated by ';'")
    labels = [_clean_text(part, "labels").strip() for part in parts]
    return tuple(dict.fromkeys(label for label in labels if label))


def _parse_date(value: Any) -> str:
    text = _clean_text(value, "date").strip()
    try:
        if len(text) <= len("2026-11-24"):
            return date.fromisoformat(text).isoformat() if text else ""
        return datetime.fromisoformat(text).isoformat()
    except ValueError:
        raise _RowError("date is not ISO 8601 (2026-11-24)") from None


NOT_ENGLISH = (
    "most of these reports do not look English: labels, evidence sentences and the check of drafts "
    "read English only, and will be empty or wrong for them"
)
_ENGLISH_WORD = re.compile(
    r"\b(?:the|is|are|no|not|of|and|with|without|or|has|have|there|clear|normal|seen|left|right"
    r"|small|lungs?|heart|chest|unchanged|effusion)\b",
    re.IGNORECASE,
)
_FOREIGN_WORD = re.compile(
    r"\b(?:der|die|das|und|kein\w*|nicht|ist|im|mit|ohne|links|rechts|el|los|las|un|una|sin|del|con"
    r"|y|se|le|les|des|et|pas|sans|du|est|dans|il|nel|non|di|della|e|o|na|em|do|da|sem|de|het|een"
    r"|geen|van|ikke|og|och|inte|ve|yok)\b"
    r"|[^\W\d_a-zA-Z]{2,}",  # letters of another script
    re.IGNORECASE,
)


def is_not_english(texts: Iterable[str]) -> bool:
    """Whether most reports have more common words of other languages than of English.

    >>> is_not_english(["Kein Erguss, Herz nicht vergrößert."]), is_not_english(["Cardiomegaly."])
    (True, False)
    """
    foreign = count = 0
    for text in texts:
        count += 1
        foreign += len(_FOREIGN_WORD.findall(text)) > len(_ENGLISH_WORD.findall(text))
    return foreign * 2 > count
