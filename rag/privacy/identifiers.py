"""What in a text names a person, a place or a moment: by rule, with where it stands.

The rules are in identifiers.toml. A surname in the middle of a sentence without a title, a label or
a word like "discussed with" before it is not found: no rule can tell it from a word. Knows nothing
of reports.
"""

import re
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path


class Identifier(StrEnum):
    """Kinds of identifiers; the keys of identifiers.toml, and one that the caller knows."""

    KNOWN = "known id"
    UID = "uid"
    EMAIL = "email"
    URL = "url"
    NUMBER = "number"
    DATE = "date"
    AGE = "age"
    NAME = "name"
    PLACE = "place"


_MASKED = re.compile(r"[X\s.,'\u2019-]+")
"""What a de-identified collection has in a name's place."""


@dataclass(frozen=True, slots=True)
class Found:
    """One identifier: ``text[start:end]``."""

    kind: Identifier
    start: int
    end: int


def find_identifiers(text: str, *, known: Collection[str] = ()) -> tuple[Found, ...]:
    """Identifiers in a text, in reading order, not overlapping.

    Args:
        text: any.
        known: ids of the patient and study, which must not stand in the text either; short ones
            (under 5 letters) are not looked for.
    """
    found = [
        Found(kind, *match.span("found" if "found" in pattern.groupindex else 0))
        for kind, pattern in _patterns()
        for match in pattern.finditer(text)
    ]
    for name in known:
        if len(name) >= 5:
            whole = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)
            found += [Found(Identifier.KNOWN, *match.span()) for match in whole.finditer(text)]
    return _without_overlaps(
        [one for one in found if not _MASKED.fullmatch(text, one.start, one.end)]
    )


def mask(text: str, found: Collection[Found], *, with_: str) -> str:
    """The text with each identifier replaced."""
    for one in sorted(found, key=lambda one: one.start, reverse=True):
        text = text[: one.start] + with_ + text[one.end :]
    return text


def _without_overlaps(found: list[Found]) -> tuple[Found, ...]:
    """Of two that overlap, both parts are taken out, under the kind of the first."""
    kept: list[Found] = []
    for one in sorted(found, key=lambda one: (one.start, -one.end)):
        if kept and one.start < kept[-1].end:
            last = kept.pop()
            one = Found(last.kind, last.start, max(last.end, one.end))  # noqa: PLW2901
        if one.end > one.start:
            kept.append(one)
    return tuple(kept)


@lru_cache(maxsize=1)
def _patterns() -> tuple[tuple[Identifier, re.Pattern[str]], ...]:
    path = Path(__file__).with_name("identifiers.toml")
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return tuple(
        (Identifier(kind), re.compile(pattern))
        for kind, patterns in tables.items()
        for pattern in patterns.values()
    )
