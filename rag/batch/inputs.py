"""Lists the images of a folder tree, a DICOMDIR, a list, or a single image.

Owns which files count as images and what the output calls them. Reads only their first bytes;
`rag.batch.grouping` groups them into studies.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from encoders.images.image_info import ImageFormat, image_format
from rag.batch.manifests import ListedImage, Listing, read_list
from rag.errors import UsageError
from rag.study import Study

IMAGE_SUFFIXES = frozenset({".dcm", ".dicom", ".dic", ".ima", ".png", ".jpg", ".jpeg"})
"""A file with one of these that is not an image fails, instead of being skipped."""

_LIST_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".json"})


@dataclass(frozen=True, slots=True)
class BatchStudy(Study):
    """One study of a batch.

    Attributes:
        unused: images of the study that are neither reported from nor further views.
        rejected: images that a rejection note names.
    """

    source: Path
    other_views: tuple[Path, ...] = ()
    unused: tuple[Path, ...] = ()
    rejected: tuple[Path, ...] = ()


def list_images(
    source: Path, *, root: Path | None = None, skip_folder: Path | None = None
) -> Listing:
    """The images of a folder, a DICOMDIR, a list (CSV, JSONL, JSON) or a single image.

    Paths of a list are relative to ``root``, by default the list's own folder. ``skip_folder`` is a
    folder within ``source`` to leave out (the output's).

    Raises:
        UsageError: ``source`` does not exist, or is a list with wrong lines; each is named.
    """
    if source.is_dir():
        return _list_tree(source, skip_folder)
    if not source.is_file():
        raise UsageError(f"there is no file or folder {source}")
    if source.suffix.lower() in _LIST_SUFFIXES:
        return read_list(source, root=root or source.parent)
    if source.name.upper().startswith("DICOMDIR"):
        return _list_dicomdir(source)
    return Listing([ListedImage(source, source.name)])


def _list_tree(folder: Path, skip_folder: Path | None) -> Listing:
    listing = Listing()
    skipped = skip_folder.resolve() if skip_folder else None
    for path in _walk_files(folder, listing, skipped):
        if path.name.startswith("."):
            listing.skipped["hidden"] += 1
        elif path.name.upper() == "DICOMDIR":
            listing.skipped["DICOMDIR"] += 1  # its images are found beside it
        elif path.suffix.lower() in IMAGE_SUFFIXES or _looks_like_image(path, listing):
            listing.images.append(ListedImage(path, path.relative_to(folder).as_posix()))
        else:
            listing.skipped["no image"] += 1
    return listing


def _walk_files(folder: Path, listing: Listing, skip_folder: Path | None) -> Iterator[Path]:
    """Files of a tree by name; links to folders are not followed, so that no tree is endless."""

    def note_unreadable(error: OSError) -> None:
        name = Path(str(error.filename)).name
        listing.problems.append(f"the folder {name} cannot be read: {error.strerror}")

    for parent, folders, names in os.walk(folder, onerror=note_unreadable):
        folders[:] = sorted(
            name
            for name in folders
            if skip_folder is None or Path(parent, name).resolve() != skip_folder
        )
        for name in sorted(names):
            yield Path(parent, name)


def _looks_like_image(path: Path, listing: Listing) -> bool:
    """By content; DICOM files often have no suffix."""
    try:
        if not path.is_file():  # opening a pipe would block
            return False
        with path.open("rb") as file:
            return image_format(file.read(132)) is not ImageFormat.OTHER
    except OSError as error:
        listing.problems.append(f"the file {path.name} cannot be read: {error.strerror}")
        return False


def _list_dicomdir(path: Path) -> Listing:
    from encoders.dicom.info import list_dicomdir_images  # noqa: PLC0415 - pydicom
    from encoders.images.raw_image import ImageReadError  # noqa: PLC0415

    try:
        listed, problems = list_dicomdir_images(path)
    except ImageReadError as error:
        raise UsageError(f"{path}: {error}") from error
    folder = path.parent
    images = [ListedImage(image, image.relative_to(folder).as_posix()) for image in listed]
    return Listing(images, problems=list(problems))
