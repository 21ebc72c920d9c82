"""Is a finding there? Polarity of every finding that a text mentions.

Owns the rules of negation, hedging, resolution and comparison. Does not know labels, topics or
reports; `rag.report_nlp.lexicon` says which words play which role.

A sentence becomes a string of roles, one letter a phrase ("no" n, "effusion" f, "or" o, other
words a dot), and every rule is a regular expression over that string:

    There is no focal consolidation, but pneumonia cannot be excluded.
    m        n  .     f             ;b   f         t    .  X

1. Phrases that together mean something else are rewritten (``t.X``, "cannot be excluded", doubts
   what stands before it).
2. The string is cut into clauses.
3. In each clause cues that look ahead ("no", "may represent") are carried from left to right, then
   cues that look back ("has resolved", "is not excluded") are applied.
4. Neutral mentions ("heart size") take their polarity from an adjective.

The idea of cues with scopes is that of NegEx (Chapman 2001) and ConText (Harkema 2009); what counts
as uncertain follows CheXpert's labeller (Irvin 2019) except where docs/grounding.md says otherwise.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from rag.report_nlp.anatomy_mentions import is_place, is_unchanged, is_unclear, judge
from rag.report_nlp.clauses import ROLE_LETTERS, clauses, rewrite
from rag.report_nlp.lexicon import Finding, Kind, Match, match
from rag.report_nlp.scopes import Assertion, Scopes
from rag.report_nlp.sentences import sentence_spans
from rag.report_nlp.tokenizer import Token, tokens


class Polarity(StrEnum):
    """What a text says of a finding that it mentions."""

    POSITIVE = "positive"
    NEGATIVE = "negative"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True, slots=True)
class Mention:
    """A finding mentioned at ``text[start:end]``.

    Attributes:
        clause: offsets of the clause it stands in.
        stable: the only thing said is that it has not changed ("heart size is stable"), which is
            all that makes it uncertain.
        polarity: None where the text names the finding without saying anything of the image: in
            the indication, in the patient's history, or as a neutral "heart size".
    """

    finding: Finding
    start: int
    end: int
    polarity: Polarity | None
    clause: tuple[int, int]
    stable: bool = False

    def moved(self, by: int) -> "Mention":
        """The same, as offsets of a text that has ``by`` characters before this one."""
        first, last = self.clause
        clause = (first + by, last + by)
        return Mention(
            self.finding, self.start + by, self.end + by, self.polarity, clause, self.stable
        )


_LINE = re.compile(r"\n(?=\s*(?:[-*\u2022]|\(?\d{1,2}[.)])?\s*[A-Z])")


def mentions(text: str) -> list[Mention]:
    """Every finding that ``text`` mentions, in reading order.

    A line that begins with a capital begins a sentence: whole reports put a heading or an item on
    each line and often no full stop.
    """
    lines = [0, *(found.end() for found in _LINE.finditer(text)), len(text)]
    return [
        mention.moved(first + start)
        for first, last in itertools.pairwise(lines)
        for start, end in sentence_spans(text[first:last])
        for mention in sentence_mentions(text[first + start : first + end])
    ]


@lru_cache(maxsize=16384)  # reports repeat each other's sentences
def sentence_mentions(sentence: str) -> tuple[Mention, ...]:
    """The findings of one sentence."""
    words = tokens(sentence)
    matches = match(words)
    if not any(found.findings for found in matches):
        return ()
    roles = rewrite("".join(_letter(found) for found in matches))
    parts = clauses(roles)
    scopes = Scopes(roles, parts)
    found = []
    for part in parts:
        clause = _span(words, matches[part[0]].first, matches[part[1] - 1].last)
        for at in range(*part):
            span = _span(words, matches[at].first, matches[at].last)
            for finding in matches[at].findings:
                if finding.kind is not Kind.IGNORE:
                    polarity, stable = _polarity(finding, scopes, at, part)
                    found.append(Mention(finding, *span, polarity, clause, stable))
    return tuple(found)


def _span(words: Sequence[Token], first: int, last: int) -> tuple[int, int]:
    return words[first].start, words[last - 1].end


_KIND_LETTERS = {Kind.FINDING: "f", Kind.NEUTRAL: "h", Kind.DEVICE: "d", Kind.IGNORE: "."}


def _letter(found: Match) -> str:
    if not found.findings:
        return ROLE_LETTERS.get(found.roles[0], ".") if found.roles else "."
    finding = found.findings[0]
    if finding.kind is Kind.NEUTRAL and not finding.label:
        return "."  # "lung" and "chest" are mostly places; see _polarity for "lungs are clear"
    return _KIND_LETTERS[finding.kind]


_POLARITY = {
    Assertion.AFFIRMED: Polarity.POSITIVE,
    Assertion.DENIED: Polarity.NEGATIVE,
    Assertion.DOUBTED: Polarity.UNCERTAIN,
    Assertion.UNSAID: None,
}


def _polarity(
    finding: Finding, scopes: Scopes, at: int, clause: tuple[int, int]
) -> tuple[Polarity | None, bool]:
    """Polarity of a mention, and whether "stable" is all that is said of it."""
    if finding.kind is Kind.NEUTRAL:
        return _neutral_polarity(finding, scopes, at, clause)
    verdict = scopes.verdict.get(at, Assertion.AFFIRMED)
    if verdict is Assertion.AFFIRMED and finding.default:
        return Polarity(finding.default), False
    return _POLARITY[verdict], False


def _neutral_polarity(
    finding: Finding, scopes: Scopes, at: int, clause: tuple[int, int]
) -> tuple[Polarity | None, bool]:
    if not finding.label and scopes.roles[at + 1 : at + 2] in ("f", "d"):
        return None, False  # "large lung nodule": the adjective is the nodule's
    judged = judge(scopes, at, clause)
    if judged is None and finding.default:
        judged = scopes.reached(at) or Assertion.AFFIRMED
    if judged is not None:
        return _POLARITY[judged], False
    if not finding.label or is_place(scopes, at, clause):
        return None, False
    if is_unclear(scopes, at, clause):
        return Polarity.UNCERTAIN, False
    unchanged = is_unchanged(scopes, clause)
    return (Polarity.UNCERTAIN if unchanged else None), unchanged
