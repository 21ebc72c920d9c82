"""Reads which images belong to which studies: `cxr-rag index --images FILE`."""

import csv
from pathlib import Path

from rag.errors import CorpusError

_STUDY, _IMAGE = "study_id", "image"


def read_images_file(path: Path) -> dict[str, tuple[Path, ...]]:
    """Images by study id, in the order of the file.

    The file is a CSV with the columns study_id and image, a line an image; an image's path is
    relative
    to the file's folder. Whether an image is there and can be read is seen when it is indexed.

    Raises:
        CorpusError: the file cannot be read, a column is missing, or a line lacks a value.
    """
    images: dict[str, list[Path]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            if missing := {_STUDY, _IMAGE} - set(reader.fieldnames or ()):
                raise CorpusError(f"{path} has no column {sorted(missing)[0]}")
            for row in reader:
                study, image = ((row[name] or "").strip() for name in (_STUDY, _IMAGE))
                if not study or not image:
                    raise CorpusError(f"{path} line {reader.line_num}: no {_STUDY} or no {_IMAGE}")
                images.setdefault(study, []).append(path.parent / image)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{path} cannot be read: {error}") from error
    return {study: tuple(dict.fromkeys(paths)) for study, paths in images.items()}
