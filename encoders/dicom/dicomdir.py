"""A DICOMDIR (PS3.3 Annex F) -> the image files it lists, none of them outside its own folder."""

from pathlib import Path

from pydicom.dataset import Dataset

from encoders.dicom.header import items, parse_header, text_values, word
from encoders.images.raw_image import Fault, ImageReadError


def images_of_dicomdir(path: Path) -> tuple[list[Path], list[str]]:
    """Image files of a DICOMDIR in its order, and what is wrong with it, one sentence a problem.

    Raises:
        ImageReadError: it cannot be read, or lists nothing.
    """
    folder = path.parent.resolve()
    images: dict[Path, None] = {}
    problems: list[str] = []
    try:
        with path.open("rb") as file:
            directory = parse_header(file, ["DirectoryRecordSequence"])
        records = items(directory, "DirectoryRecordSequence")
    except OSError as error:
        raise ImageReadError(Fault.FILE, f"the DICOMDIR cannot be opened: {error}") from None
    for number, record in enumerate(records, 1):
        if word(record, "DirectoryRecordType") != "IMAGE":
            continue
        found = _file(folder, record)
        if found is None:
            problems.append(f"record {number} of the DICOMDIR names no file within its folder")
        else:
            images[found] = None
    if not images:
        raise ImageReadError(
            Fault.NO_PIXELS, "the DICOMDIR lists no image. Choose the folder instead."
        )
    return list(images), problems


def _file(folder: Path, record: Dataset) -> Path | None:
    """ReferencedFileID (0004,1500), if it stays in the folder; its case may differ on disk."""
    parts = text_values(record, "ReferencedFileID")
    if not parts or any(part in (".", "..") or "/" in part or "\0" in part for part in parts):
        return None
    path = folder.joinpath(*parts)
    if not path.exists():
        lower = folder.joinpath(*(part.lower() for part in parts))
        path = lower if lower.exists() else path
    return path if path.resolve().is_relative_to(folder) else None
