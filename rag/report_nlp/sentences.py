"""Splits a report into sentences and tokens, and normalises the spelling of words.

A sentence span is ``text[start:end]`` without surrounding white space; together the spans cover
every other character. Spelling normalisation covers British spelling, plurals, common abbreviations
and typing errors.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

from rag.report_nlp.lexicon import Token, load_toml, vocabulary
from rag.schema import ReportRecord, Section, Span

_SENTENCE_END = re.compile(
    r"""
    [.!?]+ (?:\s?[.!?]+(?!\d))*     # one or more: "normal..", "consolidation. ."
    (?:[)\]"'>\u2019\u201d]|&gt;)*  # closing brackets and quotes
    (?= \s | $                      # then white space or the end,
      | (?<=[a-z]\.) [A-Z]          # or a missing space: "clear.Heart",
      | (?:(?<=XXXX\.)|(?<=___\.)) [A-Z]   # also after a de-identification token,
      | (?<=[A-Za-z]\.) \d{1,2}[.)]\s  # or before a list number: "disease.2. No"
    )
    """,
    re.VERBOSE,
)
_PARAGRAPH_BREAK = re.compile(r"\n[ \t\r]*\n\s*|\n[ \t]*(?=(?:[-*\u2022]|\(?\d{1,2}[.)])[ \t])")
_LIST_MARKER = re.compile(r"\s*(?:(?:\(?\d{1,2}[.)](?!\d)|[-*\u2022])+|[A-Z][A-Za-z]+:? 1\.(?!\d))")
_ABBREVIATION = re.compile(
    r"(?<![A-Za-z])(?:Dr|Drs|Mr|Mrs|Ms|Prof|St|vs|approx|cf|e\.g|i\.e|M\.D|D\.O|Ph\.D)\.$"
)
_AM_PM = re.compile(r"(?<![A-Za-z])[ap]\.m\.$")
_QUESTION_MARK = re.compile(r"(?:^|\s)(?:\?+|\(\?+\))$")
_FORM_ANSWER = re.compile(r"\s*(?:yes|no|y|n)(?=\s+[A-Z][a-z]|\s*\n|\s*$)|\s*\[", re.IGNORECASE)
_ABBREVIATION_BEFORE_LOWER_CASE = re.compile(
    r"(?<![A-Za-z])(?:cm|mm|lat|sup|inf|ant|post|dx|hx|resp|incl|etc|[Nn]eg|[Pp]os)\.$"
)


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Sentences of one section as (start, end), in order.

    List numbers stay with their sentence ("2. No effusion."). A full stop in a title, decimal or
    abbreviation ("Dr. XXXX", "1.5 cm", "4 p.m. today") does not end a sentence.
    """
    spans = []
    for paragraph_start, paragraph_end in _paragraphs(text):
        start = paragraph_start
        for match in _SENTENCE_END.finditer(text, start, paragraph_end):
            if _is_sentence_end(text, start, match.end()):
                spans.append((start, match.end()))
                start = match.end()
        spans.append((start, paragraph_end))
    trimmed = (_trim(text, start, end) for start, end in spans)
    return [(start, end) for start, end in trimmed if start < end]


def with_sentences(record: ReportRecord) -> ReportRecord:
    """The record with the sentence spans of its findings and impression."""
    spans = tuple(
        Span(section, start, end)
        for section in Section
        for start, end in sentence_spans(record.section(section))
    )
    return replace(record, sentences=spans)


def strip_list_number(sentence: str) -> str:
    """The sentence without a leading list number or bullet: "2. No effusion." -> "No effusion."."""
    marker = _LIST_MARKER.match(sentence)
    return sentence[marker.end() if marker else 0 :].strip()


