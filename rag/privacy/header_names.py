"""Who a header names, and whether a text of it still does.

Names are short in some scripts and some countries: two letters in Korean, Chinese and Vietnamese
names are whole ones. Short Latin parts count only as words of their own.
"""

import re
from collections.abc import Iterator

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

_IDENTIFIERS = (
    *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "AccessionNumber", "StudyID"),
    *("PatientID", "OtherPatientIDs", "PatientBirthDate"),
)
_TEXT = frozenset({"AE", "CS", "LO", "LT", "SH", "ST", "UC", "UR", "UT", "UI", "DA", "DT", "UN"})
_DEFINED = frozenset({"CS", "UI", "DA", "DT"})
"""Defined terms, UIDs, dates: a short name that stands in one ("LL", "PA") is none."""
_SHORT, _LONG = 2, 4
_LATIN_END = 0x0250


class HeaderNames:
    """The names and numbers in a header, to find them in its texts."""

    def __init__(self, dataset: Dataset) -> None:
        parts = set(_parts(dataset))
        long = {part for part in parts if len(part) >= (_LONG if _is_latin(part) else _SHORT)}
        self._long = _pattern(long)
        self._all = _pattern(parts)
        self._bytes = sorted(
            {
                part.encode(encoding)
                for part in long
                for encoding in ("utf-8", "gb18030", "euc_kr", "shift_jis")
                if not _is_latin(part) and _encodable(part, encoding)
            }
        )

    def stand_in(self, element: DataElement) -> bool:
        """Whether an element still names somebody."""
        if element.VR not in _TEXT:
            return False
        pattern = self._long if element.VR in _DEFINED else self._all
        return bool(pattern and pattern.search(_text(element).lower()))

    def stand_in_bytes(self, header: bytes) -> bool:
        """Whether bytes of a file do, in one of the encodings of DICOM."""
        if any(name in header for name in self._bytes):
            return True
        return bool(self._long and self._long.search(header.decode("latin-1").lower()))


def _parts(dataset: Dataset) -> Iterator[str]:
    for element in dataset.iterall():
        if element.VR == "PN":
            for value in _values(element):
                yield from _parts_of_name(value.lower())
        elif element.keyword in _IDENTIFIERS:
            for value in _values(element):
                if len(value.strip()) >= _LONG:
                    yield value.strip().lower()


def _parts_of_name(value: str) -> Iterator[str]:
    """Of ``family^given^middle^prefix^suffix=...``: prefixes and suffixes are titles, no names."""
    for group in value.split("="):
        words = " ".join(group.split("^")[:3]).replace(",", " ").split()
        yield from (word for word in words if len(word) >= _SHORT or not _is_latin(word))
        joined = "".join(words)
        if joined and not _is_latin(joined):
            yield joined


def _pattern(parts: set[str]) -> re.Pattern[str] | None:
    latin = sorted(re.escape(part) for part in parts if _is_latin(part))
    others = sorted(re.escape(part) for part in parts if not _is_latin(part))
    whole = rf"(?<![^\W_])(?<!\d\.)(?:{'|'.join(latin)})(?![^\W_])" if latin else ""
    found = "|".join(filter(None, [whole, *others]))
    return re.compile(found) if found else None


def _values(element: DataElement) -> list[str]:
    value = element.value
    if value is None or value == "":
        return []
    return [str(one) for one in value] if element.VM > 1 else [str(value)]


def _text(element: DataElement) -> str:
    value = element.value
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _is_latin(text: str) -> bool:
    return all(ord(letter) < _LATIN_END for letter in text)


def _encodable(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
