"""Resolves words and sentences that refer to a finding named before, their antecedent.

In "none on the right; a small one on the left" the word "one" gets the antecedent's finding and is
then read like any other mention. "No." or "None of the above." answers the sentences before it.
"""

import itertools
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
_NEGATIONS = frozenset(("negation", "none", "resolved", "not", "no_longer"))
_LASTING = frozenset(("persist", "persists", "persisting", "remaining"))


def resolve_antecedents(
    matches: Sequence[PhraseMatch], antecedent: Finding | None = None
) -> list[PhraseMatch]:
    """The matches, with the antecedent's finding in each word that stands for it.

    The antecedent is the last finding named before: at first ``antecedent``, of an earlier
    sentence.
    """
    resolved = list(matches)
    has_negation = any(match.role in _NEGATIONS for match in resolved)
    last: tuple[Finding, ...] = (antecedent,) if antecedent else ()
    for i, match in enumerate(resolved):
        if is_target(match):
            last = match.findings[:1]
        elif last and (
            _is_pronoun(resolved, i)
            or _is_only(resolved, i)
            or (has_negation and _is_elliptic(resolved, i))
        ):
            resolved[i] = replace(match, roles=(), findings=last)
            _separate_from_negation(resolved, i)
    return resolved


def _separate_from_negation(matches: list[PhraseMatch], i: int) -> None:
    """Make the comma before a resolved word a semicolon, so that an earlier "no" ends there."""
    start = _last_separator(matches, i)
    if start is None or any(match.role in _NEGATIONS for match in matches[start:i]):
        return
    if matches[start].role in ("comma", "and"):
        matches[start] = replace(matches[start], roles=("semicolon",))


def _last_separator(matches: Sequence[PhraseMatch], i: int) -> int | None:
    return next((j for j in range(i - 1, -1, -1) if matches[j].role in _SEPARATORS), None)


def is_target(match: PhraseMatch) -> bool:
    """Whether a match names a finding, a device or a neutral thing with a label."""
    return any(
        finding.kind is not FindingKind.IGNORE
        and (finding.kind is not FindingKind.NEUTRAL or finding.label)
        for finding in match.findings
    )


def _is_pronoun(matches: Sequence[PhraseMatch], i: int) -> bool:
    if matches[i].key not in _PRONOUNS:
        return False
    following = matches[i + 1] if i + 1 < len(matches) else None
    if following is None:
        return matches[i - 1].role in ("side", "size", "a", "exists", "verb") if i else False
    role, key = following.role, following.key
    if role == "place" or key in ("on", "at"):
        return not any(map(is_target, matches[i + 1 : i + 2]))
    if matches[i].key == "that":
        return False
    if role in ("side", "seen", "not"):
        return not any(map(is_target, matches[i + 1 : i + 3]))
    after_side = i > 0 and matches[i - 1].role == "side"
    return key in _VERBS or (after_side and not following.findings)


def _is_only(matches: Sequence[PhraseMatch], i: int) -> bool:
    """Whether "only" stands for the finding: "none on the right, only on the left"."""
    following = [match.role for match in matches[i + 1 : i + 4]]
    return matches[i].key == "only" and following[:1] == ["place"] and "side" in following


def _is_elliptic(matches: Sequence[PhraseMatch], i: int) -> bool:
    """Whether a size stands for the finding: "none on the left, moderate on the right"."""
    match = matches[i]
    if match.key not in _LASTING and match.role not in ("size", "large", "seen"):
        return False
    start = _last_separator(matches, i)
    if start is None:
        return False
    separators = (j for j in range(i, len(matches)) if matches[j].role in _SEPARATORS)
    end = next(separators, len(matches))
    part = matches[start:end]
    if any(match.findings for match in part) or not any(m.role == "side" for m in part):
        return False
    if any(_is_pronoun(matches, j) for j in range(i + 1, end)):
        return False  # "a small one": the pronoun stands for it
    if any(match.role in _NEGATIONS or match.role == "verb" for match in part):
        return False
    roles = {match.role for match in matches[:start]}
    return "side" in roles and not roles.isdisjoint(_NEGATIONS)


