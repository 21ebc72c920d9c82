"""Words and sentences that stand for a finding named before.

"None on the right; a small one on the left": such a word gets that finding, and the rules of
`rag.report_nlp.labeller` then read it like any other mention. "No." or "None of the above."
answers the sentences before it.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from rag.report_nlp.lexicon import Finding, FindingKind, PhraseMatch
from rag.report_nlp.scopes import Polarity

_PRONOUNS = frozenset(
    ("one", "ones", "two", "three", "several", "some", "another", "that", "amount")
)
_VERBS = frozenset(
    ("has", "have", "is", "are", "was", "were", "remain", "remains", "persist", "persists")
)
_SEPARATORS = frozenset(("comma", "semicolon", "but", "and"))
_DENIALS = frozenset(("negation", "none", "resolved", "not", "no_longer"))
_LASTING = frozenset(("persist", "persists", "persisting", "remaining"))


def resolve_antecedents(
    matches: Sequence[PhraseMatch], antecedent: Finding | None = None
) -> list[PhraseMatch]:
    """A sentence's matches, with a finding wherever a word stands for the last one named.

    At first that is ``antecedent``, of the sentence before.
    """
    found = list(matches)
    elliptic = any(match.role in _DENIALS for match in found)
    last: tuple[Finding, ...] = (antecedent,) if antecedent else ()
    for at, match in enumerate(found):
        if is_target(match):
            last = match.findings[:1]
        elif last and (
            _is_pronoun(found, at) or _is_only(found, at) or (elliptic and _is_elliptic(found, at))
        ):
            found[at] = replace(match, roles=(), findings=last)
            _set_apart(found, at)
    return found


def _set_apart(matches: list[PhraseMatch], at: int) -> None:
    """A comma before the part with a pronoun ends the denial that came before it."""
    start = next((i for i in range(at - 1, -1, -1) if matches[i].role in _SEPARATORS), None)
    if start is not None and matches[start].role in ("comma", "and"):
        part = matches[start:at]
        if not any(match.role in _DENIALS for match in part):
            matches[start] = replace(matches[start], roles=("semicolon",))


def is_target(match: PhraseMatch) -> bool:
    """Whether a match names a finding, a device or a neutral part with a label."""
    return any(
        finding.kind is not FindingKind.IGNORE
        and (finding.kind is not FindingKind.NEUTRAL or finding.label)
        for finding in match.findings
    )


def _is_pronoun(matches: Sequence[PhraseMatch], at: int) -> bool:
    if matches[at].key not in _PRONOUNS:
        return False
    following = matches[at + 1] if at + 1 < len(matches) else None
    if following is None:
        return matches[at - 1].role in ("side", "size", "a", "exists", "verb") if at else False
    role, key = following.role, following.key
    if role == "place" or key in ("on", "at"):
        return not _target_near(matches, at + 1, 1)
    if matches[at].key == "that":
        return False
    if role in ("side", "seen", "not"):
        return not _target_near(matches, at + 1, 2)
    after_side = at > 0 and matches[at - 1].role == "side"
    return key in _VERBS or (after_side and not following.findings)


def _is_only(matches: Sequence[PhraseMatch], at: int) -> bool:
    """Whether "only" stands for the finding: "none on the right, only on the left"."""
    following = [match.role for match in matches[at + 1 : at + 4]]
    return matches[at].key == "only" and following[:1] == ["place"] and "side" in following


def _is_elliptic(matches: Sequence[PhraseMatch], at: int) -> bool:
    """Whether a size stands alone for the finding: "none on the left, moderate on the right"."""
    lasts = matches[at].key in _LASTING
    if not lasts and matches[at].role not in ("size", "large", "seen"):
        return False
    start = next((i for i in range(at - 1, -1, -1) if matches[i].role in _SEPARATORS), None)
    if start is None:
        return False
    ends = (i for i in range(at, len(matches)) if matches[i].role in _SEPARATORS)
    end = next(ends, len(matches))
    part = matches[start:end]
    if any(match.findings for match in part) or not any(m.role == "side" for m in part):
        return False
    if any(_is_pronoun(matches, i) for i in range(at + 1, end)):
        return False  # "a small one": the word that follows stands for it
    if any(match.role in _DENIALS or match.role == "verb" for match in part):
        return False
    before = matches[:start]
    sided = any(match.role == "side" for match in before)
    return sided and any(match.role in _DENIALS for match in before)


def _target_near(matches: Sequence[PhraseMatch], at: int, within: int) -> bool:
    return any(is_target(match) for match in matches[at : at + within])


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
    r"|\b(?:left|right)\b[^.;:]*[:,][^.;]*\b(?:one|two|three|several)\b(?:\W*$| (?:in|at)\b)"
    r"|\b(?:left|right) ones?\b"
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


def may_be_answer(sentence: str) -> bool:
    """Whether a sentence begins as an answer does; quick."""
    return len(sentence) <= _LONGEST_ANSWER and _MAY_ANSWER.match(sentence) is not None


def resolve_answer(sentence: str, earlier: Sequence[str]) -> list[tuple[int, Polarity]]:
    """Which earlier sentences a sentence answers, and with what.

    >>> resolve_answer("None of the above.", ["Effusion?", "Edema?"])
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


def turns_to_other_side(sentence: str, earlier: str) -> bool:
    """Whether it says "a tiny one on the left" after a sentence that names a side."""
    return bool(_SIDE.search(earlier) and _OTHER_SIDE.search(sentence))


def _is_item(sentence: str) -> bool:
    """Whether a sentence only names things, as a question or the item of a list does."""
    if sentence.rstrip().endswith("?"):
        return True
    return len(sentence) <= _LONGEST_ITEM and not _STATES.search(sentence)
