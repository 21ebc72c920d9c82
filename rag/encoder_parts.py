"""Reads and writes what was fitted on an encoder's vectors: files in the encoder's folder.

Each part is a frozen dataclass, stored as JSON, or as safetensors with its other fields in the
header.
"""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter

from rag.atomic_io import write_bytes_atomic
from rag.errors import CalibrationError, EncoderUnavailableError

Part = TypeVar("Part")

RESTORE_HINT = "restore it, or remove it to do without"
REFIT_HINT = "refit it with `cxr-rag fit-heads` (docs/encoders.md), or remove it"


def require_encoder(path: Path, fitted_for: str, encoder_id: str, *, hint: str) -> None:
    """Refuse a part that was fitted for another encoder.

    Raises:
        EncoderUnavailableError: the ids differ.
    """
    if fitted_for != encoder_id:
        raise EncoderUnavailableError(
            f"{path} was made for {fitted_for}, the encoder is {encoder_id}; {hint}"
        )


def read_json(path: Path, part_type: type[Part], *, version: int | None = None, hint: str) -> Part:
    """Read a part from a JSON file; error messages end with ``hint``.

    Raises:
        CalibrationError: it is missing or damaged, or has another format version.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if version is not None and values.pop("format") != version:
            raise CalibrationError(f"{path} has another format than this version reads; {hint}")
        return TypeAdapter(part_type).validate_python(values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(repr(error).partition(" [type=")[0].split())
        raise CalibrationError(f"{path} cannot be read ({reason}): {hint}") from error


def read_tensors(
    path: Path, part_type: type[Part], *, header: str, version: str, hint: str
) -> Part:
    """Read a part from a safetensors file with its other fields as JSON under the key ``header``.

    Raises:
        EncoderUnavailableError: it is missing or damaged, or has another format version.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    try:
        with safe_open(path, framework="numpy") as file:
            values = json.loads((file.metadata() or {})[header])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if values.pop("format", None) != version:
            raise EncoderUnavailableError(
                f"{path} has another format than this version reads; {hint}"
            )
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return part_type(**values, **arrays)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise EncoderUnavailableError(f"{path} is damaged ({error!r}); restore it") from error


def write_tensors(path: Path, part: Any, *, header: str, version: str) -> None:
    """Write a part for `read_tensors`, atomically."""
    from safetensors.numpy import save  # noqa: PLC0415

    path.parent.mkdir(parents=True, exist_ok=True)
    values = {field.name: getattr(part, field.name) for field in fields(part)}
    # safetensors writes memory in its own order: a transposed array would be scrambled
    arrays = {k: np.ascontiguousarray(v) for k, v in values.items() if isinstance(v, np.ndarray)}
    others = {"format": version} | {k: v for k, v in values.items() if k not in arrays}
    write_bytes_atomic(path, save(arrays, metadata={header: json.dumps(others)}))
