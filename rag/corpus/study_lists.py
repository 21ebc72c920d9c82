"""Lists beside a collection: studies to leave out of an index, and which images are of which study.

Nothing is skipped: an exclusion that is half read would let an evaluation's studies into its own
index, so one wrong line refuses the file.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from encoders.tabular import TableError, identifier, is_nothing, is_table, read_table
from rag.errors import CorpusError

_STUDY, _IMAGE = "study_id", "image"


def read_exclude_file(path: Path) -> frozenset[str]:
    """Study ids from a table with a column study_id, or from any other file with one id a line.

    In a file that is no table "#" begins a comment.

    Raises:
        CorpusError: the file cannot be read, names no study, or a line has no study id.
    """
    if is_table(path):
        named = frozenset(study for _, study, _ in _rows(path, _STUDY))
    else:
        try:
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise CorpusError(f"{path} cannot be read: {error}") from error
        named = frozenset(line.partition("#")[0].strip() for line in lines) - {""}
    if not named:
        raise CorpusError(f"{path} names no study")
    return named


def read_images_file(path: Path) -> dict[str, tuple[Path, ...]]:
    """Images by study id from a table with the columns study_id and image, a line an image.

    Paths are relative to the file's folder; whether an image is there is seen when it is indexed.

    Raises:
        CorpusError: the file cannot be read, a column is missing, or a line lacks a value.
    """
    images: dict[str, list[Path]] = {}
    for where, study, values in _rows(path, _STUDY, _IMAGE):
        image = values.get(_IMAGE)
        if is_nothing(image) or not isinstance(image, str):
            raise CorpusError(f"{path} {where}: no {_IMAGE}")
        images.setdefault(study, []).append(path.parent / image.strip())
    return {study: tuple(dict.fromkeys(paths)) for study, paths in images.items()}


def _rows(path: Path, *needed: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Place, study id and values of each row."""
    try:
        for row in read_table(path, needed=needed):
            if row.problem:
                raise CorpusError(f"{path} {row.where} cannot be read: {row.problem}")
            try:
                study = identifier(row.values.get(_STUDY))
            except ValueError as error:
                raise CorpusError(f"{path} {row.where}: {_STUDY} {error}") from error
            if not study:
                raise CorpusError(f"{path} {row.where}: no {_STUDY}")
            yield row.where, study, row.values
    except (OSError, TableError) as error:
        raise CorpusError(f"{path} cannot be read: {error}") from error
