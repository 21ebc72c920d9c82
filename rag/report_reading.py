"""What a report says, as drafting needs it: findings, details and usable sentences.

A sentence of another patient's report is usable if it could be said of this image: it compares with
no earlier image, gives no measurement or advice, misses no word and stands alone. Parsing is
cached, as the same reports are near many images; the labels that retrieval re-ranks by are stored
when a report is indexed (`annotate_labels`).
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

HEADINGS: dict[str, tuple[Topic, ...]] = {
    "heart": (Topic.HEART,),
    "mediastinum": (Topic.MEDIASTINUM,),
    "lungs": (Topic.LUNGS,),
    "pleura": (Topic.PLEURA,),
    "bones": (Topic.BONES, Topic.SOFT_TISSUES, Topic.ABDOMEN),
    "devices": (Topic.DEVICES,),
}
"""Topics of the sentences under each heading of a draft, in the order of a report."""
IMPRESSION = "impression"

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|\d+")
_PREDICATE = re.compile(
    r"\b(?:is|are|was|were|has|have|seen|noted|no|without|normal|unremarkable|clear|intact|"
    r"appears?|demonstrates?|shows?|identified|present|within|negative|midline)\b",
    re.IGNORECASE,
)
_RUN_TOGETHER = re.compile(r"(?<=\s)(?:The|There|No|Heart|Lungs?|Is|Are|And|Or)\b|[.;,]\s*\.|:")
"""Two sentences without a stop between them, or what a removed word left behind."""
_TRUNCATED = re.compile(r"\b(?:or|and|of|the|with|in|a)\s*\.?$", re.IGNORECASE)
_CONTEXT = re.compile(
    r"\b(?:otherwise|however|also|this|these|adjacent|underlying|concomitant|differential|history"
    r"|(?:discussed|described|mentioned) (?:above|below)|(?:lateral|frontal) (?:view|exam\w*|image)"
    r"|not excluded)\b|^associated\b|^(?:the )?appearances? suggests?\b",
    re.IGNORECASE,
)
"""Refers to another sentence, to one view, or to what only the report's author knew."""
_ANAPHOR = re.compile(r"(?:this|these|those|it|they|such|which|that)\b", re.IGNORECASE)
"""At the beginning of a sentence: refers to the one before."""
_MAX_WORDS = 28

Detail = tuple[str, str]
"""A finding and its side, degree or zone."""


@dataclass(frozen=True, slots=True)
class UsableSentence:
    """A sentence that could be said of another image.

    Attributes:
        text: verbatim, without a list number, with a capital and a full stop.
        heading: one of `HEADINGS`, or "" for the chest as a whole.
        present: findings it states, certain or uncertain: CheXpert-14 names and lexicon ids.
        denied: findings it denies, by the same names.
        excluded: lexicon ids that contradict it, e.g. an opacity for clear lungs.
        details: of the findings it states.
        words: lower case, without punctuation.
        normalized: the text without case, double spaces and its full stop.
    """

    text: str
    section: Section
    heading: str
    present: frozenset[str]
    denied: frozenset[str]
    excluded: frozenset[str]
    details: frozenset[Detail]
    words: tuple[str, ...]
    normalized: str

    @property
    def key(self) -> tuple[Section, str]:
        """Equal for sentences that differ only in case, spaces and the full stop."""
        return self.section, self.normalized

    @property
    def content(self) -> tuple[object, ...]:
        """Equal for sentences that are wordings of the same content."""
        return self.section, self.heading, self.present, self.denied, self.details


@dataclass(frozen=True, slots=True)
class ParsedReport:
    """What drafting needs of a report.

    Attributes:
        present: findings stated anywhere, CheXpert-14 names and lexicon ids.
        labels: (lexicon id, CheXpert-14 name) of its findings that have both.
        details: of all its findings.
        sentences: the usable ones.
        words: of the whole report, lower case.
    """

    present: frozenset[str]
    labels: frozenset[tuple[str, str]]
    details: frozenset[Detail]
    sentences: tuple[UsableSentence, ...]
    words: tuple[str, ...]


@lru_cache(maxsize=20_000)
def parse_report(record: ReportRecord) -> ParsedReport:
    """Findings, details and usable sentences of a report."""
    statements = [
        statement
        for span in record.sentences
        for statement in parse_sentence(record.sentence(span)).statements
        if statement.is_present
    ]
    usable = (
        _to_usable(section, text, parsed) for section, text, parsed in _usable_sentences(record)
    )
    sentences = [sentence for sentence in usable if sentence is not None]
    sentences += [  # an impression's finding may be stated in the findings too
        replace(sentence, section=Section.FINDINGS)
        for sentence in sentences
        if sentence.section is Section.IMPRESSION
        if sentence.heading and sentence.present and not sentence.denied
    ]
    return ParsedReport(
        present=_names(statements),
        labels=frozenset((s.concept, s.label) for s in statements if s.label),
        details=_details(statements),
        sentences=tuple(sentences),
        words=words_of(record.text),
    )


