"""Reads the study ids that an index shall leave out: `cxr-rag index --exclude FILE`."""

from collections.abc import Iterator
from pathlib import Path

from encoders.tabular import TableError, identifier, is_table, read_table
from rag.errors import CorpusError

_KEY = "study_id"


def read_exclude_file(path: Path) -> frozenset[str]:
    """Study ids from a file.

    A table (.csv, .tsv, .jsonl) has a column study_id; any other file has one
    id a line, where "#" begins a comment.

    Raises:
        CorpusError: the file cannot be read, or a line has no study id. An exclusion that is half
            read would let an evaluation's studies into its own index, so nothing is skipped.
    """
    try:
        named = list(_from_table(path) if is_table(path) else _from_lines(path))
    except (OSError, UnicodeDecodeError, TableError) as error:
        raise CorpusError(f"{path} cannot be read: {error}") from error
    if not named:
        raise CorpusError(f"{path} names no study")
    return frozenset(named)


def _from_lines(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8-sig").split("\n"):
        if study_id := line.partition("#")[0].strip():
            yield study_id


def _from_table(path: Path) -> Iterator[str]:
    for row in read_table(path, needed=(_KEY,)):
        try:
            study_id = identifier(row.values.get(_KEY))
        except ValueError as error:
            raise CorpusError(f"{path} {row.where}: {_KEY} {error}") from error
        if row.problem or not study_id:
            raise CorpusError(f"{path} {row.where}: {row.problem or f'no {_KEY}'}")
        yield study_id
