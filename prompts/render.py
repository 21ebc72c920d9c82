"""Templates as files -> chat messages, and the JSON schemas of the answers.

A template is a folder ``templates/<name>_v<N>/``: ``template.toml`` says how the model drafts
(``mode``); ``system.md`` holds what never changes, so that a server's prefix cache pays;
``user.md`` is Jinja and ends with the evidence. Files ``examples/*.json`` are worked examples:
``variables`` for the same ``user.md``, and the ``answer`` to it; they are sent as earlier turns, in
the order of their names. A change of wording is a new version, since predictions record the name
and the hash of what was sent.

In the schemas, which the server enforces while it decodes, ids are enums: an answer that names a
sentence or a report that was not shown cannot be produced.
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
    """It chooses numbered sentences; text is never invented."""
    WRITE = "write"
    """It writes sentences and names their sources."""


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """One version of a prompt, as it lies on disk.

    Attributes:
        examples: variables of the template, and the JSON object a good model answers.
    """

    name: str
    mode: Mode
    system: str
    user: str
    examples: tuple[tuple[Mapping[str, Any], Mapping[str, Any]], ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is sent: (role, content) messages, and a hash of them."""

    messages: tuple[tuple[str, str], ...]
    sha256: str


def template_names(templates: Path = TEMPLATES) -> list[str]:
    """Names of all templates, sorted."""
    return sorted(path.parent.name for path in templates.glob("*/template.toml"))


def load_template(name: str, *, templates: Path = TEMPLATES) -> PromptTemplate:
    """Read a template by its name, from the folder of those that ship or from another.

    Raises:
        PromptTemplateError: there is no such template, or a file of it is broken.
    """
    folder = templates / name
    try:
        about = tomllib.loads((folder / "template.toml").read_text(encoding="utf-8"))
        return PromptTemplate(
            name=name,
            mode=Mode(about["mode"]),
            system=(folder / "system.md").read_text(encoding="utf-8").strip(),
            user=(folder / "user.md").read_text(encoding="utf-8"),
            examples=tuple(_example(path) for path in sorted(folder.glob("examples/*.json"))),
        )
    except FileNotFoundError as error:
        known = ", ".join(template_names(templates)) or f"none in {templates}"
        raise PromptTemplateError(f"no prompt template {name!r}; there are: {known}") from error
    except (tomllib.TOMLDecodeError, KeyError, ValueError) as error:
        raise PromptTemplateError(f"{folder / 'template.toml'}: {error!r}") from error


def _example(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content["variables"], content["answer"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise PromptTemplateError(f"{path.parent.parent.name}/{path.name}: {error!r}") from error


def render(template: PromptTemplate, variables: Mapping[str, Any]) -> Prompt:
    """Fill a template: system message, the examples as turns, the question.

    Raises:
        PromptTemplateError: a variable of the template is missing; it is named.
    """
    turns = [("system", template.system)]
    for known, answer in template.examples:
        turns.append(("user", _question(template, known)))
        turns.append(("assistant", json.dumps(answer, ensure_ascii=False)))
    messages = (*turns, ("user", _question(template, variables)))
    digest = hashlib.sha256(json.dumps(messages, ensure_ascii=False).encode()).hexdigest()
    return Prompt(messages, digest)


def _question(template: PromptTemplate, variables: Mapping[str, Any]) -> str:
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
"""The answer for a heading none of whose sentences is better than another."""


def selection_schema(slots: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """One choice a heading: ``{"heart": "A2", "lungs": "none", ...}``.

    Args:
        slots: heading -> ids of its sentences, in the order in which they are shown.
    """
    properties = {
        name: {"type": "string", "enum": [*ids, NO_CHOICE]} for name, ids in slots.items()
    }
    return _closed_object(properties)


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
    return _closed_object(
        {
            "findings": _sentences(sentence, most=12),
            "impression": _sentences(sentence, most=4),
        }
    )


def _sentences(sentence: dict[str, Any], *, most: int) -> dict[str, Any]:
    return {"type": "array", "items": sentence, "minItems": 1, "maxItems": most}


def _closed_object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
