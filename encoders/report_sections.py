"""A report as one text -> its sections, by their headings. Every section is a verbatim slice.

Understands headings at the beginning of a line as MIMIC-CXR and most systems write them
("FINDINGS:", "Impression:", "REASON FOR EXAM:"). A heading that it does not know ("LUNGS:") stays
part of the section it stands in, so that no finding is lost.
"""

import re
from dataclasses import dataclass
from itertools import zip_longest

_NAMES = {
    "findings": "FINDINGS?|FINDINGS? ?(?:AND|/|&) ?IMPRESSIONS?",
    "impression": "IMPRESSIONS?|CONCLUSIONS?|OPINION",
    "indication": "(?:CLINICAL )?(?:INDICATIONS?|HISTORY|INFORMATION)|REASON FOR (?:THE )?"
    "(?:EXAM(?:INATION)?|STUDY)",
    "comparison": "COMPARISONS?|PRIOR STUD(?:Y|IES)",
    "other": "TECHNIQUE|EXAM(?:INATION)?|PROCEDURE|STUDY|VIEWS?|WET READ|NOTIFICATION|ADDENDUM",
}
_HEADING = re.compile(
    r"^[ \t]*(?:"
    + "|".join(f"(?P<{name}>{words})" for name, words in _NAMES.items())
    + r")[ \t]*:",
    re.MULTILINE | re.IGNORECASE,
)
_BANNER = re.compile(r"^[ \t]*FINAL REPORT[ \t]*$", re.MULTILINE)
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n")


@dataclass(frozen=True, slots=True)
class Sections:
    """The sections of one report, without the white space around them; empty if absent."""

    findings: str = ""
    impression: str = ""
    indication: str = ""
    comparison: str = ""


def parse_sections(text: str) -> Sections:
    """Sections of a report text.

    The first section of each kind that says anything counts. A text without a findings or an
    impression heading is all findings, apart from the headed sections before it: those end at
    the first blank line.
    """
    banner = _BANNER.search(text)
    body = text[banner.end() :] if banner else text
    headings = list(_HEADING.finditer(body))
    found: dict[str, str] = {}
    for heading, following in zip_longest(headings, headings[1:]):
        kind = str(heading.lastgroup)
        section = body[heading.end() : following.start() if following else len(body)].strip()
        found[kind] = found.get(kind) or section
    if not found.get("findings") and not found.get("impression"):
        _take_unheaded(body, headings, found)
    found.pop("other", None)
    return Sections(**found)


def _take_unheaded(body: str, headings: list[re.Match[str]], found: dict[str, str]) -> None:
    """Findings are what follows the last headed paragraph, or everything."""
    if not headings:
        found["findings"] = body.strip()
        return
    last = headings[-1]
    paragraph, *rest = _BLANK_LINE.split(body[last.end() :].strip(), maxsplit=1)
    found[str(last.lastgroup)] = paragraph.strip()
    found["findings"] = "".join(rest).strip()
