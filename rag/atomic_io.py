"""Files that survive a pulled plug, what a disk's complaints about an output mean, and tensors."""

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag.errors import EncoderUnavailableError, OutputError

_AGAIN = "free some space and run the same command again"
_CURES = {
    errno.ENOSPC: f"the disk is full: {_AGAIN}",
    errno.EDQUOT: f"your disk quota is used up: {_AGAIN}",
    errno.EFBIG: "the file would be larger than is allowed here (ulimit -f)",
    errno.EROFS: "the disk is read-only: {instead}",
    errno.EACCES: "permission denied: {instead}",
    errno.EPERM: "permission denied: {instead}",
    errno.EISDIR: "it is a folder: choose another place",
    errno.ENOTDIR: "a file stands where a folder should be: choose another place",
    errno.EEXIST: "a file stands where a folder should be: choose another place",
}


def hint(error: OSError, *, instead: str = "choose another output") -> str:
    """What the operating system says about an output, and what helps.

    Args:
        error: what it said.
        instead: what to do where writing is not allowed.
    """
    words = _CURES.get(error.errno or 0, error.strerror or str(error))
    return words.replace("{instead}", instead)


@contextmanager
def disk_explained(path: Path) -> Iterator[None]:
    """Turn what the operating system says about an output into an `OutputError` with its hint."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {hint(error)}") from error


def flush(path: Path) -> None:
    """Wait until a file or a folder's entries are on the disk, and outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_text(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a file in one step: readers, and we after a crash, see the old text or the new one.

    Raises:
        OutputError: the disk refuses; the old text stays.
    """
    with disk_explained(path):
        swap_text(path, text, mode=mode)


def swap_text(path: Path, text: str, *, mode: int = 0o666) -> None:
    """As `replace_text`, for who explains the disk's complaints otherwise.

    Raises:
        OSError: the disk refuses; the old text stays.
    """
    swap_bytes(path, text.encode(), mode=mode)


def swap_bytes(path: Path, data: bytes, *, mode: int = 0o666, beside: Path | None = None) -> None:
    """As `swap_text`, for bytes.

    Args:
        path: the file.
        data: its new content.
        mode: its permissions.
        beside: where it is written first; must not be there. By default a name of the file's own,
            for one writer at a time.

    Raises:
        OSError: the disk refuses; the old content stays.
    """
    how = "wb" if beside is None else "xb"
    beside = beside or path.with_name(f".{path.name}.new")
    try:
        with open(beside, how, opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    flush(path.parent)


def free_path(folder: Path, stem: str, ending: str) -> Path:
    """A path in a folder, made if missing, that nothing has: stem.ending, stem-2.ending, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    names = (f"{stem}{'' if n == 1 else f'-{n}'}.{ending}" for n in count(1))
    return next(path for path in map(folder.joinpath, names) if not path.exists())


TensorOf = Callable[[str], NDArray[Any]]


@contextmanager
def opened_tensors(path: Path, *, key: str) -> Iterator[tuple[dict[str, Any], TensorOf]]:
    """Facts, under a key of its header, and tensors of a safetensors file.

    Raises:
        EncoderUnavailableError: the file is damaged, or lacks what the block asks for.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    try:
        with safe_open(path, framework="numpy") as tensors:
            yield json.loads((tensors.metadata() or {})[key]), tensors.get_tensor
    except (SafetensorError, OSError, KeyError, ValueError) as problem:
        raise EncoderUnavailableError(f"{path} is damaged ({problem!r}); restore it") from problem


def write_tensors(path: Path, tensors: Mapping[str, NDArray[Any]], *, key: str, facts: Any) -> None:
    """Write a safetensors file with facts in its header, beside and renamed."""
    from safetensors.numpy import save  # noqa: PLC0415

    path.parent.mkdir(parents=True, exist_ok=True)
    # safetensors writes the memory as it lies: rows and columns of another order would be mixed up
    rows = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
    swap_bytes(path, save(rows, metadata={key: json.dumps(facts)}))
