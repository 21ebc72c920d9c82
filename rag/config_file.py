"""Reads settings from a preset or TOML file and the environment; unknown names are errors."""

import os
import tomllib
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError as PydanticSettingsError

from rag.errors import SettingsError
from rag.settings import PREFIX, Settings

OTHER_VARIABLES = frozenset(
    {"CXR_RAG_LOG", "CXR_RAG_LOG_FORMAT", "CXR_RAG_DICOMWEB_TOKEN", "CXR_RAG_TORCH_INDEX"}
)
"""Not settings: for logging, `cxr-rag dicomweb` and bootstrap.py."""


def _presets() -> Traversable:
    return files("rag") / "presets"


def preset_names() -> list[str]:
    """Names of the shipped presets, sorted."""
    return sorted(Path(file.name).stem for file in _presets().iterdir())


def load_settings(config: str | Path = "cpu") -> Settings:
    """Read a preset (``cpu``, ``gpu``) or a TOML file, overridden by the environment.

    Raises:
        SettingsError: no such file, not TOML, an unknown key or variable, or a value out of range.
    """
    file: Traversable = Path(config)
    if Path(config).suffix != ".toml":
        file = _presets() / f"{config}.toml"
    if not file.is_file():
        known = ", ".join(preset_names())
        raise SettingsError(f"no settings file {config}; presets are: {known}")
    _refuse_unknown_variables()
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
        return Settings(**values)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{config} is not valid TOML: {error}") from error
    except (ValidationError, PydanticSettingsError) as error:
        raise SettingsError(f"{config} or the environment: {_first_problem(error)}") from error


def _refuse_unknown_variables() -> None:
    """Raise a SettingsError for a variable with our prefix that is not a setting."""
    for name in sorted(os.environ):
        if not name.upper().startswith(PREFIX) or name.upper() in OTHER_VARIABLES:
            continue
        model: Any = Settings
        for key in name[len(PREFIX) :].lower().split("__"):
            fields = getattr(model, "model_fields", {})
            if key not in fields:
                known = f"one of {', '.join(sorted(fields))}" if fields else "part of a value"
                raise SettingsError(
                    f"the environment variable {name} is no setting: {key!r} is not {known}"
                )
            model = fields[key].annotation


def _first_problem(error: ValidationError | PydanticSettingsError) -> str:
    if isinstance(error, PydanticSettingsError):
        return str(error)
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    value = "" if key.endswith("api_key") else f" (value: {problem['input']!r})"
    return f"{key}: {problem['msg']}{value}"
