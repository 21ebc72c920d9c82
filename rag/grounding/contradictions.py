"""Do two sentences of one text contradict each other?

Owns which pairs are pointed out. `rag.grounding.claims` says when two statements disagree; here the
one says that a thing is there, the other that it is not. Two places of one thing are no
contradiction, and "otherwise clear" speaks of the rest.
"""

import re
from collections.abc import Sequence
from itertools import combinations

from rag.grounding.claims import Claim, Difference, Entailment, claims_of, compare
from rag.report_nlp.statements import read_sentence

_THE_REST = re.compile(r"\b(other|others|otherwise|elsewhere|remaining|except|additional)\b", re.I)


def contradictions(sentences: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Numbers of the sentences that contradict each other, (earlier, later)."""
    claims = [_claims(sentence) for sentence in sentences]
    pairs = combinations(range(len(claims)), 2)
    return tuple((a, b) for a, b in pairs if _disagree(claims[a], claims[b]))


def _claims(sentence: str) -> list[Claim]:
    return [] if _THE_REST.search(sentence) else claims_of(read_sentence(sentence))


def _disagree(some: list[Claim], others: list[Claim]) -> bool:
    return any(_opposite(a, b) or _opposite(b, a) for a in some for b in others)


def _opposite(claim: Claim, other: Claim) -> bool:
    found = compare(claim, other)
    return found.fit is Entailment.CONFLICT and Difference.POLARITY in found.differences
