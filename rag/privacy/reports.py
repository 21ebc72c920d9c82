"""Finds names, places, dates and ids in a report by rule, and replaces them by XXXX.

The rules are in identifiers.toml. A surname within a sentence is not found unless a title, a label
or a word like "discussed with" precedes it. XXXX is what Open-I has in place of identifiers.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from rag.report_nlp.sentences import with_sentences
from rag.schema import ReportRecord

MASK = "XXXX"
KNOWN_ID = "known id"
"""Kind of an id that the caller gave."""

_SECTIONS = ("findings", "impression", "indication", "comparison")
_CONTEXT_CHARS = 25
"""Characters shown before and after an identifier in a preview."""

_is_masked = re.compile(r"[X\s.,'\u2019-]*").fullmatch
"""Whether a text is empty, or what de-identified collections have in place of a name."""


class Identifier(NamedTuple):
    """One identifier, ``text[start:end]``; ``kind`` is a key of identifiers.toml, or `KNOWN_ID`."""

    kind: str
    start: int
    end: int


def preview_masking(record: ReportRecord) -> Iterator[tuple[str, str]]:
    """Every identifier that `mask_identifiers` would replace, in reading order.

    Yields:
        Its kind, and a line that shows it in brackets with its context.
    """
    for section, text, identifiers in _find_in_sections(record):
        for kind, start, end in identifiers:
            before = text[max(0, start - _CONTEXT_CHARS) : start]
            after = text[end : end + _CONTEXT_CHARS]
            shown = f"…{before}[{text[start:end]}]{after}…"
            yield kind, f"{record.report_id} {section} ({kind}): {shown}"


def mask_identifiers(record: ReportRecord) -> tuple[ReportRecord, tuple[str, ...]]:
    """A report without identifiers, and what was masked, without quoting it.

    If nothing was found, the same object is returned.
    """
    clean: dict[str, str] = {}
    problems = []
    for section, text, identifiers in _find_in_sections(record):
        clean[section] = mask(text, identifiers)
        counts = Counter(identifier.kind for identifier in identifiers)
        kinds = ", ".join(f"{kind} ({count})" for kind, count in counts.items())
        problems.append(f"{section}: masked {kinds}")
    if not clean:
        return record, ()
    return with_sentences(replace(record, **clean)), tuple(problems)  # type: ignore[arg-type]


def _find_in_sections(record: ReportRecord) -> Iterator[tuple[str, str, tuple[Identifier, ...]]]:
    """Name, text and identifiers of each section that has identifiers."""
    known = {record.patient_id, record.study_id, record.report_id}
    for section in _SECTIONS:
        text: str = getattr(record, section)
        if identifiers := find_identifiers(text, known=known):
            yield section, text, identifiers


def find_identifiers(text: str, *, known: Collection[str] = ()) -> tuple[Identifier, ...]:
    """Identifiers in a text, in reading order, not overlapping.

    Args:
        text: a section of a report.
        known: ids of patient and study to look for, too; those under 5 characters are ignored.
    """
    found = [
        Identifier(kind, *match.span("found" if "found" in pattern.groupindex else 0))
        for kind, pattern in _patterns()
        for match in pattern.finditer(text)
    ]
    for known_id in known:
        if len(known_id) >= 5:
            pattern = re.compile(rf"(?<!\w){re.escape(known_id)}(?!\w)", re.IGNORECASE)
            found += [Identifier(KNOWN_ID, *match.span()) for match in pattern.finditer(text)]
    return _merge_overlaps([i for i in found if not _is_masked(text[i.start : i.end])])


def mask(text: str, identifiers: Collection[Identifier]) -> str:
    """The text with `MASK` in place of each identifier."""
    for _, start, end in sorted(identifiers, key=lambda i: i.start, reverse=True):
        text = text[:start] + MASK + text[end:]
    return text


def _merge_overlaps(identifiers: list[Identifier]) -> tuple[Identifier, ...]:
    """Merge overlapping identifiers under the kind of the first."""
    merged: list[Identifier] = []
    for kind, start, end in sorted(identifiers, key=lambda i: (i.start, -i.end)):
        if merged and start < merged[-1].end:
            merged[-1] = merged[-1]._replace(end=max(merged[-1].end, end))
        else:
            merged.append(Identifier(kind, start, end))
    return tuple(merged)


@lru_cache(maxsize=1)
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    path = Path(__file__).with_name("identifiers.toml")
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return tuple(
        (kind, re.compile(pattern))
        for kind, patterns in tables.items()
        for pattern in patterns.values()
    )
