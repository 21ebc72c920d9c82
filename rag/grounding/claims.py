"""Claims: the statements of a sentence in a form in which two of them can be compared.

Owns which findings are the same thing and which statement speaks about another one
(`rag/report_nlp/data/relations.toml`). Does not know drafts or citations; `rag.grounding` does.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import combinations

from rag.grounding.verdicts import Reason
from rag.report_nlp.lexicon import relations
from rag.report_nlp.scopes import Polarity
from rag.report_nlp.sentences import load_toml
from rag.report_nlp.statements import ParsedSentence, Severity, Side, Statement, read_sentence


@dataclass(frozen=True, slots=True)
class Claim:
    """One statement about the image, with what it is about under one name."""

    concept: str
    statement: Statement

    @property
    def polarity(self) -> Polarity | None:
        """As in the statement."""
        return self.statement.polarity


class Entailment(StrEnum):
    """How a claim stands to one claim of the evidence."""

    SAME = "same"
    PARTLY = "partly"
    CONFLICT = "conflict"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two claims stand to each other, and why.

    Attributes:
        unsaid: the evidence leaves that open ("effusion" for "left effusion").
    """

    fit: Entailment
    differences: tuple[Reason, ...] = ()
    unsaid: bool = False


def claims_of(reading: ParsedSentence) -> list[Claim]:
    """Claims of a sentence; what it says nothing about ("heart size" alone) is left out."""
    return [
        Claim(concept, statement)
        for statement in reading.statements
        if statement.polarity is not None
        for concept in statement.concepts
    ]


def compare(claim: Claim, evidence: Claim) -> Comparison:
    """How ``evidence`` bears on ``claim``."""
    if claim.concept != evidence.concept:
        return _compare_related(claim, evidence)
    denied = Polarity.NEGATIVE in (claim.polarity, evidence.polarity)
    if claim.statement.terms and not _same_term(claim.statement.term, evidence.statement.term):
        near = claim.statement.terms == "near" and not denied
        return (
            Comparison(Entailment.PARTLY, (Reason.FINDING,))
            if near
            else Comparison(Entailment.SILENT)
        )
    return (_compare_denied if denied else _compare_affirmed)(claim, evidence)


def _compare_affirmed(claim: Claim, evidence: Claim) -> Comparison:
    """Both say that the thing is there, or may be."""
    unsaid, narrower, conflicts = _attributes(claim.statement, evidence.statement)
    if Reason.ZONE in conflicts and claim.statement.topic == "bones":
        return Comparison(Entailment.SILENT)  # a broken clavicle says nothing of the ribs
    if conflicts:
        return Comparison(Entailment.CONFLICT, tuple(conflicts))
    if claim.polarity is not evidence.polarity:
        narrower.insert(0, Reason.CERTAINTY)
    if not unsaid and not narrower:
        return Comparison(Entailment.SAME)
    return Comparison(Entailment.PARTLY, (*narrower, *unsaid), unsaid=not narrower)


def _same_term(mine: str, theirs: str) -> bool:
    """Whether one phrase is the other with an adjective ("biapical pleural thickening")."""
    return f" {mine}".endswith(f" {theirs}") or f" {theirs}".endswith(f" {mine}")


def _compare_denied(claim: Claim, evidence: Claim) -> Comparison:
    """One of the two says that the thing is not there."""
    mine, theirs = claim.statement, evidence.statement
    if not _sides_meet(mine, theirs) or not _zones_meet(mine, theirs):
        return Comparison(Entailment.SILENT)
    if claim.polarity is evidence.polarity:
        narrower = []
        if theirs.sides and mine.sides != theirs.sides:
            narrower.append(Reason.SIDE)
        if theirs.zones and not mine.zones:
            narrower.append(Reason.ZONE)
        if theirs.severities - {Severity.SLIGHT} and not mine.severities:
            narrower.append(Reason.SEVERITY)  # "no large effusion" is less than "no effusion"
        return Comparison(Entailment.PARTLY if narrower else Entailment.SAME, tuple(narrower))
    denied, stated = (mine, theirs) if claim.polarity is Polarity.NEGATIVE else (theirs, mine)
    if denied.severities - {Severity.SLIGHT} and denied.severities.isdisjoint(stated.severities):
        return Comparison(Entailment.SILENT)  # "no large effusion" leaves room for a small one
    if stated.neutral and Polarity.UNCERTAIN in (claim.polarity, evidence.polarity):
        return Comparison(Entailment.PARTLY, (Reason.CERTAINTY,))  # "normal" for "borderline"
    return Comparison(Entailment.CONFLICT, (Reason.POLARITY,))


