"""Prompt templates on disk -> chat messages, and the JSON schemas of the answers.

A template is a folder ``templates/<name>_v<N>/``. ``template.toml`` has the ``mode`` in which the
model drafts; ``system.md`` never changes, which lets servers cache it; ``user.md`` is Jinja and
ends with the evidence. ``examples/*.json`` are worked examples, sent as earlier turns in the order
of their names: ``variables`` for ``user.md``, and the ``answer``. A change of wording is a new
version, since predictions record a template's name and the hash of the messages.

In the schemas, which the server enforces while it decodes, ids are enums: an answer cannot name a
sentence or report that was not shown.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

TEMPLATES = Path(__file__).parent / "templates"


class PromptTemplateError(ValueError):
    """A template is missing or broken, or a variable it needs was not given."""


class Mode(StrEnum):
    """How the model drafts."""

    SELECT = "select"
    """Choose numbered sentences; write no text."""
    WRITE = "write"
    """Write sentences and name their sources."""


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """One version of a prompt.

    Attributes:
        examples: pairs of the template's variables and a good answer's JSON object.
    """

    name: str
    mode: Mode
    system: str
    user: str
    examples: tuple[tuple[Mapping[str, Any], Mapping[str, Any]], ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """Chat messages as (role, content), and their hash."""

    messages: tuple[tuple[str, str], ...]
    sha256: str


def template_names(templates: Path = TEMPLATES) -> list[str]:
    """Names of all templates, sorted."""
    return sorted(path.parent.name for path in templates.glob("*/template.toml"))


def load_template(name: str, *, templates: Path = TEMPLATES) -> PromptTemplate:
    """Read the template ``templates/<name>``.

    Raises:
        PromptTemplateError: there is no such template, or one of its files is broken.
    """
    folder = templates / name
    try:
        metadata = tomllib.loads((folder / "template.toml").read_text(encoding="utf-8"))
        return PromptTemplate(
            name=name,
            mode=Mode(metadata["mode"]),
            system=(folder / "system.md").read_text(encoding="utf-8").strip(),
            user=(folder / "user.md").read_text(encoding="utf-8"),
            examples=tuple(_read_example(path) for path in sorted(folder.glob("examples/*.json"))),
        )
    except FileNotFoundError as error:
        known = ", ".join(template_names(templates)) or f"none in {templates}"
        raise PromptTemplateError(f"no prompt template {name!r}; there are: {known}") from error
    except (tomllib.TOMLDecodeError, KeyError, ValueError) as error:
        raise PromptTemplateError(f"{folder / 'template.toml'}: {error!r}") from error


def _read_example(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content["variables"], content["answer"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise PromptTemplateError(f"{path.parent.parent.name}/{path.name}: {error!r}") from error


def render(template: PromptTemplate, variables: Mapping[str, Any]) -> Prompt:
    """Fill a template: system message, examples as turns, user message.

    Raises:
        PromptTemplateError: names a variable of the template that is missing.
    """
    turns = [("system", template.system)]
    for example, answer in template.examples:
        turns.append(("user", _user_message(template, example)))
        turns.append(("assistant", json.dumps(answer, ensure_ascii=False)))
    messages = (*turns, ("user", _user_message(template, variables)))
    digest = hashlib.sha256(json.dumps(messages, ensure_ascii=False).encode()).hexdigest()
    return Prompt(messages, digest)


def _user_message(template: PromptTemplate, variables: Mapping[str, Any]) -> str:
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    try:
        return environment.from_string(template.user).render(variables).strip()
    except UndefinedError as error:
        raise PromptTemplateError(f"{template.name}/user.md: {error.message}") from error
    except TemplateError as error:
        raise PromptTemplateError(f"{template.name}/user.md is broken: {error}") from error


NO_CHOICE = "none"
"""The answer for a slot none of whose options is better than another."""


def selection_schema(options: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """One choice per slot: ``{"heart": "A2", "lungs": "none", ...}``.

    Args:
        options: slot name -> ids of its options, in the order in which they are shown.
    """
    return _closed_object(
        {name: {"type": "string", "enum": [*ids, NO_CHOICE]} for name, ids in options.items()}
    )


def free_text_schema(report_ids: Sequence[str]) -> dict[str, Any]:
    """Findings and impression as lists of ``{"text": ..., "sources": [report id, ...]}``."""
    sentence = _closed_object(
        {
            "text": {"type": "string", "minLength": 3, "maxLength": 300},
            "sources": {
                "type": "array",
                "items": {"type": "string", "enum": list(report_ids)},
                "minItems": 1,
                "maxItems": len(report_ids),
            },
        }
    )
    max_sentences = {"findings": 12, "impression": 4}
    return _closed_object(
        {
            section: {"type": "array", "items": sentence, "minItems": 1, "maxItems": count}
            for section, count in max_sentences.items()
        }
    )


def _closed_object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
