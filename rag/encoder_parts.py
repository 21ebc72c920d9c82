"""Parts that lie in the folder of the encoder whose vectors they were made of: files and back.

A part is a frozen dataclass: JSON, or a safetensors file with what is no array in its header.
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


def read_json(path: Path, kind: type[Part], *, form: int | None = None, cure: str) -> Part:
    """A part from a JSON file; ``cure`` is what to do where it cannot be used.

    Raises:
        CalibrationError: it is missing or damaged, or has another format.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if form is not None and values.pop("format") != form:
            raise CalibrationError(f"{path} has another format than this version reads; {cure}")
        return TypeAdapter(kind).validate_python(values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = " ".join(repr(error).partition(" [type=")[0].split())
        raise CalibrationError(f"{path} cannot be read ({why}): {cure}") from error


def read_tensors(path: Path, kind: type[Part], *, key: str, form: str, cure: str) -> Part:
    """A part from a safetensors file; what is no array is under ``key`` of its header.

    Raises:
        EncoderUnavailableError: the file is missing or damaged, or has another format.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads((file.metadata() or {})[key])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if facts.pop("format", None) != form:
            raise EncoderUnavailableError(
                f"{path} has another format than this version reads; {cure}"
            )
        facts = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()}
        return kind(**facts, **arrays)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise EncoderUnavailableError(f"{path} is damaged ({error!r}); restore it") from error


def write_tensors(path: Path, part: Any, *, key: str, form: str) -> None:
    """Write a part as `read_tensors` reads it, beside and renamed."""
    from safetensors.numpy import save  # noqa: PLC0415

    path.parent.mkdir(parents=True, exist_ok=True)
    values = {field.name: getattr(part, field.name) for field in fields(part)}
    facts = {k: v for k, v in values.items() if not isinstance(v, np.ndarray)}
    # safetensors writes the memory as it lies: rows and columns of another order would be mixed up
    arrays = {k: np.ascontiguousarray(v) for k, v in values.items() if k not in facts}
    write_bytes_atomic(path, save(arrays, metadata={key: json.dumps({"format": form, **facts})}))
