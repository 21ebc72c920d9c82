"""Splits the text of a report into sections by its headings. Every part is a verbatim slice.

Headings may be at the beginning of a line or after a sentence, with a colon or alone on their line,
in bold or not, as MIMIC-CXR and most systems write them ("FINDINGS:", "**Impression:**", "REASON
FOR EXAM:", "CHEST, PA AND LATERAL:"). An unknown heading ("LUNGS:") stays part of the section it is
in, so that no finding is lost.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class PartKind(StrEnum):
    """What a part of a report is."""

    FINDINGS = "findings"
    IMPRESSION = "impression"
    ADDENDUM = "addendum"
    BODY = "body"
    """Text under the examination's name: the findings, unless these have their own heading."""
    INDICATION = "indication"
    COMPARISON = "comparison"
    OTHER = "other"
    UNHEADED = "unheaded"


IMAGE_KINDS = frozenset((PartKind.FINDINGS, PartKind.IMPRESSION, PartKind.ADDENDUM, PartKind.BODY))
"""Kinds that describe the image."""

NON_IMAGE_KINDS = frozenset((PartKind.INDICATION, PartKind.COMPARISON, PartKind.OTHER))
"""Kinds that do not."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a report: its heading at ``text[start:body]``, its text at ``text[body:end]``."""

    kind: PartKind
    start: int
    body: int
    end: int


@dataclass(frozen=True, slots=True)
class Sections:
    """The sections of one report, stripped; empty if absent."""

    findings: str = ""
    impression: str = ""
    indication: str = ""
    comparison: str = ""


_REVISION = "(?:CORRECTED|AMENDED|REVISED|UPDATED|FINAL|PRELIMINARY|ATTENDING|SECOND|OVER-?READ)"
_REVISED = f"(?:{_REVISION} )?"
_IN_BRACKETS = rf"(?: ?\({_REVISION}\))?"
_NAMES = {
    PartKind.FINDINGS: rf"{_REVISED}FINDINGS?(?: ?(?:AND|/|&) ?IMPRESSIONS?)?{_IN_BRACKETS}"
    "|(?:RADIOLOGY )?REPORT|RESULTS?|OBSERVATIONS?",
    PartKind.IMPRESSION: rf"{_REVISED}(?:IMPRESSIONS?|CONCLUSIONS?){_IN_BRACKETS}"
    "|OPINION|INTERPRETATION|SUMMARY|ASSESSMENT",
    PartKind.ADDENDUM: r"(?:FINAL |BEGIN |START OF )?ADDEND(?:UM|A)(?: BEGINS?)?"
    r"(?: ?\#? ?\d{1,2})?(?: ?\([^()\n]{1,60}\))?(?:,? (?:BY|DATED|FROM|ON|OF) [^:\n]{1,60})?"
    r"|(?:CORRECTED|AMENDED|REVISED) REPORT|CORRECTIONS?",
    PartKind.INDICATION: "(?:CLINICAL |PATIENT )?(?:INDICATIONS?|HISTORY|INFORMATION|DATA|DETAILS)"
    "|(?:CLINICAL|ADMITTING|REFERRING|PROVISIONAL) DIAGNOSIS|CLINICAL(?: QUESTION)?|REASON|HX"
    "|REASON (?:FOR|OF) (?:THE )?(?:EXAM(?:INATION)?|STUDY|TEST)|REQUEST",
    PartKind.COMPARISON: "COMPARISONS?|PRIOR STUD(?:Y|IES)",
    PartKind.OTHER: "TECHNIQUE|(?:TYPE OF )?EXAM(?:INATION)?|PROCEDURE|STUDY|VIEWS?"
    "|WET READ(?: VERSION)?|NOTIFICATION",
}
_ANY_NAME = "|".join(f"(?P<{kind.value}>{words})" for kind, words in _NAMES.items())
_LINE_BREAKS = "\n\r\x0b\x0c\x85\u2028\u2029"
_LINE_START = rf"(?:^|(?<=[{_LINE_BREAKS}]))[ \t]*"
_BOLD = r"(?:\*{1,3}|-{2,}|={2,}|(?<!_)__(?!_)|\#{1,6}|</?(?:b|strong|u|i|h\d|p)>)"
_OPEN, _CLOSE = rf"(?:{_BOLD}[ \t]*|\d[.)][ \t]+)*", rf"(?:[ \t]*{_BOLD})*"
_ALONE_ON_LINE = rf"[ \t]*[:\-\u2013]?[ \t]*(?=[{_LINE_BREAKS}]|$)"

