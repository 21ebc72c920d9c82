"""Where the weights of model-based measures lie, and what to say when they do not.

Looks on this disk and never downloads: first in the folder of models, then in the cache of
huggingface_hub. A scorer's name in a result holds a hash of the weights it used.
"""

import hashlib
from pathlib import Path
from typing import Any

from eval.errors import NotAvailableError

_WEIGHTS = {".safetensors", ".bin", ".pth", ".th", ".pt"}
_READ = 1 << 20  # bytes at either end of a weights file that go into its name


def local_model(repository: str, *, models: Path) -> Path:
    """Folder of a Hugging Face repository on this disk.

    Args:
        repository: "owner/name" or "name".
        models: the folder of models; the repository is looked for under its last name.

    Raises:
        NotAvailableError: says what to put where.
    """
    folder = models / repository.rpartition("/")[2]
    if (folder / "config.json").exists():
        return folder
    cached = _cached(repository)
    if cached is None or not (cached / "config.json").exists():
        raise NotAvailableError(
            f"put {repository} into {folder} (hf download {repository} --local-dir {folder})"
        )
    return cached


def local_file(name: str, *, source: str, models: Path) -> Path:
    """One file in the folder of models.

    Raises:
        NotAvailableError: says what to put where.
    """
    path = models / name
    if not path.exists():
        raise NotAvailableError(f"put {source} at {path}")
    return path


def weights_id(*paths: Path) -> str:
    """Short name of weights: sizes and both ends of their files, enough to tell versions apart."""
    digest = hashlib.sha256()
    for path in paths:
        found = [path] if path.is_file() else sorted(path.rglob("*"))
        for file in (f for f in found if f.suffix in _WEIGHTS):
            size = file.stat().st_size
            digest.update(f"{file.name} {size} ".encode())
            with file.open("rb") as stream:
                digest.update(stream.read(_READ))
                stream.seek(max(size - _READ, 0))
                digest.update(stream.read(_READ))
    return digest.hexdigest()[:8]


def no_download() -> Any:
    """Keep libraries that would fetch what is missing from trying, for the time of a `with`."""
    from unittest.mock import patch  # noqa: PLC0415

    return patch.dict("os.environ", {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"})


def _cached(repository: str) -> Path | None:
    from huggingface_hub import snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import LocalEntryNotFoundError  # noqa: PLC0415

    try:
        return Path(snapshot_download(repository, local_files_only=True))
    except (LocalEntryNotFoundError, OSError):
        return None
