"""Retrieved reports, read once, and what of a sentence no claim accounts for.

A sentence may agree with the evidence in every finding and still say more: a measure, a date, the
name of a disease that the lexicon does not know. That must stand in the cited reports too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rag.grounding.claims import claims_of
from rag.grounding.prompt_injection import remove_injections
from rag.grounding.verdicts import Issue, Reason, Support
from rag.report_nlp.lexicon import match_phrases
from rag.report_nlp.non_findings import Number, NumberKind
from rag.report_nlp.sentences import load_toml, strip_list_number, tokenize, with_sentences
from rag.report_nlp.statements import ParsedSentence, Side, Statement, parse_sentence
from rag.schema import Hit, ReportRecord, Section


@dataclass(frozen=True, slots=True)
class EvidenceSentence:
    """One sentence of a retrieved report."""

    place: Support
    parsed: ParsedSentence
    claims: tuple[Statement, ...]
    words: frozenset[str]


def read_evidence(hits: Sequence[Hit]) -> dict[str, list[EvidenceSentence]]:
    """Sentences of each retrieved report, by its id."""
    return {hit.record.report_id: list(_sentences(hit.record)) for hit in hits}


def _sentences(record: ReportRecord) -> Iterator[EvidenceSentence]:
    clean = {section: remove_injections(record.section(section))[0] for section in Section}
    for span in record.sentences or with_sentences(record).sentences:
        text = record.sentence(span)
        if text not in clean[span.section]:
            continue  # an order to a language model is no evidence
        parsed = parse_sentence(strip_list_number(text))
        claims = tuple(claims_of(parsed))
        place = Support(record.report_id, span)
        yield EvidenceSentence(place, parsed, claims, words_of(parsed.text))


def words_of(text: str) -> frozenset[str]:
    """Words of a text in the lexicon's spelling; numbers and marks are left out."""
    return frozenset(
        token.keys[0]
        for token in tokenize(text)
        if token.keys and token.keys[0].strip(",;:()?&/|-01")
    )


def same_text(a: str, b: str) -> bool:
    """Whether two sentences are the same but for blanks, capitals and the last full stop."""
    return " ".join(a.split()).casefold().rstrip(".") == " ".join(b.split()).casefold().rstrip(".")


_WORDS = load_toml("relations.toml")["words"]
_HARMLESS = frozenset(_WORDS["harmless"].split())
"""Words that add nothing to a statement."""
_QUALIFYING = frozenset(_WORDS["qualifying"].split())
"""Words that make a finding another one although its phrase holds them."""
_TIME_WORDS = frozenset({"acute", "active", "subacute", "new", "old", "chronic", "healed", "known"})
"""Words that a denial may add ("no acute fracture" from "no fracture") and an assertion may not."""


def number_issues(
    parsed: ParsedSentence, claims: Sequence[Statement], cited: Sequence[EvidenceSentence]
) -> Iterator[Issue]:
    """Numbers of the sentence that the cited reports do not give for the same findings."""
    concepts = {claim.concept for claim in claims}
    about = [s for s in cited if concepts & {claim.concept for claim in s.claims}]
    given = [number for sentence in about for number in sentence.parsed.numbers]
    values = {number.value for number in given}
    for number in parsed.numbers:
        if number.value not in values:
            yield Issue(
                Reason.NUMBER,
                parsed.text[number.start : number.end],
                start=number.start,
                end=number.end,
                conflict=_says_otherwise(number, parsed.numbers, given),
            )


def _says_otherwise(number: Number, mine: Sequence[Number], theirs: Sequence[Number]) -> bool:
    """Whether the evidence gives values of this kind, and none of them is the sentence's."""
    if number.kind not in (NumberKind.MEASURE, NumberKind.LEVEL):
        return False
    their_values = {other.value for other in theirs if other.kind is number.kind}
    my_values = {other.value for other in mine if other.kind is number.kind}
    return bool(their_values) and their_values.isdisjoint(my_values)


