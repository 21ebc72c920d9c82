"""Reads which films belong to which studies: `cxr-rag index --films FILE`."""

import csv
from pathlib import Path

from rag.errors import CorpusError

_STUDY, _FILM = "study_id", "film"


def read_films_file(path: Path) -> dict[str, tuple[Path, ...]]:
    """Films by study id, in the order of the file.

    The file is a CSV with the columns study_id and film, a line a film; a film's path is relative
    to the file's folder. Whether a film is there and can be read is seen when it is indexed.

    Raises:
        CorpusError: the file cannot be read, a column is missing, or a line lacks a value.
    """
    films: dict[str, list[Path]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            if missing := {_STUDY, _FILM} - set(reader.fieldnames or ()):
                raise CorpusError(f"{path} has no column {sorted(missing)[0]}")
            for row in reader:
                study, film = ((row[name] or "").strip() for name in (_STUDY, _FILM))
                if not study or not film:
                    raise CorpusError(f"{path} line {reader.line_num}: no {_STUDY} or no {_FILM}")
                films.setdefault(study, []).append(path.parent / film)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{path} cannot be read: {error}") from error
    return {study: tuple(dict.fromkeys(paths)) for study, paths in films.items()}
