"""JSON as a file has to be, and JSON as pandas writes it."""

import json
from typing import Any


def parse_strict(text: str) -> Any:
    """JSON without duplicate keys, NaN or half surrogates.

    Raises:
        ValueError: says what is wrong, and where.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        # a lone surrogate passes json.loads and would break whoever writes it down
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from error
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
