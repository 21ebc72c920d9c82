"""Parses JSON strictly, or as pandas writes it."""

import json
from typing import Any


def parse_strict(text: str, *, nan_is_null: bool = False) -> Any:
    """Parse JSON without duplicate keys, lone surrogates or, unless ``nan_is_null``, NaN.

    Raises:
        ValueError: says what is wrong, and where.
    """

    def parse_constant(name: str) -> None:
        if not (nan_is_null and name == "NaN"):
            raise ValueError(f"holds {name}, which is not JSON: use null or leave the key out")

    try:
        value = json.loads(
            text, object_pairs_hook=_reject_duplicate_keys, parse_constant=parse_constant
        )
        # json.loads accepts a lone surrogate, which cannot be encoded
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise ValueError(f"not JSON: {error.msg} at {line}column {error.colno}") from error
    except UnicodeEncodeError as error:
        raise ValueError("holds half of a surrogate pair (\\ud800 to \\udfff)") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    return value


def parse_lenient(text: str) -> Any:
    """Parse JSON as pandas writes it, with NaN, and control characters in strings."""
    try:
        return json.loads(text, strict=False)
    except RecursionError as error:
        raise ValueError("not JSON: nested too deeply") from error
    except ValueError as error:  # the message without the position in the text
        raise ValueError(f"not JSON: {str(error).partition(':')[0]}") from error


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"has the key {key!r} twice")
        values[key] = value
    return values
