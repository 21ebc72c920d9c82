"""A report as one text -> its sections, by their headings. Every part is a verbatim slice.

Understands headings at the beginning of a line or after a sentence, with a colon or alone on their
line, in bold or not, as MIMIC-CXR and most systems write them ("FINDINGS:", "**Impression:**",
"REASON FOR EXAM:", "CHEST, PA AND LATERAL:"). A heading that it does not know ("LUNGS:") stays
part of the section it stands in, so that no finding is lost.
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
    """What stands under the examination's own name: the findings, if nothing else is."""
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
    """The sections of one report, without the white space around them; empty if absent."""

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
_BREAK = "\n\r\x0b\x0c\x85\u2028\u2029"
_LINE_START = rf"(?:^|(?<=[{_BREAK}]))[ \t]*"
_BOLD = r"(?:\*{1,3}|-{2,}|={2,}|(?<!_)__(?!_)|\#{1,6}|</?(?:b|strong|u|i|h\d|p)>)"
_OPEN, _CLOSE = rf"(?:{_BOLD}[ \t]*|\d[.)][ \t]+)*", rf"(?:[ \t]*{_BOLD})*"
_ALONE = rf"[ \t]*[:\-\u2013]?[ \t]*(?=[{_BREAK}]|$)"

_HEADING = re.compile(
    # at the beginning of a line, or after a sentence; with a colon
    rf"(?:{_LINE_START}|(?<=[.;?!)])[ \t]+|(?<=[.;?!)]){_BOLD}){_OPEN}"
    rf"(?:{_ANY_NAME}){_CLOSE}(?:[ \t]*[:\uff1a]|[ \t]+[-\u2013\u2014](?=[ \t])){_CLOSE}",
    re.IGNORECASE,
)
_ALONE_HEADING = re.compile(rf"{_LINE_START}{_OPEN}(?:{_ANY_NAME}){_CLOSE}{_ALONE}", re.IGNORECASE)
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

_VIEW_WORD = (
    r"(?:PA|AP|LAT(?:ERAL)?|FRONTAL|VIEWS?|TWO|ONE|SINGLE|THREE|PORTABLE|MOBILE|UPRIGHT|ERECT|SUPINE"
    r"|SEMI-?(?:ERECT|UPRIGHT)|AND|OF|THE|X-?RAYS?|XR|CXR|RADIOGRAPHS?|RADIOGRAPHY|RADIOGRAPHIC|FILMS?"
    r"|PLAIN|EXAM(?:INATION)?|STUDY|SERIES|BEDSIDE|AT|ON|DATED|WITH|HOURS|HRS|[AP]\.?M\.?|_{2,}|X{3,}"
    r"|\d[\d/:.\-]*)"
)
_JOIN = r"[ \t,/&()\-]+"
_EXAM_NAME = re.compile(
    rf"{_LINE_START}{_OPEN}(?:{_VIEW_WORD}{_JOIN})*(?:CHEST|THORAX|CXR)(?:{_JOIN}{_VIEW_WORD})*"
    rf"[ \t)]*(?:{_CLOSE}[ \t]*:{_CLOSE}|{_CLOSE}{_ALONE})",
    re.IGNORECASE,
)
_INNER_EXAM = re.compile(  # HISTORY: Fever. CHEST, TWO VIEWS: Lungs are clear.
    rf"(?<=[.;?!)])[ \t]+{_OPEN}(?:{_VIEW_WORD}{_JOIN})*(?:CHEST|THORAX|CXR)"
    rf"(?:{_JOIN}{_VIEW_WORD})*[ \t)]*{_CLOSE}[ \t]*:{_CLOSE}",
    re.IGNORECASE,
)
_ORGAN = re.compile(
    rf"(?:{_LINE_START}|(?<=[.;?!)])[ \t]+){_OPEN}(?:HEART|LUNGS?|PLEURA|BONES?|MEDIASTINUM"
    r"|CARDIOMEDIASTIN\w+|LINES(?: AND TUBES)?|TUBES|(?:SUPPORT )?DEVICES|OTHER)"
    rf"{_CLOSE}[ \t]*:",
    re.IGNORECASE,
)
"""A heading within findings; in the indication it begins them. It stays part of the text."""

