"""Cleaning: how a report is split into words before it is scored.

It changes BLEU-4 more than the choice of library does, so every score names its cleaning.
"""

import html
import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cleaning:
    """A tokenization convention; ``description`` is for the metric card."""

    name: str
    description: str
    words: Callable[[str], list[str]]

    def __str__(self) -> str:
        return f"{self.name}: {self.description}"

    def clean(self, text: str) -> str:
        """The words separated by single spaces."""
        return " ".join(self.words(text))


_ASCII_PUNCTUATION = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2013": " - ",
        "\u2014": " - ",
        "\u2026": " ... ",
    }
)
_PTB_WORD = re.compile(
    r"""
    (?:[a-z]\.){2,}(?![a-z])                       # e.g.  a.m.
  | \b(?:dr|mr|mrs|ms|vs|etc|st|ct|prof|jr|sr)\.(?=\s|$)
  | \bno\.(?=[\s:]*\d)                             # number, not the word no
  | \d+(?:[.,]\d+)+(?=[a-z])                       # 3.1cm: a number, then its unit
  | \d+(?:[.,]\d+)+(?![^\W_]|[:-]\d)               # 1.5  10,000
  | \d+(?:[.,:/-]\d+)*(?![^\W_]|[-/][^\W_])        # 10:15  3-4  12/05/2019
  | (?<![\w.])\.\d+
  | \b(?:can(?=not\b)|gon(?=na\b)) | (?<=can)not\b | (?<=gon)na\b
  | [^\W\d_]+(?=n't\b) | n't\b                     # isn't: is + n't
  | (?<=\w)'(?:s|m|d|ll|re|ve)\b                   # patient's: patient + 's
  | _{2,}
  | <[a-z]+>
  | [^\W_]+(?:[-/.&][^\W\d_][^\W_]*|[-/&]\d[^\W_]*)* # left-sided  and/or  t9/t10  clear.heart
  | [()\[\]{}]
  | [%&\#$@\u00b0\u00b1+=*/\\|~^<>]
    """,
    re.VERBOSE,
)
_PTB_BRACKETS = {
    "(": "-lrb-",
    ")": "-rrb-",
    "[": "-lsb-",
    "]": "-rsb-",
    "{": "-lcb-",
    "}": "-rcb-",
}
_R2GEN_PUNCTUATION = re.compile(r"""[.,?;*!%^&_+():\[\]{}"'\\/]""")


def _coco_ptb(text: str) -> list[str]:
    plain = html.unescape(text).lower().translate(_ASCII_PUNCTUATION)
    return [_PTB_BRACKETS.get(word, word) for word in _PTB_WORD.findall(plain)]


def _r2gen(text: str) -> list[str]:
    """As R2Gen cleans Open-I (2020)."""
    lower = re.sub(r"(?:^|(?<=\s))\d\. ", "", " ".join(text.lower().split()))
    parts = re.split(r"\.+(?=\s|$)", lower)
    sentences = (_R2GEN_PUNCTUATION.sub("", part).split() for part in parts)
    return [word for sentence in sentences if sentence for word in [*sentence, "."]]


def _cxr_report_metric(text: str) -> list[str]:
    """As CXR-Report-Metric does before its BLEU-2."""
    return text.lower().replace(".", " .").split()


COCO_PTB = Cleaning(
    "coco-ptb",
    "lower case, Penn Treebank words, punctuation dropped, as in COCO caption scoring",
    _coco_ptb,
)
R2GEN = Cleaning("r2gen", "lower case, all punctuation dropped but ' . ' after a sentence", _r2gen)
CXR_REPORT_METRIC = Cleaning(
    "cxr-report-metric", "lower case, split at blanks, full stops apart", _cxr_report_metric
)
CLEANINGS = {cleaning.name: cleaning for cleaning in (COCO_PTB, R2GEN, CXR_REPORT_METRIC)}
"""Choices of `--cleaning`; the first is the default."""
