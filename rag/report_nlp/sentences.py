"""Where the sentences of a radiology report begin and end.

A span is ``text[start:end]`` without surrounding white space; together the spans hold every
character that is not white space, in order.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

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


def without_list_number(sentence: str) -> str:
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
