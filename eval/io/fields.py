"""Validated fields of one entry of a user's file, for references and predictions."""

import math
from typing import Any

from encoders.tabular import identifier as table_id

MAX_WORDS = 2_000
"""Far longer than any chest X-ray report: a longer draft is a generation gone wrong."""


class FieldError(Exception):
    """A field is invalid; the message is one sentence for the user."""


_NOTHING = {"nan", "none", "null", "n/a"}


def identifier(values: dict[str, Any], *names: str) -> str:
    """The first of these keys that is there, as text; empty if none is.

    Raises:
        FieldError: it is no text and no whole number, a number that was rounded (1.2E+11), or has
            a control character.
    """
    for name in names:
        value = values.get(name)
        if isinstance(value, bool | list | dict):
            raise FieldError(f"{name} is a {type(value).__name__}, not a text or a whole number")
        try:
            text = table_id(value)
        except ValueError as error:
            raise FieldError(f"{name} {error}") from error
        if not text:
            continue
        if not text.isprintable():
            raise FieldError(f"{name} holds a control character")
        return text
    return ""


def text(values: dict[str, Any], name: str) -> str:
    """A text without the white space around it; empty if it is missing, null or blank.

    Raises:
        FieldError: it is no text, only a word for nothing, or far too long.
    """
    value = values.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise FieldError(f"{name} is a {type(value).__name__}, not a text")
    stripped = value.strip()
    if stripped.lower() in _NOTHING:
        raise FieldError(f"{name} is the word {stripped!r}: leave out what is missing")
    check_length(stripped, name)
    return stripped


def check_length(value: str, name: str) -> None:
    """Refuse a text that is too long.

    Raises:
        FieldError: more words than `MAX_WORDS`.
    """
    words = len(value.split())
    if words > MAX_WORDS:
        raise FieldError(f"{name} has {words} words; more than {MAX_WORDS} is no report")


def number(values: dict[str, Any], name: str) -> float | None:
    """A finite number, or None if it is missing or null.

    Raises:
        FieldError: it is something else.
    """
    value = values.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise FieldError(f"{name} is {value!r}, not a finite number")
    return float(value)