def words_of(text: str) -> tuple[str, ...]:
    """Words of a text, in lower case."""
    return tuple(_WORD.findall(text.lower()))


def report_findings(text: str) -> frozenset[str]:
    """Findings that a report states, certain or uncertain; "No Finding" may be one."""
    labels = {n for n, polarity in label_text(text).items() if polarity is not Polarity.NEGATIVE}
    return frozenset(labels | {s.concept for s in statements_of(text) if s.is_present})


def sentence_findings(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """Findings that a sentence states and denies; by their CheXpert-14 names if they have one.

    "The lungs are clear" denies an opacity.
    """
    statements = parse_sentence(text).statements
    denied = [s for s in statements if s.is_denied]
    implied = {other for s in denied for other in relations("denies").get(s.concept, ())}
    stated = frozenset(s.name for s in statements if s.is_present)
    return stated, frozenset(s.name for s in denied) | implied


def _to_usable(section: Section, text: str, parsed: ParsedSentence) -> UsableSentence | None:
    heading = next((h for h, topics in HEADINGS.items() if parsed.topics & set(topics)), "")
    stated = [s for s in parsed.statements if s.is_present]
    denied = [s for s in parsed.statements if s.is_denied]
    words = words_of(text)
    has_content = stated or (_PREDICATE.search(text) and (denied or heading))
    is_broken = _RUN_TOGETHER.search(text[1:]) or _TRUNCATED.search(text)
    if not has_content or is_broken or _CONTEXT.search(text):
        return None
    if not words or len(words) > _MAX_WORDS:
        return None
    if section is Section.FINDINGS and (not heading or len(words) == 1):
        return None
    if not stated and any(len(s.sides - {Side.BILATERAL}) == 1 for s in denied):
        return None  # "left lung clear" leaves the right lung open
    excluded = {claim.concept for s in denied for claim in s.claims}
    for kind in ("denies", "excludes", "beside"):
        excluded |= {other for s in denied for other in relations(kind).get(s.concept, ())}
    if heading == "bones" and "abnormality" in excluded:
        excluded.add("bone_abnormality")
    if excluded & {s.concept for s in stated}:
        return None  # contradicts itself, e.g. "lungs are clear airspace disease"
    return UsableSentence(
        text=_punctuate(text),
        section=section,
        heading=heading,
        present=_names(stated),
        denied=_names(denied),
        excluded=frozenset(excluded),
        details=_details(stated),
        words=words,
        normalized=" ".join(text.split()).casefold().rstrip(" ."),
    )


def _punctuate(text: str) -> str:
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


def usable_labels(record: ReportRecord) -> frozenset[str]:
    """Labels that usable sentences of the findings state; "No Finding" if the report is normal."""
    return _read_labels(record) if record.stated is None else frozenset(record.stated)


def annotate_labels(record: ReportRecord) -> tuple[ReportRecord, tuple[str, ...]]:
    """The record with its `usable_labels` stored; the last screen of indexing."""
    return replace(record, stated=tuple(sorted(_read_labels(record)))), ()


def _usable_sentences(record: ReportRecord) -> list[tuple[Section, str, ParsedSentence]]:
    """Sentences that could be said of another image.

    Those of an impression also serve as findings if the report has no findings section.
    """
    usable = []
    for span in record.sentences:
        text = strip_list_number(record.sentence(span))
        parsed = parse_sentence(text)
        if parsed.has_placeholder or parsed.prior_mentions or parsed.is_advice or parsed.numbers:
            continue
        if parsed.topics <= {Topic.OTHER, Topic.TECHNIQUE} or _ANAPHOR.match(text):
            continue
        usable.append((span.section, text, parsed))
        if span.section is Section.IMPRESSION and not record.findings:
            usable.append((Section.FINDINGS, text, parsed))
    return usable


@lru_cache(maxsize=8192)  # for indexes without stored labels
def _read_labels(record: ReportRecord) -> frozenset[str]:
    positive = {
        label
        for section, _, parsed in _usable_sentences(record)
        if section is Section.FINDINGS
        for label, polarity in parsed.labels.items()
        if polarity is Polarity.POSITIVE
    }
    return frozenset(positive | ({NO_FINDING} & label_text(record.text).keys()))