def _paragraphs(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for gap in _PARAGRAPH_BREAK.finditer(text):
        yield start, gap.start()
        start = gap.end()
    yield start, len(text)


def _is_sentence_end(text: str, start: int, end: int) -> bool:
    """Whether the punctuation before ``end`` ends the sentence that begins at ``start``."""
    sentence = text[start:end]
    if _LIST_MARKER.fullmatch(sentence) or _ABBREVIATION.search(sentence):
        return False
    if sentence.endswith("?") and _FORM_ANSWER.match(text, end):
        return False
    following = text[end:].lstrip()[:2]
    if _QUESTION_MARK.search(sentence):
        # "opacity ? pneumonia" questions what follows; a final "effusion ?" what precedes it
        continues = following[:1].islower() or following.isupper() or not sentence.strip(" ?\n\t")
        return not (following and continues)
    if _AM_PM.search(sentence):
        return following[:1].isupper() and following != "XX"
    return not (_ABBREVIATION_BEFORE_LOWER_CASE.search(sentence) and following[:1].islower())


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

_MARK_KEYS = {"ticked": "[ticked]", "plus": "[ticked]", "asked": "?"}
_MARK_KEYS |= {"unticked": "[unticked]", "minus": "[unticked]"}
_MAX_FORM_LINE_CHARS = 40
"""Up to this length a line is taken for a line of a form, where a final minus means "no"."""


def tokenize(text: str) -> list[Token]:
    """Words, numbers and marks of a text, without hyphens and de-identification tokens."""
    tokens = []
    for match in _TOKEN.finditer(text):
        kind, surface = str(match.lastgroup), match.group()
        if kind == "hidden" or (kind == "minus" and len(text) > _MAX_FORM_LINE_CHARS):
            continue
        if kind == "word":
            keys = lexicon_keys(surface)
        elif kind == "side":
            keys = ("left" if surface == "L" else "right",)
        elif kind == "number":
            keys = (surface,) if surface in ("0", "1") else ()  # what a form answers
        else:
            keys = (_MARK_KEYS.get(kind, surface),)
        tokens.append(Token(keys, match.start(), match.end()))
    return tokens


@lru_cache(maxsize=50_000)
def lexicon_keys(word: str) -> tuple[str, ...]:
    """Lexicon keys that ``word`` may match, the likeliest first; the word itself if none does.

    >>> lexicon_keys("Oedema")
    ('edema',)
    >>> lexicon_keys("opacities")
    ('opaci*',)
    """
    word = word.lower()
    keys, fuzzy = _exact_keys(word), _spelling()["fuzzy"]
    if not keys and len(word) >= 6 and word not in fuzzy["keep"]:
        corrected = _closest(word, fuzzy["words"])
        keys = _exact_keys(corrected) if corrected else ()
    return keys or (word,)


@lru_cache(maxsize=1)
def _spelling() -> dict[str, Any]:
    return load_toml("spelling.toml")


def _exact_keys(word: str) -> tuple[str, ...]:
    words, stems = vocabulary()
    word = _spelling()["variants"].get(word, word)
    forms = [word, *_base_forms(word)]
    keys = [form for form in forms if form in words]
    for form in forms[:1] if keys else forms:
        keys.extend(stem + "*" for stem in stems if form.startswith(stem))
    return tuple(dict.fromkeys(keys))


def _base_forms(word: str) -> Iterator[str]:
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


def _closest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate within one typing error of ``word``; within two for long words."""
    distances: dict[str, int] = {}
    for candidate in candidates:
        allowed = 2 if len(candidate) >= 11 and len(word) >= 10 else 1
        # The first letter is rarely wrong, and requiring it keeps "infusion" from "effusion".
        if candidate[0] == word[0] and abs(len(candidate) - len(word)) <= allowed:
            distance = _edit_distance(word, candidate)
            if distance <= allowed:
                distances[candidate] = distance
    return min(distances, key=lambda candidate: distances[candidate], default=None)


def _edit_distance(a: str, b: str) -> int:
    """Damerau-Levenshtein distance (optimal string alignment)."""
    previous: list[int] = []
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        before_previous, previous, row = previous, row, [i]
        for j, other in enumerate(b, 1):
            cost = min(row[-1] + 1, previous[j] + 1, previous[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == b[j - 2] and a[i - 2] == other:
                cost = min(cost, before_previous[j - 2] + 1)
            row.append(cost)
    return row[-1]
