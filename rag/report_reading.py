"""What a report says, in the form in which drafts are made: findings, details, usable sentences.

A sentence of another patient's report can be used if it could be said of this image: it compares
with no earlier one, gives no measure, advises nothing, lost no word and can stand alone. Reading is
cached, since the same reports are near many images. The labels that retrieval orders reports by are
read when a report is indexed (`annotate_labels`), so that a search reads nothing. Knows no image.
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from rag.report_nlp.labeller import NO_FINDING, label_text
from rag.report_nlp.lexicon import relations
from rag.report_nlp.scopes import Polarity
from rag.report_nlp.sentences import strip_list_number
from rag.report_nlp.statements import (
    ParsedSentence,
    Side,
    Statement,
    Topic,
    parse_sentence,
    statements_of,
)
from rag.schema import ReportRecord, Section

# heading -> topics of the sentences under it, in the order of a report
HEADINGS: dict[str, tuple[Topic, ...]] = {
    "heart": (Topic.HEART,),
    "mediastinum": (Topic.MEDIASTINUM,),
    "lungs": (Topic.LUNGS,),
    "pleura": (Topic.PLEURA,),
    "bones": (Topic.BONES, Topic.SOFT_TISSUES, Topic.ABDOMEN),
    "devices": (Topic.DEVICES,),
}
IMPRESSION = "impression"

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|\d+")
_PREDICATE = re.compile(
    r"\b(?:is|are|was|were|has|have|seen|noted|no|without|normal|unremarkable|clear|intact|"
    r"appears?|demonstrates?|shows?|identified|present|within|negative|midline)\b",
    re.IGNORECASE,
)
_GLUED = re.compile(r"(?<=\s)(?:The|There|No|Heart|Lungs?|Is|Are|And|Or)\b|[.;,]\s*\.|:")
"""Two sentences run together, or what a removed word left behind."""
_CUT_OFF = re.compile(r"\b(?:or|and|of|the|with|in|a)\s*\.?$", re.IGNORECASE)
_LEANS = re.compile(
    r"\b(?:otherwise|however|also|this|these|adjacent|underlying|concomitant|differential|history"
    r"|(?:discussed|described|mentioned) (?:above|below)|(?:lateral|frontal) (?:view|exam\w*|image)"
    r"|not excluded)\b|^associated\b|^(?:the )?appearances? suggests?\b",
    re.IGNORECASE,
)
"""What makes a sentence lean on another one, on one view, or on what only its reader knew."""
_MAX_WORDS = 28

Detail = tuple[str, str]
"""A finding and what is said of it: a side, a degree or a zone."""


@dataclass(frozen=True, slots=True)
class UsableSentence:
    """One sentence that could be said of another image.

    Attributes:
        text: verbatim, but for a list number in front, a capital and a full stop.
        heading: one of `HEADINGS`, or "" for the chest as a whole.
        present: findings it states, perhaps with a doubt: CheXpert-14 names and lexicon ids.
        denied: findings it denies, by the same names.
        excluded: lexicon ids that could not stand beside it, e.g. an opacity beside clear lungs.
        details: sides, degrees and zones of what it states.
        words: lower case, without punctuation.
        plain: the text without case, double spaces and its full stop.
    """

    text: str
    section: Section
    heading: str
    present: frozenset[str]
    denied: frozenset[str]
    excluded: frozenset[str]
    details: frozenset[Detail]
    words: tuple[str, ...]
    plain: str

    @property
    def key(self) -> tuple[Section, str]:
        """What makes two sentences the same one."""
        return self.section, self.plain


@dataclass(frozen=True, slots=True)
class ReportReading:
    """A report as drafts need it.

    Attributes:
        present: findings it states anywhere, CheXpert-14 names and lexicon ids.
        labels: (lexicon id, CheXpert-14 name) of those of its findings that have both.
        details: of all it states.
        sentences: those that can be used.
        words: of the whole report.
    """

    present: frozenset[str]
    labels: frozenset[tuple[str, str]]
    details: frozenset[Detail]
    sentences: tuple[UsableSentence, ...]
    words: tuple[str, ...]


@lru_cache(maxsize=20_000)
def parse_report(record: ReportRecord) -> ReportReading:
    """Everything that drafts need of a report."""
    statements = [
        statement
        for span in record.sentences
        for statement in parse_sentence(record.sentence(span)).statements
        if statement.is_present
    ]
    sentences = [
        _usable(section, text, parsed) for section, text, parsed in usable_sentences(record)
    ]
    sentences += [
        replace(sentence, section=Section.FINDINGS)
        for sentence in sentences
        if sentence and sentence.section is Section.IMPRESSION
        if sentence.heading and sentence.present and not sentence.denied
    ]
    return ReportReading(
        present=_names(statements),
        labels=frozenset((s.concept, s.label) for s in statements if s.label),
        details=_details(statements),
        sentences=tuple(sentence for sentence in sentences if sentence is not None),
        words=words_of(record.text),
    )


def words_of(text: str) -> tuple[str, ...]:
    """Words in lower case."""
    return tuple(_WORD.findall(text.lower()))


def report_findings(text: str) -> frozenset[str]:
    """Findings that a whole report states, perhaps with a doubt, "No Finding" among them."""
    labels = {n for n, polarity in label_text(text).items() if polarity is not Polarity.NEGATIVE}
    return frozenset(labels | {s.concept for s in statements_of(text) if s.is_present})


def sentence_findings(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """What a sentence states, perhaps with a doubt, and what it denies: labels where there are any.

    "The lungs are clear" denies an opacity, too.
    """
    statements = parse_sentence(text).statements
    denied = [s for s in statements if s.is_denied]
    implied = {other for s in denied for other in relations("denies").get(s.concept, ())}
    stated = frozenset(s.name for s in statements if s.is_present)
    return stated, frozenset(s.name for s in denied) | implied


def _usable(section: Section, text: str, parsed: ParsedSentence) -> UsableSentence | None:
    heading = next((h for h, topics in HEADINGS.items() if parsed.topics & set(topics)), "")
    stated = [s for s in parsed.statements if s.is_present]
    denied = [s for s in parsed.statements if s.is_denied]
    words = words_of(text)
    says_something = stated or (_PREDICATE.search(text) and (denied or heading))
    broken = _GLUED.search(text[1:]) or _CUT_OFF.search(text) or _LEANS.search(text)
    if not says_something or broken or not words or len(words) > _MAX_WORDS:
        return None
    if section is Section.FINDINGS and (not heading or len(words) == 1):
        return None
    if not stated and any(len(s.sides - {Side.BILATERAL}) == 1 for s in denied):
        return None  # "left lung clear" leaves the reader asking for the other
    excluded = {claim.concept for s in denied for claim in s.claims}
    for kind in ("denies", "excludes", "beside"):
        excluded |= {other for s in denied for other in relations(kind).get(s.concept, ())}
    if heading == "bones" and "abnormality" in excluded:
        excluded.add("bone_abnormality")
    if excluded & {s.concept for s in stated}:  # "lungs are clear airspace disease": a word is gone
        return None
    return UsableSentence(
        text=_written_out(text),
        section=section,
        heading=heading,
        present=_names(stated),
        denied=_names(denied),
        excluded=frozenset(excluded),
        details=_details(stated),
        words=words,
        plain=" ".join(text.split()).casefold().rstrip(" ."),
    )


def _written_out(text: str) -> str:
    """A sentence with the capital and the full stop that its report forgot."""
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _names(statements: list[Statement]) -> frozenset[str]:
    return frozenset(name for s in statements for name in (s.concept, s.label) if name)


def _details(statements: list[Statement]) -> frozenset[Detail]:
    return frozenset(
        (s.concept, str(value))
        for s in statements
        for values in (s.sides, s.severities, s.zones)
        for value in values
    )


_DANGLING = re.compile(r"(?:this|these|those|it|they|such|which|that)\b", re.IGNORECASE)
"""A sentence that begins so speaks of one before it, which would not come along."""


def usable_labels(record: ReportRecord) -> frozenset[str]:
    """Labels that a report states as present in a finding that a draft could use.

    "No Finding" is one of them where the whole report names nothing abnormal.
    """
    return _read(record) if record.stated is None else frozenset(record.stated)


def annotate_labels(record: ReportRecord) -> tuple[ReportRecord, tuple[str, ...]]:
    """The record with what it states noted in it; the last screen of an indexing."""
    return replace(record, stated=tuple(sorted(_read(record)))), ()


def usable_sentences(record: ReportRecord) -> list[tuple[Section, str, ParsedSentence]]:
    """Sentences that could be said of another image; an impression alone lends its sentences."""
    usable = []
    for span in record.sentences:
        text = strip_list_number(record.sentence(span))
        reading = parse_sentence(text)
        if (
            reading.has_placeholder
            or reading.prior_mentions
            or reading.is_advice
            or reading.numbers
        ):
            continue
        if reading.topics <= {Topic.OTHER, Topic.TECHNIQUE} or _DANGLING.match(text):
            continue
        usable.append((span.section, text, reading))
        if span.section is Section.IMPRESSION and not record.findings:
            usable.append((Section.FINDINGS, text, reading))
    return usable


@lru_cache(maxsize=8192)  # where the store has not noted it: many images look at the same reports
def _read(record: ReportRecord) -> frozenset[str]:
    positive = {
        label
        for section, _, reading in usable_sentences(record)
        if section is Section.FINDINGS
        for label, polarity in reading.labels.items()
        if polarity is Polarity.POSITIVE
    }
    return frozenset(positive | ({NO_FINDING} & label_text(record.text).keys()))