_OPTIONAL_VERB = (
    r"(?: (?:is|are|was|were))?"
    r"(?: (?:seen|present|identified|noted|visible|evident|detected|found))?"
)
_NO_ANSWER = re.compile(
    rf"\s*(?:no|none{_OPTIONAL_VERB}|absent|negative|nil|not{_OPTIONAL_VERB})(?:,.*|\W*)", re.I
)
_YES_ANSWER = re.compile(r"\s*(?:yes|present|positive)(?:,.*|\W*)", re.I)
_NONE_OF_THE_ABOVE = re.compile(
    r"\W*none of (?:the (?:above|foregoing)|these|those|them)"
    rf"(?: (?:findings?|abnormalit(?:y|ies)))?{_OPTIONAL_VERB}\W*",
    re.I,
)
_ANSWER_START = re.compile(
    r"\W*(?:no|none|nil|not|absent|negative|yes|present|positive)\b", re.IGNORECASE
)
_SIDE = re.compile(r"\b(?:left|right)\b", re.I)
_PRONOUN_WITH_SIDE = re.compile(
    r"\b(?:one|ones|two|three|several|some)\b[^.;]*\b(?:on|in|at) the (?:left|right)\b"
    r"|\b(?:left|right)\b[^.;:]*[:,][^.;]*\b(?:one|two|three|several)\b(?:\W*$| (?:in|at)\b)"
    r"|\b(?:left|right) ones?\b"
    r"|\b(?:left|right)\b[^.;:]*\b(?:has|shows|holds|contains|there (?:is|are))\b[^.;]*"
    r"\b(?:one|two|three|several|amount)\W*$",
    re.I,
)
_STATEMENT_WORD = re.compile(
    r"\b(?:is|are|was|were|has|have|there|no|not|without|may|might|could|can|with|seen|noted)\b",
    re.I,
)
_MAX_ITEM_CHARS = 60
_MAX_ANSWER_CHARS = 120


def may_be_answer(sentence: str) -> bool:
    """Whether a sentence may be an answer; a quick check before `resolve_answer`."""
    return len(sentence) <= _MAX_ANSWER_CHARS and _ANSWER_START.match(sentence) is not None


def resolve_answer(sentence: str, earlier: Sequence[str]) -> list[tuple[int, Polarity]]:
    """Indices of the earlier sentences that a sentence answers, and the polarity it gives them.

    >>> resolve_answer("None of the above.", ["Effusion?", "Edema?"])
    [(1, <Polarity.NEGATIVE: 'negative'>), (0, <Polarity.NEGATIVE: 'negative'>)]
    """
    if earlier[-1].rstrip().endswith("?"):
        for pattern, polarity in (
            (_NO_ANSWER, Polarity.NEGATIVE),
            (_YES_ANSWER, Polarity.POSITIVE),
        ):
            if pattern.fullmatch(sentence):
                return [(len(earlier) - 1, polarity)]
    if not _NONE_OF_THE_ABOVE.fullmatch(sentence):
        return []
    last = range(len(earlier) - 1, -1, -1)
    items = itertools.takewhile(lambda i: _is_item(earlier[i]), last)
    return [(i, Polarity.NEGATIVE) for i in items]


def turns_to_other_side(sentence: str, earlier: str) -> bool:
    """Whether a sentence like "a tiny one on the left" follows one that names a side."""
    return bool(_SIDE.search(earlier) and _PRONOUN_WITH_SIDE.search(sentence))


def _is_item(sentence: str) -> bool:
    """Whether a sentence only names things: a question, or an item of a list."""
    if sentence.rstrip().endswith("?"):
        return True
    return len(sentence) <= _MAX_ITEM_CHARS and not _STATEMENT_WORD.search(sentence)
