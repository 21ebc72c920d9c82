"""What in a report names a person, a place or a moment: found by rule, and replaced by XXXX.

The rules are in identifiers.toml. A surname in the middle of a sentence without a title, a label or
a word like "discussed with" before it is not found: no rule can tell it from a word. XXXX is what
de-identified collections (Open-I) have in such places; whatever reads reports here knows it.
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
"""Kind of an id that the caller knows."""

_SECTIONS = ("findings", "impression", "indication", "comparison")
_BESIDE = 25
"""Characters before and after a masked place that are shown with it."""

_MASKED = re.compile(r"[X\s.,'\u2019-]+")
"""What a de-identified collection has in a name's place."""


class Identifier(NamedTuple):
    """One identifier, ``text[start:end]``; ``kind`` is a key of identifiers.toml, or `KNOWN_ID`."""

    kind: str
    start: int
    end: int


def preview_masking(record: ReportRecord) -> Iterator[tuple[str, str]]:
    """Every place of a report that `mask_identifiers` would replace, in reading order.

    Yields:
        What it is taken for, and a line that shows it to its owner before anything is lost: the
        words that go in brackets between those beside them.
    """
    for section, text, found in _found_in(record):
        for kind, start, end in found:
            before, after = text[max(0, start - _BESIDE) : start], text[end : end + _BESIDE]
            shown = f"…{before}[{text[start:end]}]{after}…"
            yield kind, f"{record.report_id} {section} ({kind}): {shown}"


def mask_identifiers(record: ReportRecord) -> tuple[ReportRecord, tuple[str, ...]]:
    """A report without identifiers, and what was found in it, without quoting it.

    A report without any is returned as the same object.
    """
    clean: dict[str, str] = {}
    problems = []
    for section, text, found in _found_in(record):
        clean[section] = mask(text, found)
        counts = Counter(one.kind for one in found)
        kinds = ", ".join(f"{kind} ({count})" for kind, count in counts.items())
        problems.append(f"{section}: masked {kinds}")
    if not clean:
        return record, ()
    return with_sentences(replace(record, **clean)), tuple(problems)  # type: ignore[arg-type]


def _found_in(record: ReportRecord) -> Iterator[tuple[str, str, tuple[Identifier, ...]]]:
    """Name, text and identifiers of each section that has any."""
    known = {record.patient_id, record.study_id, record.report_id}
    for section in _SECTIONS:
        text: str = getattr(record, section)
        if found := find_identifiers(text, known=known):
            yield section, text, found


def find_identifiers(text: str, *, known: Collection[str] = ()) -> tuple[Identifier, ...]:
    """Identifiers in a text, in reading order, not overlapping.

    Args:
        text: any.
        known: ids of the patient and study, which must not stand in the text either; short ones
            (under 5 letters) are not looked for.
    """
    found = [
        Identifier(kind, *match.span("found" if "found" in pattern.groupindex else 0))
        for kind, pattern in _patterns()
        for match in pattern.finditer(text)
    ]
    for name in known:
        if len(name) >= 5:
            whole = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)
            found += [Identifier(KNOWN_ID, *match.span()) for match in whole.finditer(text)]
    return _without_overlaps(
        [one for one in found if not _MASKED.fullmatch(text, one.start, one.end)]
    )


def mask(text: str, found: Collection[Identifier]) -> str:
    """The text with `MASK` in place of each identifier."""
    for one in sorted(found, key=lambda one: one.start, reverse=True):
        text = text[: one.start] + MASK + text[one.end :]
    return text


def _without_overlaps(found: list[Identifier]) -> tuple[Identifier, ...]:
    """Of two that overlap, both parts are taken out, under the kind of the first."""
    kept: list[Identifier] = []
    for one in sorted(found, key=lambda one: (one.start, -one.end)):
        if kept and one.start < kept[-1].end:
            last = kept.pop()
            one = Identifier(last.kind, last.start, max(last.end, one.end))  # noqa: PLW2901
        if one.end > one.start:
            kept.append(one)
    return tuple(kept)


@lru_cache(maxsize=1)
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    path = Path(__file__).with_name("identifiers.toml")
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return tuple(
        (kind, re.compile(pattern))
        for kind, patterns in tables.items()
        for pattern in patterns.values()
    )
