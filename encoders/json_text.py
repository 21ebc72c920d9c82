"""JSON as a file has to be, and JSON as pandas writes it."""

import json
from typing import Any


def parse_strict(text: str, *, nan_is_null: bool = False) -> Any:
    """JSON without duplicate keys, half surrogates or (unless it is read as null) NaN.

    Raises:
        ValueError: says what is wrong, and where.
    """
    try:
        constant = _null if nan_is_null else _no_constant
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=constant)
        # a lone surrogate passes json.loads and would break whoever writes it down
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
    """JSON as pandas writes it, where NaN is nothing; strings may hold form feeds and the like."""
    try:
        return json.loads(text, strict=False)
    except RecursionError as error:
        raise ValueError("not JSON: nested too deeply") from error
    except ValueError as error:  # what it says, without the text it stumbled over
        raise ValueError(f"not JSON: {str(error).partition(':')[0]}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"has the key {key!r} twice")
        values[key] = value
    return values


def _no_constant(name: str) -> None:
    raise ValueError(f"holds {name}, which is not JSON: use null or leave the key out")


def _null(name: str) -> None:
    if name != "NaN":
        _no_constant(name)
