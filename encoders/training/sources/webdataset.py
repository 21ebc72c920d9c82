"""WebDataset shards: .tar files whose members of one name before the first dot are one image.

Owns the format (github.com/webdataset/webdataset). A shard is unpacked once into the cache, because
images are read in another order there.
"""

import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from filelock import FileLock

from encoders.images.raw_image import MAX_BYTES
from encoders.json_text import parse_strict
from encoders.training.dataset import ImageAnnotation, TrainingDataError, TrainingStudy
from encoders.training.sources.settings import WebDataset
from encoders.training.sources.study_table import gather
from encoders.training.sources.tables import TableRow

_IMAGES = ("png", "jpg", "jpeg", "dcm")
_JSON, _TEXT, _MASK = "json", "txt", "mask.png"


def read_webdataset(
    settings: WebDataset, *, cache: Path
) -> tuple[list[TrainingStudy], list[ImageAnnotation]]:
    """Studies of all shards, in the order of their names, and the marks that they hold.

    Args:
        settings: the shard or folder.
        cache: where the shards are unpacked.

    Raises:
        TrainingDataError: a shard is broken or an image's JSON cannot be used; it is named.
    """
    path = settings.path
    shards = sorted(path.glob("*.tar")) if path.is_dir() else [path]
    if not shards:
        raise TrainingDataError(f"there is no .tar in {path}; set the path to a shard or a folder")
    rows = (row for shard in shards for row in _rows(shard, _unpacked(shard, cache)))
    return gather(rows, folder=Path(), val_share=settings.val_share)


def _rows(shard: Path, folder: Path) -> Iterator[TableRow]:
    """One row a sample, by name: its JSON, its text, the paths of its image and mask."""
    samples: dict[str, dict[str, Path]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name, _, extension = path.name.partition(".")
        key = str(path.relative_to(folder).with_name(name))
        samples.setdefault(key, {})[extension.lower()] = path
    for key, files in samples.items():
        row = TableRow(f"{shard} sample {key}", {"study_id": key})
        images = [str(files[extension]) for extension in _IMAGES if extension in files]
        if len(images) != 1:
            raise row.error(f"has {len(images)} images, not one of {', '.join(_IMAGES)}")
        values = dict(row.values)
        if _TEXT in files:
            values["text"] = files[_TEXT].read_text(encoding="utf-8", errors="replace")
        if _JSON in files:
            values |= _read_json(files[_JSON], row)
        if _MASK in files:
            values["mask"] = str(files[_MASK])
        yield TableRow(row.where, values | {"image": images[0]})


def _read_json(path: Path, row: TableRow) -> dict[str, object]:
    try:
        told = parse_strict(path.read_text(encoding="utf-8", errors="replace"))
    except ValueError as error:
        raise row.error(str(error)) from error
    if not isinstance(told, dict):
        raise row.error(f"{type(told).__name__}, not an object")
    return {key.strip().lower(): value for key, value in told.items()}


def _unpacked(shard: Path, cache: Path) -> Path:
    """The folder of a shard's members; a cut leaves none under this name."""
    try:
        state = shard.stat()
        folder = cache / f"shard-{shard.stem}-{state.st_size}-{state.st_mtime_ns}"
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{folder.name}.lock"):  # of several ranks one unpacks
            if not folder.is_dir():
                beside = folder.with_name(f".{folder.name}")
                shutil.rmtree(beside, ignore_errors=True)
                with tarfile.open(shard, "r") as archive:
                    archive.extractall(beside, _members(archive, shard), filter="data")
                beside.replace(folder)
    except tarfile.TarError as error:
        raise TrainingDataError(f"{shard} is no whole .tar ({error}); fetch it again") from error
    except OSError as error:
        raise TrainingDataError(f"cannot unpack {shard}: {error.strerror or error}") from error
    return folder


def _members(archive: tarfile.TarFile, shard: Path) -> Iterator[tarfile.TarInfo]:
    """Plain files of a size that images have, below the folder."""
    for member in archive:
        name = PurePosixPath(member.name)
        if not member.isfile() or name.name.startswith("."):
            continue
        if name.is_absolute() or ".." in name.parts or member.size > MAX_BYTES:
            raise TrainingDataError(
                f"{shard} holds {member.name[:80]!r} of {member.size} bytes, which is no image's; "
                "only plain names are unpacked"
            )
        yield member