_HEADING = re.compile(
    # at the beginning of a line, or after a sentence; with a colon
    rf"(?:{_LINE_START}|(?<=[.;?!)])[ \t]+|(?<=[.;?!)]){_BOLD}){_OPEN}"
    rf"(?:{_ANY_NAME}){_CLOSE}(?:[ \t]*[:\uff1a]|[ \t]+[-\u2013\u2014](?=[ \t])){_CLOSE}",
    re.IGNORECASE,
)
_ALONE_HEADING = re.compile(
    rf"{_LINE_START}{_OPEN}(?:{_ANY_NAME}){_CLOSE}{_ALONE_ON_LINE}", re.IGNORECASE
)
_BOLD_HEADING = re.compile(  # **Findings** Lungs are clear. **Impression** Normal
    rf"(?:{_LINE_START}|[ \t]+)(?:{_BOLD}|\[)[ \t]*(?:{_ANY_NAME})[ \t]*(?:{_BOLD}|\]:?)",
    re.IGNORECASE,
)
_CAPITALS = {
    PartKind.FINDINGS: "FINDINGS",
    PartKind.IMPRESSION: "IMPRESSION|CONCLUSION",
    PartKind.ADDENDUM: "ADDENDUM",
    PartKind.INDICATION: "(?:CLINICAL )?(?:INDICATION|HISTORY)"
    "|REASON FOR (?:EXAM(?:INATION)?|STUDY)",
    PartKind.COMPARISON: "COMPARISON",
    PartKind.OTHER: "TECHNIQUE|EXAMINATION|PROCEDURE",
}
_ANY_CAPITALS = "|".join(f"(?P<{kind.value}>{words})" for kind, words in _CAPITALS.items())
_CAPITAL_HEADING = re.compile(
    # FINDINGS Lungs are clear. IMPRESSION - Normal; also without the full stop before it
    rf"(?:{_LINE_START}|(?<=[.;?!)])[ \t]+){_OPEN}(?:{_ANY_CAPITALS}){_CLOSE}"
    rf"(?:[ \t]+[-\u2013\u2014])?[ \t]+(?=[A-Z0-9][a-z0-9. ])"
)
_INNER_HEADING = re.compile(rf"(?<=\S)[ \t]+{_OPEN}(?:{_ANY_CAPITALS}){_CLOSE}[ \t]*:{_CLOSE}")

_EXAM_WORD = (
    r"(?:PA|AP|LAT(?:ERAL)?|FRONTAL|VIEWS?|TWO|ONE|SINGLE|THREE|PORTABLE|MOBILE|UPRIGHT|ERECT|SUPINE"
    r"|SEMI-?(?:ERECT|UPRIGHT)|AND|OF|THE|X-?RAYS?|XR|CXR|RADIOGRAPHS?|RADIOGRAPHY|RADIOGRAPHIC|FILMS?"
    r"|PLAIN|EXAM(?:INATION)?|STUDY|SERIES|BEDSIDE|AT|ON|DATED|WITH|HOURS|HRS|[AP]\.?M\.?|_{2,}|X{3,}"
    r"|\d[\d/:.\-]*)"
)
_JOIN = r"[ \t,/&()\-]+"
_EXAM_NAME = rf"(?:{_EXAM_WORD}{_JOIN})*(?:CHEST|THORAX|CXR)(?:{_JOIN}{_EXAM_WORD})*[ \t)]*"
_EXAM_HEADING = re.compile(
    rf"{_LINE_START}{_OPEN}{_EXAM_NAME}(?:{_CLOSE}[ \t]*:{_CLOSE}|{_CLOSE}{_ALONE_ON_LINE})",
    re.IGNORECASE,
)
_INNER_EXAM_HEADING = re.compile(  # HISTORY: Fever. CHEST, TWO VIEWS: Lungs are clear.
    rf"(?<=[.;?!)])[ \t]+{_OPEN}{_EXAM_NAME}{_CLOSE}[ \t]*:{_CLOSE}", re.IGNORECASE
)
_ORGAN_HEADING = re.compile(
    rf"(?:{_LINE_START}|(?<=[.;?!)])[ \t]+){_OPEN}(?:HEART|LUNGS?|PLEURA|BONES?|MEDIASTINUM"
    r"|CARDIOMEDIASTIN\w+|LINES(?: AND TUBES)?|TUBES|(?:SUPPORT )?DEVICES|OTHER)"
    rf"{_CLOSE}[ \t]*:",
    re.IGNORECASE,
)
"""A heading within the findings; within the indication it begins them. Stays in the text."""

