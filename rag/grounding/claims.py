"""When the statements of two sentences agree, and when they contradict each other.

Owns which findings are the same thing and which statement speaks about another one
(`rag/report_nlp/data/relations.toml`). Does not know drafts or citations; `rag.grounding` does.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

from rag.grounding.verdicts import Reason
from rag.report_nlp.lexicon import FindingKind, relations
from rag.report_nlp.scopes import Polarity
from rag.report_nlp.statements import ParsedSentence, Severity, Side, Statement, parse_sentence


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


_SAME, _SILENT = Comparison(Entailment.SAME), Comparison(Entailment.SILENT)
_OPPOSITE = Comparison(Entailment.CONFLICT, (Reason.POLARITY,))


def claims_of(parsed: ParsedSentence) -> list[Statement]:
    """Claims of a sentence; what it says nothing about ("heart size" alone) is left out."""
    return [c for s in parsed.statements if s.polarity is not None for c in s.claims]


def compare(claim: Statement, evidence: Statement) -> Comparison:
    """How ``evidence`` bears on ``claim``."""
    if claim.concept != evidence.concept:
        return _compare_related(claim, evidence)
    denied = Polarity.NEGATIVE in (claim.polarity, evidence.polarity)
    if (terms := claim.finding.terms) and not _same_term(claim.term, evidence.term):
        near = terms == "near" and not denied
        return Comparison(Entailment.PARTLY, (Reason.FINDING,)) if near else _SILENT
    return (_compare_denied if denied else _compare_affirmed)(claim, evidence)


def _compare_affirmed(claim: Statement, evidence: Statement) -> Comparison:
    """Both say that the thing is there, or may be."""
    unsaid, narrower, conflicts = _attributes(claim, evidence)
    if Reason.ZONE in conflicts and claim.finding.topic == "bones":
        return _SILENT  # a broken clavicle says nothing of the ribs
    if conflicts:
        return Comparison(Entailment.CONFLICT, tuple(conflicts))
    if claim.polarity is not evidence.polarity:
        narrower.insert(0, Reason.CERTAINTY)
    if not unsaid and not narrower:
        return _SAME
    return Comparison(Entailment.PARTLY, (*narrower, *unsaid), unsaid=not narrower)


def _same_term(mine: str, theirs: str) -> bool:
    """Whether one phrase is the other with an adjective ("biapical pleural thickening")."""
    return f" {mine}".endswith(f" {theirs}") or f" {theirs}".endswith(f" {mine}")


def _compare_denied(claim: Statement, evidence: Statement) -> Comparison:
    """One of the two says that the thing is not there."""
    zones_meet = not (claim.zones and evidence.zones) or claim.zones & evidence.zones
    if not _sides_meet(claim, evidence) or not zones_meet:
        return _SILENT
    if claim.polarity is evidence.polarity:
        narrower = []
        if evidence.sides and claim.sides != evidence.sides:
            narrower.append(Reason.SIDE)
        if evidence.zones and not claim.zones:
            narrower.append(Reason.ZONE)
        if evidence.severities - {Severity.SLIGHT} and not claim.severities:
            narrower.append(Reason.SEVERITY)  # "no large effusion" is less than "no effusion"
        return Comparison(Entailment.PARTLY, tuple(narrower)) if narrower else _SAME
    both = (claim, evidence)
    denied, stated = both if claim.is_denied else both[::-1]
    if denied.severities - {Severity.SLIGHT} and denied.severities.isdisjoint(stated.severities):
        return _SILENT  # "no large effusion" leaves room for a small one
    if stated.finding.kind is FindingKind.NEUTRAL and stated.polarity is Polarity.UNCERTAIN:
        return Comparison(Entailment.PARTLY, (Reason.CERTAINTY,))  # "normal" for "borderline"
    return _OPPOSITE


def _compare_related(claim: Statement, evidence: Statement) -> Comparison:
    """Different things, one of which may speak for the other."""
    denies, excludes = relations("denies"), relations("excludes")
    if not _sides_meet(claim, evidence):
        return _SILENT
    if claim.is_denied and evidence.is_denied:
        if claim.concept not in denies.get(evidence.concept, ()):
            return _SILENT
        narrower = evidence.sides and evidence.sides != claim.sides
        return Comparison(Entailment.PARTLY) if narrower else _SAME
    if evidence.is_denied:
        denied, stated = evidence.concept, claim.concept
    elif claim.is_denied and evidence.polarity is Polarity.POSITIVE:
        denied, stated = claim.concept, evidence.concept
    else:
        return _SILENT
    spoken_of = (*denies.get(denied, ()), *excludes.get(denied, ()))
    return _OPPOSITE if stated in spoken_of else _SILENT


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


def compare_with_report(
    claim: Statement, report: Sequence[Iterable[Statement]]
) -> tuple[Comparison, int | None]:
    """What a report, the claims of its sentences, says, and the number of the one that decides.

    Support comes first, then denial, then partial support. A report that names the thing itself is
    not overruled by its own "lungs are otherwise clear".
    """
    compared = [(compare(claim, o), o, at) for at, others in enumerate(report) for o in others]
    compared = [each for each in compared if each[0].fit is not Entailment.SILENT]
    direct = [each for each in compared if each[1].concept == claim.concept]
    if direct and not claim.is_denied:
        compared = direct
    if not compared:
        return _SILENT, None
    compared.sort(key=lambda each: each[1].concept != claim.concept)  # the thing itself first
    chosen = min(compared, key=lambda each: _rank(each[0]))
    denials = (each for each in direct if _outweighs(each[0], each[1], claim, chosen[1]))
    comparison, _, number = next(denials, chosen)
    return comparison, number


def _outweighs(
    comparison: Comparison, other: Statement, claim: Statement, chosen: Statement
) -> bool:
    """Whether an opposite statement counts for more than one that agrees.

    "No opacity" is not carried by a report that sees another opacity, nor "infiltrate" by a report
    that has an opacity but denies an infiltrate in so many words.
    """
    if comparison != _OPPOSITE:
        return False
    closer = (other.term == claim.term) - (chosen.term == claim.term)
    if claim.is_denied:
        return other.polarity is Polarity.POSITIVE and closer >= 0
    return closer > 0


def _rank(comparison: Comparison) -> int:
    """Order in which claims of one report decide, the first first."""
    if comparison.fit is Entailment.CONFLICT:
        return 1 if comparison == _OPPOSITE else 3
    if comparison.fit is Entailment.PARTLY:
        return 4 if comparison.unsaid else 2
    return 0


_THE_REST = re.compile(r"\b(other|others|otherwise|elsewhere|remaining|except|additional)\b", re.I)


def contradictions(sentences: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Numbers of the sentences that contradict each other, (earlier, later)."""
    claims = [[] if _THE_REST.search(s) else claims_of(parse_sentence(s)) for s in sentences]
    return tuple(
        (a, b)
        for a, b in combinations(range(len(claims)), 2)
        if any(_OPPOSITE in (compare(x, y), compare(y, x)) for x in claims[a] for y in claims[b])
    )
