"""The sentences of a radiology report, and their words, each in one spelling.

A span is ``text[start:end]`` without surrounding white space; together the spans hold every
character that is not white space, in order. Words are read through British spelling, common
abbreviations and typing errors.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from typing import Any

from rag.schema import ReportRecord, Section, Span

_STOP = re.compile(
    r"""
    [.!?]+ (?:\s?[.!?]+(?!\d))*     # one or several stops: "normal..", "consolidation. ."
    (?:[)\]"'>\u2019\u201d]|&gt;)*  # what closes with the sentence
    (?= \s | $                      # then white space or the end,
      | (?<=[a-z]\.) [A-Z]          # or a forgotten space: "clear.Heart",
      | (?:(?<=XXXX\.)|(?<=___\.)) [A-Z]   # after a de-identification token too,
      | (?<=[A-Za-z]\.) \d{1,2}[.)]\s  # or before a list number: "disease.2. No"
    )
    """,
    re.VERBOSE,
)
_PARAGRAPH = re.compile(r"\n[ \t\r]*\n\s*|\n[ \t]*(?=(?:[-*\u2022]|\(?\d{1,2}[.)])[ \t])")
_LIST_MARKER = re.compile(r"\s*(?:(?:\(?\d{1,2}[.)](?!\d)|[-*\u2022])+|[A-Z][A-Za-z]+:? 1\.(?!\d))")
_ABBREVIATION = re.compile(
    r"(?<![A-Za-z])(?:Dr|Drs|Mr|Mrs|Ms|Prof|St|vs|approx|cf|e\.g|i\.e|M\.D|D\.O|Ph\.D)\.$"
)
_BEFORE_NOON = re.compile(r"(?<![A-Za-z])[ap]\.m\.$")
_QUERY = re.compile(r"(?:^|\s)(?:\?+|\(\?+\))$")
_ANSWER = re.compile(r"\s*(?:yes|no|y|n)(?=\s+[A-Z][a-z]|\s*\n|\s*$)|\s*\[", re.IGNORECASE)
_BEFORE_LOWER = re.compile(
    r"(?<![A-Za-z])(?:cm|mm|lat|sup|inf|ant|post|dx|hx|resp|incl|etc|[Nn]eg|[Pp]os)\.$"
)


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Sentences of one section as (start, end), in order.

    List numbers stay with their sentence ("2. No effusion."), and the stop of a title, a decimal
    or an abbreviation ("Dr. XXXX", "1.5 cm", "4 p.m. today") ends nothing.
    """
    spans = []
    for first, last in _paragraphs(text):
        start = first
        for stop in _STOP.finditer(text, first, last):
            if _ends_sentence(text, start, stop.end()):
                spans.append((start, stop.end()))
                start = stop.end()
        spans.append((start, last))
    trimmed = (_trim(text, start, end) for start, end in spans)
    return [(start, end) for start, end in trimmed if start < end]


def with_sentences(record: ReportRecord) -> ReportRecord:
    """The record with the spans of its findings and impression filled in."""
    spans = tuple(
        Span(section, start, end)
        for section in Section
        for start, end in sentence_spans(record.section(section))
    )
    return replace(record, sentences=spans)


def strip_list_number(sentence: str) -> str:
    """A sentence as it can stand alone: "2. No effusion." without its number."""
    marker = _LIST_MARKER.match(sentence)
    return sentence[marker.end() if marker else 0 :].strip()