_SPACE_VARIANTS = dict.fromkeys((0xA0, 0x2007, 0x202F, 0x3000), " ")
_RULE = (
    r"(?:[-=_*~][-=_*~ \t]{2,}|[-=* \t]*(?:END OF (?:ADDENDUM|REPORT)|ADDENDUM ENDS?)[-=*. \t]*)"
)
_EDGE_RULES = re.compile(
    rf"^(?:\s*{_RULE}(?=[{_LINE_BREAKS}]))+|(?:[{_LINE_BREAKS}]\s*{_RULE})+\s*$", re.IGNORECASE
)
"""Horizontal rules at the edges of a section."""
_FINAL_REPORT = re.compile(r"^[ \t]*FINAL REPORT[ \t]*$", re.MULTILINE)
_BLANK_LINE = re.compile(r"(?:\r?\n|\r)[ \t\r]*\n")
_NEXT_LINE = re.compile(rf"[{_LINE_BREAKS}](?=\s*[A-Z][a-z])")
_NEXT_SENTENCE = re.compile(r"(?:(?<=[a-z)][.?!])|(?<=/\d\.))[ \t]+(?=[A-Z][a-z])")
_LINE_END = re.compile(f"[{_LINE_BREAKS}]|$")
_SENTENCE_END = re.compile(rf"[.?!](?=\s|$)|[{_LINE_BREAKS}]|$")


@dataclass(frozen=True, slots=True)
class _Heading:
    """``start == end`` for an organ heading, which stays in the text."""

    kind: PartKind
    start: int
    end: int
    is_upper: bool
    at_line_start: bool


def parse_sections(text: str) -> Sections:
    """Sections of a report text.

    Parts of one kind are joined by an empty line, in order; addenda end the impression, so that
    corrections are read last. A text without a findings or impression heading is all findings,
    except for headed sections before it, which end at the first blank line, else with their first
    line or sentence.
    """
    final = _FINAL_REPORT.search(text)
    body = text[final.end() :] if final else text
    texts: dict[PartKind, list[str]] = {kind: [] for kind in PartKind}
    before = report_parts(text[: final.start()]) if final else []
    addenda = [text[part.body : part.end] for part in before if part.kind is PartKind.ADDENDUM]
    for part in report_parts(body):
        texts[part.kind].append(body[part.body : part.end])
    impressions = texts[PartKind.IMPRESSION]
    findings = _join(texts[PartKind.FINDINGS]) or _join(texts[PartKind.BODY])
    if not findings and not _join(impressions):
        findings = _join(texts[PartKind.UNHEADED])  # otherwise a letterhead
    return Sections(
        findings=findings,
        impression=_join([*impressions, *addenda, *texts[PartKind.ADDENDUM]]),
        indication=_join(texts[PartKind.INDICATION][:1]),
        comparison=_join(texts[PartKind.COMPARISON][:1]),
    )


def report_parts(text: str) -> list[Part]:
    """The parts of a report in order; together they cover the text.

    Within the findings, a heading that does not describe the image ("Study: limited by habitus.")
    covers only its own line; if the other headings are in capitals and it is not, nothing.
    """
    headings = _headings(text.translate(_SPACE_VARIANTS))
    if not headings:
        return [Part(PartKind.UNHEADED, 0, 0, len(text))]
    return list(_split(text, headings))