_BLANKS = dict.fromkeys((0xA0, 0x2007, 0x202F, 0x3000), " ")
_DRAWN = (
    r"(?:[-=_*~][-=_*~ \t]{2,}|[-=* \t]*(?:END OF (?:ADDENDUM|REPORT)|ADDENDUM ENDS?)[-=*. \t]*)"
)
_RULES = re.compile(
    rf"^(?:\s*{_DRAWN}(?=[{_BREAK}]))+|(?:[{_BREAK}]\s*{_DRAWN})+\s*$", re.IGNORECASE
)
"""Lines under a heading and around an addendum."""
_BANNER = re.compile(r"^[ \t]*FINAL REPORT[ \t]*$", re.MULTILINE)
_BLANK_LINE = re.compile(r"(?:\r?\n|\r)[ \t\r]*\n")
_NEXT_LINE = re.compile(rf"[{_BREAK}](?=\s*[A-Z][a-z])")
_NEXT_SENTENCE = re.compile(r"(?:(?<=[a-z)][.?!])|(?<=/\d\.))[ \t]+(?=[A-Z][a-z])")
_LINE_END = re.compile(f"[{_BREAK}]|$")
_SENTENCE_END = re.compile(rf"[.?!](?=\s|$)|[{_BREAK}]|$")


@dataclass(frozen=True, slots=True)
class _Heading:
    kind: PartKind
    start: int
    end: int
    capitals: bool
    at_line: bool


def parse_sections(text: str) -> Sections:
    """Sections of a report text.

    What stands under several headings of one kind is joined by an empty line, in order, and
    addenda are the end of the impression: what was corrected is read last. A text without a
    findings or an impression heading is all findings, apart from the headed sections before it:
    those end at the first blank line, the first line or the first sentence.
    """
    banner = _BANNER.search(text)
    body = text[banner.end() :] if banner else text
    found: dict[PartKind, list[str]] = {}
    before = report_parts(text[: banner.start()]) if banner else []
    addenda = [text[part.body : part.end] for part in before if part.kind is PartKind.ADDENDUM]
    for part in report_parts(body):
        found.setdefault(part.kind, []).append(body[part.body : part.end])
    findings = _joined(found.get(PartKind.FINDINGS, ())) or _joined(found.get(PartKind.BODY, ()))
    if not findings and not _joined(found.get(PartKind.IMPRESSION, ())):
        findings = _joined(found.get(PartKind.UNHEADED, ()))  # else a letterhead
    return Sections(
        findings=findings,
        impression=_joined(
            [*found.get(PartKind.IMPRESSION, ()), *addenda, *found.get(PartKind.ADDENDUM, ())]
        ),
        indication=_joined(found.get(PartKind.INDICATION, ())[:1]),
        comparison=_joined(found.get(PartKind.COMPARISON, ())[:1]),
    )


def report_parts(text: str) -> list[Part]:
    """The parts of a report in order; together they cover the text.

    Once the findings have begun, a heading that describes no image ("Study: limited by habitus.")
    does not end them: it takes its own line, or in a report with headings in capitals nothing.
    """
    headings = _headings(text.translate(_BLANKS))
    if not headings:
        return [Part(PartKind.UNHEADED, 0, 0, len(text))]
    return list(_cut(text, headings))