def unsupported_word_issues(
    parsed: ParsedSentence, claims: Sequence[Statement], cited: Sequence[EvidenceSentence]
) -> Iterator[Issue]:
    """Words that no claim accounts for and that stand in no cited report."""
    known = frozenset().union(*(sentence.words for sentence in cited))
    if all(claim.is_denied for claim in claims):
        known |= _TIME_WORDS
    for word, start, end in _unexplained(parsed):
        if word not in known:
            yield Issue(Reason.WORDS, parsed.text[start:end], start=start, end=end)


def denial_issues(
    parsed: ParsedSentence, claims: Sequence[Statement], support: Sequence[EvidenceSentence]
) -> Iterator[Issue]:
    """A "no" that belongs to no claim, in a sentence that rests on one without any.

    It denies something the lexicon does not know ("no distortion of the hilum").
    """
    accounted = any(claim.is_denied for claim in claims)
    if accounted or not _denials(parsed.text):
        return
    if not any(_denials(sentence.parsed.text) for sentence in support):
        yield Issue(Reason.POLARITY, "")


def attribute_issues(
    parsed: ParsedSentence, support: Sequence[EvidenceSentence]
) -> Iterator[Issue]:
    """Sides, zones and sizes of a sentence that no sentence it rests on has.

    Whatever they were said of, also of things the lexicon does not know ("left nipple ring").
    """
    rests_on = [sentence.parsed for sentence in support]
    for reason, values in _attributes(parsed).items():
        theirs = frozenset().union(*(_attributes(other)[reason] for other in rests_on))
        added = values - theirs
        if added and Side.BILATERAL not in theirs:
            conflict = bool(theirs) and values.isdisjoint(theirs) and Side.BILATERAL not in values
            yield Issue(reason, ", ".join(sorted(added)), conflict=conflict)


def _attributes(parsed: ParsedSentence) -> dict[Reason, frozenset[str]]:
    return {
        Reason.SIDE: frozenset(parsed.sides),
        Reason.ZONE: parsed.zones,
        Reason.SEVERITY: frozenset(parsed.severities),
    }


def compare_words(
    parsed: ParsedSentence, cited: Sequence[EvidenceSentence]
) -> tuple[list[Support], list[Issue]]:
    """Weigh a sentence that makes no claim we understand: only its words can be looked for.

    It is supported by a sentence that holds all of its words and denies as much as it does, partly
    supported by one that holds half of them.
    """
    mine = {word for word, _, _ in _unexplained(parsed)} or words_of(parsed.text)
    shared, nearest = 0.0, None
    for sentence in cited:
        share = len(mine & sentence.words) / len(mine) if mine else 0.0
        if share > shared and _denials(sentence.parsed.text) == _denials(parsed.text):
            shared, nearest = share, sentence
    if nearest is None or shared < 0.5:
        return [], [Issue(Reason.WORDS, " ".join(sorted(mine)))]
    issues = [] if shared == 1 else [Issue(Reason.WORDS, " ".join(sorted(mine - nearest.words)))]
    theirs = {number.value for number in nearest.parsed.numbers}
    issues += [
        Issue(Reason.NUMBER, parsed.text[n.start : n.end], start=n.start, end=n.end)
        for n in parsed.numbers
        if n.value not in theirs
    ]
    issues += attribute_issues(parsed, [nearest])
    return [nearest.place], issues


def _denials(text: str) -> bool:
    roles = {role for found in match_phrases(tokenize(text)) for role in found.roles}
    return bool(roles & {"negation", "not", "no_longer", "resolved", "removed", "removal_of"})


def _unexplained(parsed: ParsedSentence) -> Iterator[tuple[str, int, int]]:
    """Qualifying words in the phrases of findings; outside them all but the harmless ones."""
    words = [
        word
        for word in tokenize(parsed.text)
        if not any(number.start <= word.start < number.end for number in parsed.numbers)
    ]
    for found in match_phrases(words):
        if found.findings:
            names = {finding.name for finding in found.findings}
            yield from (
                (token.keys[0], token.start, token.end)
                for token in found.words
                if token.keys and token.keys[0] in _QUALIFYING - names
            )
            continue
        if found.role and found.role not in ("status", "removed"):
            continue
        for token in found.words:
            if token.keys and token.keys[0] not in _HARMLESS and token.keys[0].isalpha():
                yield token.keys[0], token.start, token.end