def _compare_related(claim: Claim, evidence: Claim) -> Comparison:
    """Different things, one of which may speak for the other."""
    denies, excludes = relations("denies"), relations("excludes")
    if evidence.polarity is Polarity.NEGATIVE and _sides_meet(claim.statement, evidence.statement):
        if claim.concept in denies.get(evidence.concept, ()):
            if claim.polarity is not Polarity.NEGATIVE:
                return Comparison(Entailment.CONFLICT, (Reason.POLARITY,))
            narrower = (
                evidence.statement.sides and evidence.statement.sides != claim.statement.sides
            )
            return Comparison(Entailment.PARTLY if narrower else Entailment.SAME)
        if (
            claim.concept in excludes.get(evidence.concept, ())
            and claim.polarity is not Polarity.NEGATIVE
        ):
            return Comparison(Entailment.CONFLICT, (Reason.POLARITY,))
    if claim.polarity is Polarity.NEGATIVE and evidence.polarity is Polarity.POSITIVE:
        spoken_of = (*denies.get(claim.concept, ()), *excludes.get(claim.concept, ()))
        if evidence.concept in spoken_of and _sides_meet(claim.statement, evidence.statement):
            return Comparison(Entailment.CONFLICT, (Reason.POLARITY,))
    return Comparison(Entailment.SILENT)


def _attributes(
    mine: Statement, theirs: Statement
) -> tuple[list[Reason], list[Reason], list[Reason]]:
    """What the evidence leaves open, where it says less or more, and where it says otherwise."""
    unsaid: list[Reason] = []
    narrower: list[Reason] = []
    conflicts: list[Reason] = []
    for difference, my, their in (
        (Reason.SIDE, mine.sides, theirs.sides),
        (Reason.ZONE, mine.zones, theirs.zones),
        (Reason.SEVERITY, mine.severities, theirs.severities),
    ):
        if my <= their or (difference is Reason.SIDE and mine.side_shared and not their):
            continue
        if not their:
            unsaid.append(difference)
        elif my.isdisjoint(their) and Side.BILATERAL not in my | their:
            conflicts.append(difference)
        else:
            narrower.append(difference)
    return unsaid, narrower, conflicts


def _sides_meet(a: Statement, b: Statement) -> bool:
    both = a.sides | b.sides
    return not (a.sides and b.sides) or a.sides == b.sides or Side.BILATERAL in both


def _zones_meet(a: Statement, b: Statement) -> bool:
    return not (a.zones and b.zones) or not a.zones.isdisjoint(b.zones)


@lru_cache(maxsize=1)
def harmless_words() -> frozenset[str]:
    """Words that add nothing to a statement."""
    return frozenset(load_toml("relations.toml")["words"]["harmless"].split())


@lru_cache(maxsize=1)
def qualifying_words() -> frozenset[str]:
    """Words that make a finding another one although its phrase holds them."""
    return frozenset(load_toml("relations.toml")["words"]["qualifying"].split())


def decide(claim: Claim, evidence: Iterable[Claim]) -> tuple[Comparison, Claim | None]:
    """What a whole report says of ``claim``, and the one claim of it that decides.

    Support comes first, then denial, then partial support. A report that names the thing itself is
    not overruled by its own "lungs are otherwise clear".
    """
    compared = [(compare(claim, other), other) for other in evidence]
    direct = [
        pair
        for pair in compared
        if pair[1].concept == claim.concept and pair[0].fit is not Entailment.SILENT
    ]
    if direct and claim.polarity is not Polarity.NEGATIVE:
        compared = direct
    nothing: tuple[Comparison, Claim | None] = (Comparison(Entailment.SILENT), None)
    compared.sort(key=lambda pair: pair[1].concept != claim.concept)  # the thing itself first
    chosen = min(compared, key=lambda pair: _rank(pair[0]), default=nothing)
    denial = next((pair for pair in direct if _outweighs(pair, claim, chosen[1])), None)
    chosen = denial or chosen
    return chosen if chosen[0].fit is not Entailment.SILENT else nothing


def _outweighs(pair: tuple[Comparison, Claim], claim: Claim, chosen: Claim | None) -> bool:
    """Whether an opposite statement counts for more than one that agrees.

    "No opacity" is not carried by a report that sees another opacity, nor "infiltrate" by a report
    that has an opacity but denies an infiltrate in so many words.
    """
    comparison, other = pair
    if Reason.POLARITY not in comparison.differences or chosen is None:
        return False
    term = claim.statement.term
    closer = (other.statement.term == term) - (chosen.statement.term == term)
    if claim.polarity is Polarity.NEGATIVE:
        return other.polarity is Polarity.POSITIVE and closer >= 0
    return closer > 0


def _rank(comparison: Comparison) -> int:
    """Order in which claims of one report decide, the first first."""
    if comparison.fit is Entailment.CONFLICT:
        return 1 if Reason.POLARITY in comparison.differences else 3
    if comparison.fit is Entailment.PARTLY:
        return 4 if comparison.unsaid else 2
    return 0 if comparison.fit is Entailment.SAME else 5


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
    return found.fit is Entailment.CONFLICT and Reason.POLARITY in found.differences
