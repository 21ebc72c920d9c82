"""Reads the study ids that an index shall leave out: `cxr-rag index --exclude FILE`."""

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from rag.errors import CorpusError

_KEY = "study_id"


def read_exclude_file(path: Path) -> frozenset[str]:
    """Study ids from a file.

    A .csv has a column study_id, a .jsonl an object with study_id a line; any other file has one
    id a line, where "#" begins a comment.

    Raises:
        CorpusError: the file cannot be read, or a line has no study id. An exclusion that is half
            read would let an evaluation's studies into its own index, so nothing is skipped.
    """
    readers = {".csv": _from_csv, ".jsonl": _from_jsonl, ".ndjson": _from_jsonl}
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
        numbered = list(readers.get(path.suffix.lower(), _from_lines)(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{path} cannot be read: {error}") from error
    ids = {study_id.strip() for _, study_id in numbered}
    if "" in ids:
        first = next(number for number, study_id in numbered if not study_id.strip())
        raise CorpusError(f"{path} line {first}: no {_KEY}")
    if not ids:
        raise CorpusError(f"{path} names no study")
    return frozenset(ids)


def _from_lines(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines, 1):
        if study_id := line.partition("#")[0].strip():
            yield number, study_id


def _from_csv(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    reader = csv.DictReader(lines)
    for row in reader:
        yield reader.line_num, row.get(_KEY) or ""


def _from_jsonl(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError:
            values = None
        yield number, str(values.get(_KEY, "")) if isinstance(values, dict) else ""
