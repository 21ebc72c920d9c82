"""What a sentence says besides findings: numbers, earlier images, advice, removed identifiers.

A measure ("2.3 x 1.5 cm") is distinguished from a date, a count ("two nodules") and an anatomical
level ("T8", "fifth rib"). The other patterns are in `rag/report_nlp/data/non_findings.toml`.
History ("old fracture", "status post sternotomy", "chronic") does not count as comparison.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from rag.report_nlp.lexicon import load_toml
from rag.report_nlp.sentences import PLACEHOLDER


class NumberKind(StrEnum):
    """What a number expresses."""

    MEASURE = "measure"
    DATE = "date"
    COUNT = "count"
    LEVEL = "level"


@dataclass(frozen=True, slots=True)
class Number:
    """A number at ``sentence[start:end]``.

    Attributes:
        value: comparable form: lengths in mm ("12 mm" for "1.2 cm"), dates with blanks as
            separators, levels in lower case ("t8", "rib 5").
    """

    kind: NumberKind
    value: str
    start: int
    end: int


_CARDINALS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
_CARDINAL_WORDS = _CARDINALS.split()
_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
_ORDINAL_VALUES = dict(zip(_ORDINALS.split(), range(1, 13), strict=True))
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec)[a-z]*\.?"
_ORDINAL_PATTERN = r"(?:\d{1,2}(?:st|nd|rd|th)?|" + "|".join(_ORDINAL_VALUES) + ")"
_VALUE = r"\d+(?:[.,]\d+)?|\.\d+"
_UNIT = (
    r"mm|millimet(?:er|re)s?|cm|centimet(?:er|re)s?|m[lL]|cc|cubic centimet\w+|%|percent|degrees?|°"
    r"|french|fr|[- ]?(?:years?|months?|weeks?|days?|hours?|minutes?)(?:[- ]olds?)?"
    r"|kg|inch(?:es)?|hu|kv|mas?"
)
_MM_PER_UNIT = {"mm": 1.0, "millim": 1.0, "cm": 10.0, "centim": 10.0, "inch": 25.4}
"""How the name of a unit of length begins -> its length in mm."""

_NUMBER = re.compile(
    rf"""
    (?P<date>
        \b\d{{1,4}}[/.-]\d{{1,2}}[/.-]\d{{2,4}}\b
      | \b\d{{1,2}}/\d{{1,2}}\b(?!\s*(?:of|th)\b)
      | \b(?:{_MONTH}\s+\d{{1,2}}(?:st|nd|rd|th)?(?:,?\s+\d{{4}})?|\d{{1,2}}(?:st|nd|rd|th)?\s+{_MONTH}(?:,?\s+\d{{4}})?)\b
      | \b(?:{_MONTH}\s+)?(?:19|20)\d{{2}}\b(?!\s*(?:m[ml]|cc))
      | \b\d{{1,2}}:\d{{2}}(?::\d{{2}})?(?:\s*[ap]\.?m\b\.?)?
      | \b\d{{1,2}}\s*[ap]\.?m\b\.?
    )
  | (?P<level>
        \b[CTLS]-?\d{{1,2}}(?:\s*(?:[-/]|to|through|and)\s*[CTLS]?-?\d{{1,2}})*\b
      | \b{_ORDINAL_PATTERN}(?:\s*(?:,|-|to|through|and)\s*(?:and\s+)?{_ORDINAL_PATTERN})*\s+(?:(?:left|right|anterior|posterior|lateral|anterolateral|posterolateral)\s+)*
        (?:ribs?|intercostal|interspace|costal|thoracic\s+vertebra\w*|lumbar\s+vertebra\w*|vertebra\w*|metacarpal|metatarsal|digit)\b
      | \bribs?\s+\d{{1,2}}(?:\s*(?:[-,]|to|through|and)\s*\d{{1,2}})*
    )
  | (?P<measure>
        (?<![\w.])(?:{_VALUE})(?:\s*(?:x|by|-|to|\u00d7)\s*(?:{_VALUE}))*\s*-?\s*(?:{_UNIT})(?![A-Za-z])
      | (?<![\w.])(?:{_VALUE})(?:\s*(?:x|\u00d7)\s*(?:{_VALUE}))+
    )
  | (?P<count> (?<![\w.])\d+(?:\.\d+)?(?![\w%]) | \b(?:{"|".join(_CARDINAL_WORDS[2:])})\b(?!-?\s*(?:month|week|day|year|hour)) )
  | (?P<spelt> \b(?:{"|".join(_CARDINAL_WORDS[1:])})[- ](?:mm|millimet\w+|cm|centimet\w+|year|month|week|day|hour)s?\b )
    """,  # noqa: E501 - one alternative a line
    re.IGNORECASE | re.VERBOSE | re.UNICODE,
)
_LIST_NUMBER = re.compile(r"\s*\(?\d{1,2}[.)](?!\d)\s*")


def find_numbers(sentence: str) -> tuple[Number, ...]:
    """Every number of ``sentence``, in order.

    >>> [(n.kind.value, n.value) for n in find_numbers("2. A 1.2 cm nodule over the 5th rib.")]
    [('measure', '12 mm'), ('level', 'rib 5')]
    """
    marker = _LIST_NUMBER.match(sentence)
    numbers: list[Number] = []
    for match in _NUMBER.finditer(sentence, marker.end() if marker else 0):
        kind = match.lastgroup or "count"
        for value in _comparable_values(kind, match.group()):
            number_kind = NumberKind.MEASURE if kind == "spelt" else NumberKind(kind)
            numbers.append(Number(number_kind, value, match.start(), match.end()))
    return tuple(numbers)


def _comparable_values(kind: str, text: str) -> list[str]:
    text = text.lower().strip()
    if kind == "date":
        return [re.sub(r"[\s,./:-]+", " ", text).strip()]
    if kind == "level":
        return _comparable_levels(text)
    if kind == "count":
        return [str(_CARDINAL_WORDS.index(text)) if text in _CARDINAL_WORDS else text]
    for word in _CARDINAL_WORDS[1:]:
        text = re.sub(rf"\b{word}\b", str(_CARDINAL_WORDS.index(word)), text)
    values = re.findall(_VALUE, text)
    unit = re.sub(rf"^.*?(?:{_VALUE})(?:\s*(?:x|by|-|to|\u00d7)\s*(?:{_VALUE}))*[\s-]*", "", text)
    scale = next((mm for name, mm in _MM_PER_UNIT.items() if unit.startswith(name)), None)
    if scale is not None:
        return [f"{float(value.replace(',', '.')) * scale:g} mm" for value in values]
    return [f"{float(value.replace(',', '.')):g} {unit.rstrip('s')}".strip() for value in values]


def _comparable_levels(text: str) -> list[str]:
    if re.match(r"[ctls]-?\d", text):
        region = text[0]
        return [
            f"{letter or region}{digits}"
            for letter, digits in re.findall(r"([ctls]?)-?(\d{1,2})", text)
        ]
    name = "rib" if "rib" in text else re.split(r"\s", text)[-1].rstrip("s")
    words = re.findall(r"\d{1,2}|" + "|".join(_ORDINAL_VALUES), text)
    return [f"{name} {_ORDINAL_VALUES.get(word, word)}" for word in words]


def prior_mentions(sentence: str) -> tuple[tuple[int, int], ...]:
    """Offsets of the words that refer to an earlier image.

    >>> [(a, b)] = prior_mentions("Small effusion, unchanged.")
    >>> "Small effusion, unchanged."[a:b]
    'unchanged'
    """
    masks, cues, _ = _patterns()
    text = masks.sub(lambda match: "#" * len(match.group()), _lower_case(sentence))
    return tuple(match.span() for match in cues.finditer(text))


def recommends_or_communicates(sentence: str) -> bool:
    """Whether the sentence gives advice ("CT is advised") or reports a communication."""
    return _patterns()[2].search(_lower_case(sentence)) is not None


def has_placeholder(sentence: str) -> bool:
    """Whether the sentence contains a de-identification token (XXXX, ___, [**...**])."""
    return PLACEHOLDER.search(sentence) is not None


def _lower_case(sentence: str) -> str:
    """Lower case, with blanks for all white space; offsets stay the same."""
    lower = sentence.lower()
    return re.sub(r"\s", " ", lower if len(lower) == len(sentence) else sentence)


@lru_cache(maxsize=1)
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    data = load_toml("non_findings.toml")

    def whole_words(patterns: Iterable[str]) -> re.Pattern[str]:
        joined = "|".join(f"(?:{pattern})" for pattern in patterns)
        for name, words in data["names"].items():
            joined = joined.replace(name, words)
        return re.compile(rf"(?<![\w#])(?:{joined})(?![\w#])")

    prior = data["prior"]
    return (
        whole_words(prior["masks"]),
        whole_words(prior["cues"]),
        whole_words(data["advice"]["cues"]),
    )
