"""WebDataset shards: .tar files whose members of one name before the first dot are one image.

Owns the format (github.com/webdataset/webdataset, tar as in POSIX; read with the standard library)
and the unpacking of images: a shard is unpacked once into the cache, because images are read in
another order there.
"""

import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from filelock import FileLock

from encoders.training.dataset import TrainingDataError, TrainingStudy
from encoders.training.sources.readings import Reading
from encoders.training.sources.settings import WebDataset
from encoders.training.sources.study_table import gather
from encoders.training.sources.tables import TableRow, parse_json

_IMAGES = ("png", "jpg", "jpeg", "dcm")
_JSON, _TEXT, _MASK = "json", "txt", "mask.png"
_LARGEST = 256 * 1024**2
"""Bytes of a member: no image is larger (`encoders.images.raw_image.MAX_BYTES`)."""


def read_webdataset(
    settings: WebDataset, *, cache: Path
) -> tuple[list[TrainingStudy], list[Reading]]:
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
        where = f"{shard} sample {key}"
        images = [files[extension] for extension in _IMAGES if extension in files]
        if len(images) != 1:
            raise TrainingDataError(
                f"{where} has {len(images)} images, not one of {', '.join(_IMAGES)}; take it out"
            )
        told = (
            files[_JSON].read_text(encoding="utf-8", errors="replace") if _JSON in files else "{}"
        )
        values = {"study_id": key} | dict(parse_json(told, where=where).values)
        if _TEXT in files:
            values.setdefault("text", files[_TEXT].read_text(encoding="utf-8", errors="replace"))
        if _MASK in files:
            values["mask"] = str(files[_MASK])
        yield TableRow(where, values | {"image": str(images[0])})


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
                _unpack(shard, beside)
                beside.replace(folder)
    except tarfile.TarError as error:
        raise TrainingDataError(f"{shard} is no whole .tar ({error}); fetch it again") from error
    except OSError as error:
        raise TrainingDataError(f"cannot unpack {shard}: {error.strerror or error}") from error
    return folder


def _unpack(shard: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    with tarfile.open(shard, "r") as archive:
        for member in archive:
            if member.isfile() and not PurePosixPath(member.name).name.startswith("."):
                _write(archive, member, folder, shard)


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, shard: Path) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or member.size > _LARGEST:
        raise TrainingDataError(
            f"{shard} holds {member.name[:80]!r} of {member.size} bytes, which is no image's; only "
            "plain names are unpacked"
        )
    content = archive.extractfile(member)
    if content is not None:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.read())
