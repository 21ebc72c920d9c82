"""Sentences that speak of what the sentence before them named: "No." or "None of the above."."""

import re
from collections.abc import Sequence

from rag.report_nlp.scopes import Polarity

_SEEN = (
    r"(?: (?:is|are|was|were))?"
    r"(?: (?:seen|present|identified|noted|visible|evident|detected|found))?"
)
_NO = re.compile(rf"\s*(?:no|none{_SEEN}|absent|negative|nil|not{_SEEN})(?:,.*|\W*)", re.I)
_YES = re.compile(r"\s*(?:yes|present|positive)(?:,.*|\W*)", re.I)
_NONE = re.compile(
    r"\W*none of (?:the (?:above|foregoing)|these|those|them)"
    rf"(?: (?:findings?|abnormalit(?:y|ies)))?{_SEEN}\W*",
    re.I,
)
_MAY_ANSWER = re.compile(
    r"\W*(?:no|none|nil|not|absent|negative|yes|present|positive)\b", re.IGNORECASE
)
_SIDE = re.compile(r"\b(?:left|right)\b", re.I)
_OTHER_SIDE = re.compile(
    r"\b(?:one|ones|two|three|several|some)\b[^.;]*\b(?:on|in|at) the (?:left|right)\b"
    r"|\b(?:left|right)\b[^.;:]*:[^.;]*\b(?:one|two|three|several)\b"
    r"|\b(?:left|right)\b[^.;:]*\b(?:has|shows|holds|contains|there (?:is|are))\b[^.;]*"
    r"\b(?:one|two|three|several|amount)\W*$",
    re.I,
)
_STATES = re.compile(
    r"\b(?:is|are|was|were|has|have|there|no|not|without|may|might|could|can|with|seen|noted)\b",
    re.I,
)
_LONGEST_ITEM = 60
_LONGEST_ANSWER = 120  # characters


def may_answer(sentence: str) -> bool:
    """Whether a sentence begins as an answer does; quick."""
    return len(sentence) <= _LONGEST_ANSWER and _MAY_ANSWER.match(sentence) is not None


def answered(sentence: str, earlier: Sequence[str]) -> list[tuple[int, Polarity]]:
    """Which earlier sentences a sentence answers, and with what.

    >>> answered("None of the above.", ["Effusion?", "Edema?"])
    [(1, <Polarity.NEGATIVE: 'negative'>), (0, <Polarity.NEGATIVE: 'negative'>)]
    """
    if earlier[-1].rstrip().endswith("?"):
        for pattern, polarity in ((_NO, Polarity.NEGATIVE), (_YES, Polarity.POSITIVE)):
            if pattern.fullmatch(sentence):
                return [(len(earlier) - 1, polarity)]
    if not _NONE.fullmatch(sentence):
        return []
    listed = []
    for at in range(len(earlier) - 1, -1, -1):
        if not _is_item(earlier[at]):
            break
        listed.append((at, Polarity.NEGATIVE))
    return listed


def names_other_side(sentence: str) -> bool:
    """Whether a sentence has a pronoun on one side: "a tiny one is seen on the left"."""
    return _OTHER_SIDE.search(sentence) is not None


def names_side(sentence: str) -> bool:
    """Whether a sentence speaks of the left or the right."""
    return _SIDE.search(sentence) is not None


def _is_item(sentence: str) -> bool:
    """Whether a sentence only names things, as a question or the item of a list does."""
    if sentence.rstrip().endswith("?"):
        return True
    return len(sentence) <= _LONGEST_ITEM and not _STATES.search(sentence)
