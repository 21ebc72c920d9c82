"""Retrieved reports, read once: their sentences, claims, numbers and words.

Knows reports and claims; does not know drafts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rag.grounding.claims import Claim, claims_of
from rag.grounding.prompt_injection import neutralise
from rag.report_nlp.sentences import sentence_spans, without_list_number
from rag.report_nlp.statements import ParsedSentence, read_sentence
from rag.report_nlp.tokenizer import tokens
from rag.schema import Hit, ReportRecord, Section, Span


@dataclass(frozen=True, slots=True)
class EvidenceSentence:
    """One sentence of a retrieved report."""

    report_id: str
    span: Span
    reading: ParsedSentence
    claims: tuple[Claim, ...]
    words: frozenset[str]


def read_evidence(hits: Sequence[Hit]) -> dict[str, list[EvidenceSentence]]:
    """Sentences of each retrieved report, by its id."""
    return {hit.record.report_id: list(_sentences(hit.record)) for hit in hits}


def _sentences(record: ReportRecord) -> Iterator[EvidenceSentence]:
    clean = {section: neutralise(record.section(section))[0] for section in Section}
    for span in record.sentences or _spans(record):
        text = record.sentence(span)
        if text not in clean[span.section]:
            continue  # an order to a language model is no evidence
        reading = read_sentence(without_list_number(text))
        claims = tuple(claims_of(reading))
        yield EvidenceSentence(record.report_id, span, reading, claims, words_of(reading.text))


def _spans(record: ReportRecord) -> Iterator[Span]:
    for section in Section:
        for start, end in sentence_spans(record.section(section)):
            yield Span(section, start, end)


def words_of(text: str) -> frozenset[str]:
    """Words of a text in the lexicon's spelling; numbers and marks are left out."""
    return frozenset(
        token.keys[0] for token in tokens(text) if token.keys and token.keys[0].strip(",;:()?&/-")
    )


def same_text(a: str, b: str) -> bool:
    """Whether two sentences are the same but for blanks, capitals and the last full stop."""
    return " ".join(a.split()).casefold().rstrip(".") == " ".join(b.split()).casefold().rstrip(".")
