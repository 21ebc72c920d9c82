"""Reads which images belong to which studies: `cxr-rag index --images FILE`."""

from pathlib import Path

from encoders.tabular import Row, TableError, identifier, is_nothing, read_table
from rag.errors import CorpusError

_STUDY, _IMAGE = "study_id", "image"


def read_images_file(path: Path) -> dict[str, tuple[Path, ...]]:
    """Images by study id, in the order of the file.

    The file is a table with the columns study_id and image, a line an image; an image's path is
    relative to the file's folder. Whether an image is there and can be read is seen when it is
    indexed.

    Raises:
        CorpusError: the file cannot be read, a column is missing, or a line lacks a value.
    """
    images: dict[str, list[Path]] = {}
    try:
        for row in read_table(path, needed=(_STUDY, _IMAGE)):
            study, image = _values(row, path)
            images.setdefault(study, []).append(path.parent / image)
    except TableError as error:
        raise CorpusError(str(error)) from error
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error}") from error
    return {study: tuple(dict.fromkeys(paths)) for study, paths in images.items()}


def _values(row: Row, path: Path) -> tuple[str, str]:
    """Study and image of a row."""
    image = row.values.get(_IMAGE)
    try:
        study = identifier(row.values.get(_STUDY))
    except ValueError as error:
        raise CorpusError(f"{path} {row.where}: {_STUDY} {error}") from error
    if row.problem:
        raise CorpusError(f"{path} {row.where} cannot be read: {row.problem}")
    if not study or is_nothing(image) or not isinstance(image, str):
        raise CorpusError(f"{path} {row.where}: no {_STUDY} or no {_IMAGE}")
    return study, image.strip()
