"""When the statements of two sentences agree, and when they contradict each other.

Which statement says something about another finding is in `rag/report_nlp/data/relations.toml`.
Does not know drafts or citations.
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
    """What a claim of the evidence says about a claim."""

    SAME = "same"
    PARTLY = "partly"
    CONFLICT = "conflict"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a claim of the evidence says about a claim, and how they differ.

    Attributes:
        unstated: the evidence only omits an attribute ("effusion" for "left effusion").
    """

    entailment: Entailment
    differences: tuple[Reason, ...] = ()
    unstated: bool = False


_SAME, _SILENT = Comparison(Entailment.SAME), Comparison(Entailment.SILENT)
_CONTRADICTION = Comparison(Entailment.CONFLICT, (Reason.POLARITY,))


def claims_of(parsed: ParsedSentence) -> list[Statement]:
    """Claims of a sentence, without mentions that state nothing ("heart size" alone)."""
    return [c for s in parsed.statements if s.polarity is not None for c in s.claims]


def compare(claim: Statement, evidence: Statement) -> Comparison:
    """What ``evidence`` says about ``claim``."""
    if claim.concept != evidence.concept:
        return _compare_related(claim, evidence)
    denied = Polarity.NEGATIVE in (claim.polarity, evidence.polarity)
    if (terms := claim.finding.terms) and not _same_term(claim.term, evidence.term):
        similar = terms == "near" and not denied
        return Comparison(Entailment.PARTLY, (Reason.FINDING,)) if similar else _SILENT
    return (_compare_denied if denied else _compare_affirmed)(claim, evidence)


def _compare_affirmed(claim: Statement, evidence: Statement) -> Comparison:
    """Both state the finding, with certainty or not."""
    unstated, narrower, conflicts = _compare_attributes(claim, evidence)
    if Reason.ZONE in conflicts and claim.finding.topic == "bones":
        return _SILENT  # a broken clavicle says nothing about the ribs
    if conflicts:
        return Comparison(Entailment.CONFLICT, tuple(conflicts))
    if claim.polarity is not evidence.polarity:
        narrower.insert(0, Reason.CERTAINTY)
    if not unstated and not narrower:
        return _SAME
    return Comparison(Entailment.PARTLY, (*narrower, *unstated), unstated=not narrower)


def _same_term(a: str, b: str) -> bool:
    """Whether one phrase is the other with an adjective ("biapical pleural thickening")."""
    return f" {a}".endswith(f" {b}") or f" {b}".endswith(f" {a}")


def _compare_denied(claim: Statement, evidence: Statement) -> Comparison:
    """At least one of the two negates the finding."""
    zones_overlap = not (claim.zones and evidence.zones) or claim.zones & evidence.zones
    if not _sides_overlap(claim, evidence) or not zones_overlap:
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
    denied, stated = (claim, evidence) if claim.is_denied else (evidence, claim)
    if denied.severities - {Severity.SLIGHT} and denied.severities.isdisjoint(stated.severities):
        return _SILENT  # "no large effusion" leaves room for a small one
    if stated.finding.kind is FindingKind.NEUTRAL and stated.polarity is Polarity.UNCERTAIN:
        return Comparison(Entailment.PARTLY, (Reason.CERTAINTY,))  # "normal" for "borderline"
    return _CONTRADICTION


def _compare_related(claim: Statement, evidence: Statement) -> Comparison:
    """Different findings, one of which may imply or exclude the other."""
    denies, excludes = relations("denies"), relations("excludes")
    if not _sides_overlap(claim, evidence):
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
    contradicted = (*denies.get(denied, ()), *excludes.get(denied, ()))
    return _CONTRADICTION if stated in contradicted else _SILENT


def _compare_attributes(
    claim: Statement, evidence: Statement
) -> tuple[list[Reason], list[Reason], list[Reason]]:
    """Attributes that the evidence omits, overlaps with, and contradicts."""
    unstated: list[Reason] = []
    narrower: list[Reason] = []
    conflicts: list[Reason] = []
    for attribute, claimed, given in (
        (Reason.SIDE, claim.sides, evidence.sides),
        (Reason.ZONE, claim.zones, evidence.zones),
        (Reason.SEVERITY, claim.severities, evidence.severities),
    ):
        if claimed <= given or (attribute is Reason.SIDE and claim.side_shared and not given):
            continue
        if not given:
            unstated.append(attribute)
        elif claimed.isdisjoint(given) and Side.BILATERAL not in claimed | given:
            conflicts.append(attribute)
        else:
            narrower.append(attribute)
    return unstated, narrower, conflicts


def _sides_overlap(a: Statement, b: Statement) -> bool:
    bilateral = Side.BILATERAL in a.sides | b.sides
    return not (a.sides and b.sides) or a.sides == b.sides or bilateral


def compare_with_report(
    claim: Statement, report: Sequence[Iterable[Statement]]
) -> tuple[Comparison, int | None]:
    """What a report, given as the claims of each sentence, says about a claim.

    Agreement wins over contradiction, that over partial agreement. A statement of the finding
    itself is not overruled by the report's own "lungs are otherwise clear".

    Returns:
        The comparison that decides and the index of its sentence; None if the report is silent.
    """
    compared = [(compare(claim, c), c, i) for i, claims in enumerate(report) for c in claims]
    compared = [row for row in compared if row[0].entailment is not Entailment.SILENT]
    direct = [row for row in compared if row[1].concept == claim.concept]
    if direct and not claim.is_denied:
        compared = direct
    if not compared:
        return _SILENT, None
    compared.sort(key=lambda row: row[1].concept != claim.concept)  # the finding itself first
    chosen = min(compared, key=lambda row: _precedence(row[0]))
    overruling = (row for row in direct if _overrules(row[0], row[1], claim, chosen[1]))
    comparison, _, index = next(overruling, chosen)
    return comparison, index


def _overrules(
    comparison: Comparison, other: Statement, claim: Statement, chosen: Statement
) -> bool:
    """Whether a contradicting statement outweighs the chosen one.

    "No opacity" is not supported by a report that has another opacity, nor "infiltrate" by a report
    that has an opacity but explicitly denies an infiltrate.
    """
    if comparison != _CONTRADICTION:
        return False
    closer = (other.term == claim.term) - (chosen.term == claim.term)
    if claim.is_denied:
        return other.polarity is Polarity.POSITIVE and closer >= 0
    return closer > 0


def _precedence(comparison: Comparison) -> int:
    """Rank of a comparison within one report; the lowest decides."""
    if comparison.entailment is Entailment.CONFLICT:
        return 1 if comparison == _CONTRADICTION else 3
    if comparison.entailment is Entailment.PARTLY:
        return 4 if comparison.unstated else 2
    return 0


_REST_WORDS = re.compile(
    r"\b(other|others|otherwise|elsewhere|remaining|except|additional)\b", re.I
)


def contradictions(sentences: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Indices of the sentences that contradict each other, (earlier, later)."""
    claims = [[] if _REST_WORDS.search(s) else claims_of(parse_sentence(s)) for s in sentences]
    return tuple(
        (a, b)
        for a, b in combinations(range(len(claims)), 2)
        if any(
            _CONTRADICTION in (compare(x, y), compare(y, x)) for x in claims[a] for y in claims[b]
        )
    )
