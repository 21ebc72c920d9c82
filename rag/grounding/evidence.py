"""Retrieved reports, parsed, and issues about what a sentence says besides its claims.

A sentence may agree with the evidence in every finding and still say more: a measure, a date, a
disease that is not in the lexicon. The cited reports must contain that, too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rag.grounding.claims import claims_of
from rag.grounding.prompt_injection import remove_injections
from rag.grounding.verdicts import Issue, Reason, Support
from rag.report_nlp.lexicon import load_toml, match_phrases
from rag.report_nlp.non_findings import Number, NumberKind
from rag.report_nlp.sentences import strip_list_number, tokenize, with_sentences
from rag.report_nlp.statements import ParsedSentence, Side, Statement, parse_sentence
from rag.schema import Hit, ReportRecord, Section


@dataclass(frozen=True, slots=True)
class EvidenceSentence:
    """One sentence of a retrieved report."""

    support: Support
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
            continue  # an instruction to a language model is not evidence
        parsed = parse_sentence(strip_list_number(text))
        claims = tuple(claims_of(parsed))
        support = Support(record.report_id, span)
        yield EvidenceSentence(support, parsed, claims, words_of(parsed.text))


def words_of(text: str) -> frozenset[str]:
    """Words of a text in normalised spelling, without numbers and marks."""
    return frozenset(
        token.keys[0]
        for token in tokenize(text)
        if token.keys and token.keys[0].strip(",;:()?&/|-01")
    )


def same_text(a: str, b: str) -> bool:
    """Whether two sentences differ only in blanks, capitals and the final full stop."""
    return " ".join(a.split()).casefold().rstrip(".") == " ".join(b.split()).casefold().rstrip(".")


_WORD_LISTS = load_toml("relations.toml")["words"]
_NEUTRAL_WORDS = frozenset(_WORD_LISTS["harmless"].split())
"""Words that add nothing to a statement."""
_QUALIFIERS = frozenset(_WORD_LISTS["qualifying"].split())
"""Words of a finding's phrase that specify it further."""
_TIME_WORDS = frozenset({"acute", "active", "subacute", "new", "old", "chronic", "healed", "known"})
"""Words that only a denial may add: "no fracture" supports "no acute fracture"."""


def number_issues(
    parsed: ParsedSentence, claims: Sequence[Statement], cited: Sequence[EvidenceSentence]
) -> Iterator[Issue]:
    """Numbers of the sentence that the cited reports do not give for the same findings."""
    concepts = {claim.concept for claim in claims}
    related = [s for s in cited if concepts & {claim.concept for claim in s.claims}]
    given = [number for sentence in related for number in sentence.parsed.numbers]
    for number in _numbers_not_in(given, parsed):
        values = {other.value for other in given if other.kind is number.kind}
        stated = {other.value for other in parsed.numbers if other.kind is number.kind}
        conflict = bool(values) and values.isdisjoint(stated)
        comparable = number.kind in (NumberKind.MEASURE, NumberKind.LEVEL)
        yield _number_issue(number, parsed, conflict=conflict and comparable)


def _numbers_not_in(given: Sequence[Number], parsed: ParsedSentence) -> list[Number]:
    values = {number.value for number in given}
    return [number for number in parsed.numbers if number.value not in values]


def _number_issue(number: Number, parsed: ParsedSentence, *, conflict: bool) -> Issue:
    start, end = number.start, number.end
    return Issue(Reason.NUMBER, parsed.text[start:end], start=start, end=end, conflict=conflict)


def unsupported_word_issues(
    parsed: ParsedSentence, claims: Sequence[Statement], cited: Sequence[EvidenceSentence]
) -> Iterator[Issue]:
    """Words outside the claims that are in no cited report."""
    known = frozenset().union(*(sentence.words for sentence in cited))
    if all(claim.is_denied for claim in claims):
        known |= _TIME_WORDS
    for word, start, end in _unclaimed_words(parsed):
        if word not in known:
            yield Issue(Reason.WORDS, parsed.text[start:end], start=start, end=end)


def denial_issues(
    parsed: ParsedSentence, claims: Sequence[Statement], support: Sequence[EvidenceSentence]
) -> Iterator[Issue]:
    """A negation outside the claims, if no supporting sentence has one.

    It negates something that is not in the lexicon ("no distortion of the hilum").
    """
    if any(claim.is_denied for claim in claims) or not _has_negation(parsed.text):
        return
    if not any(_has_negation(sentence.parsed.text) for sentence in support):
        yield Issue(Reason.POLARITY, "")


def attribute_issues(
    parsed: ParsedSentence, support: Sequence[EvidenceSentence]
) -> Iterator[Issue]:
    """Sides, zones and sizes that no supporting sentence has.

    Also of things that are not in the lexicon ("left nipple ring").
    """
    for reason, values in _attributes(parsed).items():
        given = frozenset().union(*(_attributes(s.parsed)[reason] for s in support))
        added = values - given
        if added and Side.BILATERAL not in given:
            conflict = bool(given) and values.isdisjoint(given) and Side.BILATERAL not in values
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
    """Check a sentence without claims by its words.

    It is supported by a sentence with all of its words that is negated as it is, partly supported
    by one with half of them.
    """
    words = {word for word, _, _ in _unclaimed_words(parsed)} or words_of(parsed.text)
    best_share, nearest = 0.0, None
    for sentence in cited:
        share = len(words & sentence.words) / len(words) if words else 0.0
        same_negation = _has_negation(sentence.parsed.text) == _has_negation(parsed.text)
        if share > best_share and same_negation:
            best_share, nearest = share, sentence
    if nearest is None or best_share < 0.5:
        return [], [Issue(Reason.WORDS, " ".join(sorted(words)))]
    missing = sorted(words - nearest.words)
    issues = [Issue(Reason.WORDS, " ".join(missing))] if missing else []
    unknown = _numbers_not_in(nearest.parsed.numbers, parsed)
    issues += [_number_issue(number, parsed, conflict=False) for number in unknown]
    issues += attribute_issues(parsed, [nearest])
    return [nearest.support], issues


def _has_negation(text: str) -> bool:
    roles = {role for match in match_phrases(tokenize(text)) for role in match.roles}
    return bool(roles & {"negation", "not", "no_longer", "resolved", "removed", "removal_of"})


def _unclaimed_words(parsed: ParsedSentence) -> Iterator[tuple[str, int, int]]:
    """Qualifiers within the phrases of findings, and content words outside them."""
    tokens = [
        token
        for token in tokenize(parsed.text)
        if not any(number.start <= token.start < number.end for number in parsed.numbers)
    ]
    for match in match_phrases(tokens):
        if match.role and match.role not in ("status", "removed"):
            continue
        names = {finding.name for finding in match.findings}
        for token in match.tokens:
            key = token.keys[0] if token.keys else ""
            is_content = key.isalpha() and key not in _NEUTRAL_WORDS
            if key in _QUALIFIERS - names if names else is_content:
                yield key, token.start, token.end