def _cut(text: str, headings: list[_Heading]) -> Iterator[Part]:
    own = [heading for heading in headings if heading.start < heading.end]
    ends = [*(heading.start for heading in own[1:]), len(text)]
    kinds = {heading.kind for heading in own}
    # an examination's name is often a title, with nothing under it but the next heading
    body = any(
        heading.kind is PartKind.BODY and text[heading.end : end].strip()
        for heading, end in zip(own, ends, strict=True)
    )
    named = body or not kinds.isdisjoint((PartKind.FINDINGS, PartKind.IMPRESSION))
    described = not kinds.isdisjoint((PartKind.FINDINGS, PartKind.BODY))
    current = _Heading(PartKind.UNHEADED, 0, 0, capitals=False, at_line=True)
    for heading in headings:
        said = bool(text[current.end : heading.start].strip())
        begun = said and (
            current.kind in IMAGE_KINDS or (not named and current.kind not in NON_IMAGE_KINDS)
        )
        organ = heading.start == heading.end and current.kind not in NON_IMAGE_KINDS
        if organ or (begun and heading.kind is PartKind.BODY):
            continue
        if begun and heading.kind in NON_IMAGE_KINDS:
            if current.capitals and not heading.capitals:
                continue
            end = _own_line(text, heading)
            yield Part(current.kind, current.start, current.end, heading.start)
            yield Part(heading.kind, heading.start, heading.end, end)
            current = _Heading(current.kind, end, end, current.capitals, at_line=True)
            continue
        if heading.start < current.end:
            continue
        last = not described and heading.kind not in NON_IMAGE_KINDS
        yield from _part(text, current, heading.start, last=last)
        current = heading
    yield from _part(text, current, len(text), last=not named)


def _part(text: str, heading: _Heading, end: int, *, last: bool) -> Iterator[Part]:
    if not last or heading.kind not in NON_IMAGE_KINDS:
        yield Part(heading.kind, heading.start, heading.end, end)
        return
    # the last header of a report without a findings heading ends at a blank line, else with its
    # line or its first sentence
    first = re.compile(r"\S").search(text, heading.end)
    begin = first.start() if first else heading.end
    gaps = (
        pattern.search(text, begin, end) for pattern in (_BLANK_LINE, _NEXT_LINE, _NEXT_SENTENCE)
    )
    stop = next((gap.start() for gap in gaps if gap), end)
    yield Part(heading.kind, heading.start, heading.end, stop)
    yield Part(PartKind.BODY, stop, stop, end)


def _own_line(text: str, heading: _Heading) -> int:
    """Where a heading within the findings ends: with its line, sentence or paragraph."""
    pattern = _LINE_END if heading.at_line else _SENTENCE_END
    found = pattern.search(text, heading.end)
    end = found.end() if found else len(text)
    if text[heading.end : end].strip():
        return end
    gap = _BLANK_LINE.search(text, end)
    return gap.start() if gap else len(text)


def _headings(text: str) -> list[_Heading]:
    found: dict[int, _Heading] = {}
    shouted = text.isupper()
    patterns = [_HEADING, _ALONE_HEADING, _EXAM_NAME, _INNER_EXAM, _BOLD_HEADING]
    if not shouted:
        patterns.append(_CAPITAL_HEADING)
    for pattern in patterns:
        for match in pattern.finditer(text):
            _keep(found, text, match)
    if found and not shouted and min(found) <= len(text) - len(text.lstrip()):
        for match in _INNER_HEADING.finditer(text):
            _keep(found, text, match)
    if any(heading.kind in NON_IMAGE_KINDS for heading in found.values()):
        for match in _ORGAN.finditer(text):
            start = match.end() - len(match.group().lstrip())
            organ = _Heading(PartKind.BODY, start, start, match.group().isupper(), at_line=True)
            found.setdefault(start, organ)
    return [found[at] for at in sorted(found)]


def _keep(found: dict[int, _Heading], text: str, match: re.Match[str]) -> None:
    if any(other.start < match.end() and match.start() < other.end for other in found.values()):
        return
    kind = PartKind(match.lastgroup) if match.lastgroup else PartKind.BODY
    name = match.group(match.lastgroup) if match.lastgroup else match.group()
    before = text[: match.start()].rstrip(" \t")
    at_line = not before or before[-1] in _BREAK or match.group()[:1] in _BREAK
    found[match.start()] = _Heading(kind, match.start(), match.end(), name.isupper(), at_line)


def _joined(parts: list[str] | tuple[str, ...]) -> str:
    return "\n\n".join(plain for part in parts if (plain := _RULES.sub("", part).strip()))


def normalize_text(text: str) -> str:
    """In lower case with one blank between words: equal for reports that differ in nothing else."""
    return " ".join(text.lower().split())
