"""The text of a DICOM structured report: its sections with their headings, nothing of its header.

PS3.3 C.17.3, PS3.16 TID 2000. What a sentence was inferred from, comments and observers are left
out.
"""

import io
from collections.abc import Iterator
from pathlib import Path

from pydicom.dataset import Dataset

from encoders.dicom.header import code, items, parse_header, text_values, word
from encoders.images.raw_image import ImageReadError

_KEYWORDS = ("CompletionFlag", "PreliminaryFlag", "ContentSequence", "SpecificCharacterSet")
_FINDINGS = frozenset({"59776-5", "121070", "121071"})
_IMPRESSION = frozenset({"19005-8", "121072", "121073", "121076", "121077", "55110-1"})
_COMMENT = "121106"


def report_text(source: Path | bytes) -> tuple[str, bool]:
    """Findings and impression of a structured report, and whether it is a complete, final one.

    A draft that nobody has signed is PARTIAL: what it says is no prior report. What cannot be
    parsed has no text.
    """
    try:
        data = source if isinstance(source, bytes) else source.read_bytes()
        report = parse_header(io.BytesIO(data), _KEYWORDS)
    except (OSError, ImageReadError):
        return "", False
    final = code(report, "CompletionFlag") != "PARTIAL"
    final = final and code(report, "PreliminaryFlag") != "PRELIMINARY"
    return "\n".join(_lines(report, "")).strip(), final


def _lines(item: Dataset, heading: str) -> Iterator[str]:
    """Texts of an item's contents, each section after its heading."""
    for each in items(item, "ContentSequence"):
        if code(each, "RelationshipType") != "CONTAINS":
            continue
        concept = next(iter(items(each, "ConceptNameCodeSequence")), Dataset())
        value = word(concept, "CodeValue")
        own = "IMPRESSION" if value in _IMPRESSION else "FINDINGS" if value in _FINDINGS else ""
        if value == _COMMENT:
            continue
        kind = code(each, "ValueType")
        if own and own != heading and kind in ("TEXT", "CONTAINER"):
            yield f"\n{own}:"
        if kind == "TEXT":
            yield from text_values(each, "TextValue")
        elif kind == "CONTAINER":
            yield from _lines(each, own or heading)