def _split(text: str, headings: list[_Heading]) -> Iterator[Part]:
    in_text = [heading for heading in headings if heading.start < heading.end]
    ends = [*(heading.start for heading in in_text[1:]), len(text)]
    kinds = {heading.kind for heading in in_text}
    # an examination's name is often only a title, directly followed by the next heading
    has_body = any(
        heading.kind is PartKind.BODY and text[heading.end : end].strip()
        for heading, end in zip(in_text, ends, strict=True)
    )
    has_image_part = has_body or not kinds.isdisjoint((PartKind.FINDINGS, PartKind.IMPRESSION))
    has_findings = not kinds.isdisjoint((PartKind.FINDINGS, PartKind.BODY))
    current = _Heading(PartKind.UNHEADED, 0, 0, is_upper=False, at_line_start=True)
    for heading in headings:
        in_findings = bool(text[current.end : heading.start].strip()) and (
            current.kind in IMAGE_KINDS
            or (not has_image_part and current.kind not in NON_IMAGE_KINDS)
        )
        is_inner_organ = heading.start == heading.end and current.kind not in NON_IMAGE_KINDS
        if is_inner_organ or (in_findings and heading.kind is PartKind.BODY):
            continue
        if in_findings and heading.kind in NON_IMAGE_KINDS:
            if current.is_upper and not heading.is_upper:
                continue
            end = _end_of_aside(text, heading)
            yield Part(current.kind, current.start, current.end, heading.start)
            yield Part(heading.kind, heading.start, heading.end, end)
            current = _Heading(current.kind, end, end, current.is_upper, at_line_start=True)
            continue
        if heading.start < current.end:
            continue
        is_last = not has_findings and heading.kind not in NON_IMAGE_KINDS
        yield from _parts_under(text, current, heading.start, is_last=is_last)
        current = heading
    yield from _parts_under(text, current, len(text), is_last=not has_image_part)


def _parts_under(text: str, heading: _Heading, end: int, *, is_last: bool) -> Iterator[Part]:
    """The part under a heading; if it is the last before unheaded findings, these too."""
    if not is_last or heading.kind not in NON_IMAGE_KINDS:
        yield Part(heading.kind, heading.start, heading.end, end)
        return
    first = re.compile(r"\S").search(text, heading.end)
    start = first.start() if first else heading.end
    patterns = (_BLANK_LINE, _NEXT_LINE, _NEXT_SENTENCE)
    gaps = (pattern.search(text, start, end) for pattern in patterns)
    split = next((gap.start() for gap in gaps if gap), end)
    yield Part(heading.kind, heading.start, heading.end, split)
    yield Part(PartKind.BODY, split, split, end)


def _end_of_aside(text: str, heading: _Heading) -> int:
    """Where a heading within the findings ends: with its line, sentence or paragraph."""
    pattern = _LINE_END if heading.at_line_start else _SENTENCE_END
    match = pattern.search(text, heading.end)
    end = match.end() if match else len(text)
    if text[heading.end : end].strip():
        return end
    gap = _BLANK_LINE.search(text, end)
    return gap.start() if gap else len(text)


def _headings(text: str) -> list[_Heading]:
    """All headings, in order and not overlapping; earlier patterns win."""
    found: dict[int, _Heading] = {}
    all_upper = text.isupper()
    patterns = [_HEADING, _ALONE_HEADING, _EXAM_HEADING, _INNER_EXAM_HEADING, _BOLD_HEADING]
    if not all_upper:
        patterns.append(_CAPITAL_HEADING)
    for pattern in patterns:
        _add_headings(found, text, pattern)
    if found and not all_upper and min(found) <= len(text) - len(text.lstrip()):
        _add_headings(found, text, _INNER_HEADING)
    if any(heading.kind in NON_IMAGE_KINDS for heading in found.values()):
        for match in _ORGAN_HEADING.finditer(text):
            start = match.end() - len(match.group().lstrip())
            is_upper = match.group().isupper()
            found.setdefault(start, _Heading(PartKind.BODY, start, start, is_upper, True))
    return [found[start] for start in sorted(found)]


def _add_headings(found: dict[int, _Heading], text: str, pattern: re.Pattern[str]) -> None:
    for match in pattern.finditer(text):
        start, end = match.span()
        if any(other.start < end and start < other.end for other in found.values()):
            continue
        kind = PartKind(match.lastgroup) if match.lastgroup else PartKind.BODY
        name = match.group(match.lastgroup) if match.lastgroup else match.group()
        before = text[:start].rstrip(" \t")
        at_line_start = not before or before[-1] in _LINE_BREAKS or text[start] in _LINE_BREAKS
        found[start] = _Heading(kind, start, end, name.isupper(), at_line_start)


def _join(parts: list[str]) -> str:
    return "\n\n".join(plain for part in parts if (plain := _EDGE_RULES.sub("", part).strip()))


def normalize_text(text: str) -> str:
    """Lower case with single blanks: equal for reports that differ in nothing else."""
    return " ".join(text.lower().split())