def _paragraphs(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for gap in _PARAGRAPH.finditer(text):
        yield start, gap.start()
        start = gap.end()
    yield start, len(text)


def _ends_sentence(text: str, start: int, end: int) -> bool:
    """Whether the stop that ends at ``end`` ends the sentence begun at ``start``."""
    sentence = text[start:end]
    if _LIST_MARKER.fullmatch(sentence) or _ABBREVIATION.search(sentence):
        return False
    if sentence.endswith("?") and _ANSWER.match(text, end):
        return False
    following = text[end:].lstrip()[:2]
    if _QUERY.search(sentence):
        # "opacity ? pneumonia" asks of what follows; "effusion ?" at the end of what stands before
        asks_on = following[:1].islower() or following.isupper() or not sentence.strip(" ?\n\t")
        return not (following and asks_on)
    if _BEFORE_NOON.search(sentence):
        return following[:1].isupper() and following != "XX"
    return not (_BEFORE_LOWER.search(sentence) and following[:1].islower())


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    inside = text[start:end]
    start += len(inside) - len(inside.lstrip())
    return start, start + len(inside.strip())


PLACEHOLDER = re.compile(r"\bX{2,}\b|_{2,}|\[\*\*.*?\*\*\]")
"""A de-identification token: XXXX (Open-I), ___ (MIMIC-CXR), [**...**] (older MIMIC)."""

_TOKEN = re.compile(
    r"(?P<hidden>X{2,}(?![A-Za-z])|_{2,}|\[\*\*.*?\*\*\])"
    r"|(?P<ticked>[\[(]\s?[xX+\u2713\u2714\u221a]\s?[\])]|\[\s?[yY]es\s?\]|[\u2611\u2612\u25a0\u2713\u2714])"
    r"|(?P<unticked>\[\s*(?:[nN]o)?\s*\]|[\[(]\s?[-\u2013]\s?[\])]|\(\s*\)|[\u2610\u25a1\u2717\u2718])"
    r"|(?P<asked>\(\s?\?+\s?\))"
    r"|(?P<side>(?<![\w/.])[LR](?=[\s,;:)])(?!\s+(?:spine|spinal|\d)))"
    r"|(?P<plus>(?<=[\s:=])\+(?=[\s,;.]|$))"
    r"|(?P<minus>(?<=[\s:=])[-\u2013\u2212](?=\s*$))"
    r"|(?P<word>[A-Za-z]+)"
    r"|(?P<number>\d+(?:[.,/:]\d+)*)"
    r"|(?P<mark>(?<=\s)[-\u2013](?=\s)|\u2014|[,;:=()?&/|])"
)

_MARKS = {"ticked": "[ticked]", "plus": "[ticked]", "asked": "?"}
_MARKS |= {"unticked": "[unticked]", "minus": "[unticked]"}
_SHORT = 40
"""Characters of a line of a form, of which a minus at the end is an answer."""


@dataclass(frozen=True, slots=True)
class Token:
    """A word, number or mark: ``text[start:end]``.

    Attributes:
        keys: spellings under which the lexicon may know it; empty for a number of more than a bit.
    """

    keys: tuple[str, ...]
    start: int
    end: int


def tokenize(text: str) -> list[Token]:
    """Words, numbers and marks of a text; placeholders and hyphens fall away.

    A placeholder hides a word we cannot know, so the sentence is read as if it were not there.
    """
    found = []
    for match in _TOKEN.finditer(text):
        kind, written = str(match.lastgroup), match.group()
        if kind == "hidden" or (kind == "minus" and len(text) > _SHORT):
            continue
        if kind == "word":
            keys = lexicon_keys(written)
        elif kind == "side":
            keys = ("left" if written == "L" else "right",)
        elif kind == "number":
            keys = (written,) if written in ("0", "1") else ()  # what a form answers
        else:
            keys = (_MARKS.get(kind, written),)
        found.append(Token(keys, match.start(), match.end()))
    return found


def load_toml(name: str) -> dict[str, Any]:
    """One file of ``rag/report_nlp/data``."""
    path = files("rag.report_nlp").joinpath("data", name)
    return tomllib.loads(path.read_text(encoding="utf-8"))


@lru_cache(maxsize=50_000)
def lexicon_keys(word: str) -> tuple[str, ...]:
    """Keys of the lexicon that ``word`` may stand for, the likeliest first.

    >>> lexicon_keys("Oedema")
    ('edema',)
    >>> lexicon_keys("opacities")
    ('opaci*',)
    """
    word = word.lower()
    keys, fuzzy = _known_keys(word), _spelling()["fuzzy"]
    if not keys and len(word) >= 6 and word not in fuzzy["keep"]:
        near = _nearest(word, fuzzy["words"])
        keys = _known_keys(near) if near else ()
    return keys or (word,)


@lru_cache(maxsize=1)
def _spelling() -> dict[str, Any]:
    return load_toml("spelling.toml")


def _known_keys(word: str) -> tuple[str, ...]:
    from rag.report_nlp.lexicon import vocabulary  # noqa: PLC0415 - lexicon imports this module

    words, stems = vocabulary()
    word = _spelling()["variants"].get(word, word)
    forms = [word, *_plural_and_british(word)]
    keys = [form for form in forms if form in words]
    for form in forms[:1] if keys else forms:
        keys.extend(stem + "*" for stem in stems if form.startswith(stem))
    return tuple(dict.fromkeys(keys))


def _plural_and_british(word: str) -> Iterator[str]:
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        yield word[:-1]
        if word.endswith("ies"):
            yield word[:-3] + "y"
        if word.endswith("es"):
            yield word[:-2]
    american = (
        re.sub(r"is(?=e[ds]?$|ing$|ation$)", "iz", word).replace("oe", "e").replace("ae", "e")
    )
    american = re.sub(r"our(?=s?$|ed$)", "or", american)
    if american != word:
        yield american
        if american.endswith("s"):
            yield american[:-1]


def _nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate within one slip of ``word``, or two where both have 11 letters or more."""
    best: tuple[int, str] | None = None
    for candidate in candidates:
        allowed = 2 if len(candidate) >= 11 and len(word) >= 10 else 1
        # The first letter is rarely wrong, and asking for it keeps "infusion" from "effusion".
        if abs(len(candidate) - len(word)) > allowed or candidate[0] != word[0]:
            continue
        slips = _slips(word, candidate)
        if slips <= allowed and (best is None or slips < best[0]):
            best = (slips, candidate)
    return best[1] if best else None


def _slips(a: str, b: str) -> int:
    """Letters to insert, drop, change or swap (Damerau, optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        earlier, before, row = before, row, [i]
        for j, other in enumerate(b, 1):
            cost = min(row[-1] + 1, before[j] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == b[j - 2] and a[i - 2] == other:
                cost = min(cost, earlier[j - 2] + 1)
            row.append(cost)
    return row[-1]
