"""What the user points at -> the images in it: a folder tree, a DICOMDIR, one image, a list.

Owns which files count as images and what they are called in the output. Does not open an image
beyond its first bytes; studies are made of them in `rag.batch.grouping`.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from encoders.images.image_info import ImageFormat, image_format
from rag.errors import UsageError
from rag.priors import NO_PRIOR, Prior
from rag.study import Study

IMAGE_SUFFIXES = frozenset({".dcm", ".dicom", ".dic", ".ima", ".png", ".jpg", ".jpeg"})
"""Files of these names are meant as images: if they are none, that is a failure to be told."""

LISTS = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".json"})


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One image as the input names it.

    Attributes:
        path: the file.
        name: what predictions call it: the path within the input, with slashes.
        study_id: of the list it stands in; empty where the header decides.
        frontal: as the list says it; None where it says nothing.
        indication: why it was taken, as the list says it.
        patient_id: never to be retrieved, as the list says it.
        chosen: the list says that this is the image to report from.
        prior: of the patient's earlier study, as the list says it: files, report text, date.
    """

    path: Path
    name: str
    study_id: str = ""
    frontal: bool | None = None
    indication: str = ""
    patient_id: str = ""
    chosen: bool = False
    prior: Prior = NO_PRIOR


@dataclass(frozen=True, slots=True)
class BatchStudy(Study):
    """One study of a batch.

    Attributes:
        unused: images of the study that are neither reported from nor further views.
        rejected: images that a rejection note takes out of use.
    """

    source: Path
    other_views: tuple[Path, ...] = ()
    unused: tuple[Path, ...] = ()
    rejected: tuple[Path, ...] = ()


@dataclass(slots=True)
class Listing:
    """The images of an input, and what was passed over.

    Attributes:
        images: in a fixed order.
        skipped: files that are no images, by kind ("no image", "hidden").
        problems: what could not be looked at, one sentence each.
    """

    images: list[ListedImage] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def list_images(
    source: Path, *, root: Path | None = None, skip_folder: Path | None = None
) -> Listing:
    """The images of a folder, a DICOMDIR, a list (CSV, JSONL, JSON) or a single image.

    Args:
        source: what the user named.
        root: folder that the paths of a list are relative to; by default the list's own.
        skip_folder: a folder within ``source`` to leave out (the output's).

    Raises:
        UsageError: there is no such thing, or a list is wrong; every wrong line is named.
    """
    if source.is_dir():
        return _tree(source, skip_folder)
    if not source.is_file():
        raise UsageError(f"there is no file or folder {source}")
    if source.suffix.lower() in LISTS:
        from rag.batch.manifests import read_list  # noqa: PLC0415 - it knows `Listing`

        return read_list(source, root=root or source.parent)
    if source.name.upper().startswith("DICOMDIR"):
        return _dicomdir(source)
    return Listing([ListedImage(source, source.name)])


def _tree(folder: Path, skip_folder: Path | None) -> Listing:
    listing = Listing()
    avoided = skip_folder.resolve() if skip_folder else None
    for path in _files(folder, listing, avoided):
        if path.name.startswith("."):
            listing.skipped["hidden"] += 1
        elif path.name.upper() == "DICOMDIR":
            listing.skipped["DICOMDIR"] += 1  # the images it lists lie beside it
        elif path.suffix.lower() in IMAGE_SUFFIXES or _looks_like_image(path, listing):
            listing.images.append(ListedImage(path, path.relative_to(folder).as_posix()))
        else:
            listing.skipped["no image"] += 1
    return listing


def _files(folder: Path, listing: Listing, avoided: Path | None) -> Iterator[Path]:
    """Files of a tree by name; links to folders are not followed, so that no tree is endless."""

    def note_unreadable(error: OSError) -> None:
        where = Path(str(error.filename)).name
        listing.problems.append(f"the folder {where} cannot be read: {error.strerror}")

    for parent, folders, names in os.walk(folder, onerror=note_unreadable):
        here = Path(parent)
        folders[:] = sorted(
            name for name in folders if avoided is None or (here / name).resolve() != avoided
        )
        for name in sorted(names):
            yield here / name


def _looks_like_image(path: Path, listing: Listing) -> bool:
    """By content; DICOM files often have no suffix."""
    try:
        if not path.is_file():  # a pipe would be waited for without end
            return False
        with path.open("rb") as file:
            return image_format(file.read(132)) is not ImageFormat.OTHER
    except OSError as error:
        listing.problems.append(f"the file {path.name} cannot be read: {error.strerror}")
        return False


def _dicomdir(path: Path) -> Listing:
    from encoders.dicom.info import list_dicomdir_images  # noqa: PLC0415 - pydicom
    from encoders.images.raw_image import ImageReadError  # noqa: PLC0415

    try:
        listed, problems = list_dicomdir_images(path)
    except ImageReadError as error:
        raise UsageError(f"{path}: {error}") from error
    folder = path.parent
    images = [ListedImage(image, image.relative_to(folder).as_posix()) for image in listed]
    return Listing(images, problems=list(problems))
