"""What a sentence states: findings with polarity, side, severity and zone, and its topics."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

from rag.report_nlp.labeller import Mention, sentence_mentions
from rag.report_nlp.lexicon import Finding, PhraseMatch, match_attributes
from rag.report_nlp.non_findings import (
    Number,
    find_numbers,
    has_placeholder,
    prior_mentions,
    recommends_or_communicates,
)
from rag.report_nlp.scopes import Polarity
from rag.report_nlp.sentences import Token, sentence_spans, tokenize


class Topic(StrEnum):
    """The part of the chest, or of the reading, that a sentence is about."""

    HEART = "heart"
    MEDIASTINUM = "mediastinum"
    LUNGS = "lungs"
    PLEURA = "pleura"
    BONES = "bones"
    SOFT_TISSUES = "soft_tissues"
    ABDOMEN = "abdomen"
    DEVICES = "devices"
    TECHNIQUE = "technique"
    OVERALL = "overall"
    """The chest as a whole: "no acute cardiopulmonary abnormality"."""
    ADVICE = "advice"
    """A recommendation or a communication."""
    OTHER = "other"


class Side(StrEnum):
    """Side of the patient's body."""

    LEFT = "left"
    RIGHT = "right"
    BILATERAL = "bilateral"


class Severity(StrEnum):
    """Extent or degree in three steps: "trace" and "small" are the same one."""

    SLIGHT = "slight"
    MODERATE = "moderate"
    SEVERE = "severe"


@dataclass(frozen=True, slots=True)
class Statement:
    """One finding as a sentence states it, at ``sentence[start:end]``.

    Attributes:
        finding: of the lexicon.
        polarity: None where nothing is said of the image (indication, history, "heart size" alone).
        term: the phrase in canonical spelling, without sides.
        sides, severities, zones: what is said of it; empty where nothing is. Zones are "upper",
            "middle" and "lower", "hilar", a chamber or valve of the heart, or a bone.
        side_shared: the side was said of another finding of the clause.
    """

    finding: Finding
    polarity: Polarity | None
    start: int
    end: int
    term: str
    sides: frozenset[Side] = frozenset()
    side_shared: bool = False
    severities: frozenset[Severity] = frozenset()
    zones: frozenset[str] = frozenset()

    @property
    def label(self) -> str:
        """Its CheXpert-14 name, empty where CheXpert has none."""
        return self.finding.label

    @property
    def concept(self) -> str:
        """The same for findings that are the same thing ("cardiomegaly", "enlarged heart")."""
        return self.finding.concept

    @property
    def name(self) -> str:
        """Its label, or its concept where it has none."""
        return self.label or self.concept

    @property
    def is_present(self) -> bool:
        """Whether the thing is said to be there, perhaps with a doubt."""
        return self.polarity in (Polarity.POSITIVE, Polarity.UNCERTAIN)

    @property
    def is_denied(self) -> bool:
        """Whether the thing is said not to be there."""
        return self.polarity is Polarity.NEGATIVE

    @property
    def claims(self) -> tuple["Statement", ...]:
        """One a concept: a "cardiomediastinal silhouette" is the heart's as well."""
        if self.concept != "mediastinal_size" or not self.term.startswith("cardio"):
            return (self,)
        return self, replace(self, finding=replace(self.finding, concept="heart_size"))


@dataclass(frozen=True, slots=True)
class ParsedSentence:
    """All that is read from one sentence. Spans are offsets in that sentence.

    ``sides``, ``severities`` and ``zones`` are those of the whole sentence, also of things that the
    lexicon does not know.
    """

    text: str
    statements: tuple[Statement, ...]
    topics: frozenset[Topic]
    numbers: tuple[Number, ...]
    prior_mentions: tuple[tuple[int, int], ...]
    has_placeholder: bool
    is_advice: bool
    sides: frozenset[Side] = frozenset()
    severities: frozenset[Severity] = frozenset()
    zones: frozenset[str] = frozenset()

    @property
    def labels(self) -> dict[str, Polarity]:
        """CheXpert-14 labels that are stated; positive wins over uncertain, that over negative."""
        stated: dict[str, Polarity] = {}
        for polarity in (Polarity.NEGATIVE, Polarity.UNCERTAIN, Polarity.POSITIVE):
            found = {s.label for s in self.statements if s.polarity is polarity and s.label}
            stated |= dict.fromkeys(found, polarity)
        return stated


def statements_of(text: str) -> list[Statement]:
    """What all sentences of a text state."""
    return [s for a, b in sentence_spans(text) for s in parse_sentence(text[a:b]).statements]


@lru_cache(maxsize=8192)
def parse_sentence(sentence: str) -> ParsedSentence:
    """Everything this module knows about one sentence; kept, since reports repeat each other."""
    words = tokenize(sentence)
    attributes = match_attributes(words)
    mentions = sentence_mentions(sentence)
    advice = recommends_or_communicates(sentence)
    roles = {role for found in attributes for role in found.roles}
    return ParsedSentence(
        text=sentence,
        statements=tuple(_statements(mentions, words, attributes)),
        topics=_topics(mentions, attributes, advice=advice),
        numbers=find_numbers(sentence),
        prior_mentions=tuple(prior_mentions(sentence)),
        has_placeholder=has_placeholder(sentence),
        is_advice=advice,
        sides=frozenset(Side(v) for v in _values("side.", roles)),
        severities=_severities(roles),
        zones=frozenset(_values("zone.", roles)),
    )


def _topics(
    mentions: Iterable[Mention], attributes: Iterable[PhraseMatch], *, advice: bool
) -> frozenset[Topic]:
    named = {Topic(mention.finding.topic) for mention in mentions}
    words = {
        Topic(role.removeprefix("topic."))
        for found in attributes
        for role in found.roles
        if role.startswith("topic.")
    }
    topics = named | words
    specific = topics - {Topic.OVERALL, Topic.TECHNIQUE, Topic.OTHER}
    if specific:
        # "within normal limits" and "on the lateral view" do not change what a sentence is about.
        topics = specific | (named - {Topic.OVERALL, Topic.OTHER})
    if advice:
        topics = topics | {Topic.ADVICE}
    return frozenset(topics or {Topic.OTHER})


_SIDED = frozenset({"lungs", "pleura", "bones", "devices", "soft_tissues"})
_Span = tuple[int, int]


def _statements(
    mentions: Sequence[Mention], words: list[Token], attributes: list[PhraseMatch]
) -> Iterable[Statement]:
    """One statement a mention, each with the sides, severities and zones that belong to it."""
    given: dict[_Span, set[str]] = {(m.start, m.end): set() for m in mentions}
    owners = [(m.start, m.end) for m in mentions if m.polarity or m.finding.label]
    in_clause: dict[_Span, set[str]] = {m.clause: set() for m in mentions}
    for found in attributes:
        clause = next((c for c in in_clause if c[0] <= found.start < c[1]), None)
        roles = {role for role in found.roles if not role.startswith("topic.")}
        if clause is None or not roles:
            continue
        in_it = [span for span in given if clause[0] <= span[0] < clause[1]]
        # "Large lung nodule": the nodule is large, not the lung.
        spans = [span for span in in_it if span in owners] or in_it
        given[_owner(spans, words, found)] |= roles
        in_clause[clause] |= roles
    for mention in mentions:
        roles = given[mention.start, mention.end]
        sides, shared = _sides(roles), False
        if not sides and mention.finding.topic in _SIDED:
            # "Left effusion with atelectasis": one side for the whole clause is everyone's side.
            sides, shared = _sides(in_clause[mention.clause]), True
        yield Statement(
            mention.finding,
            mention.polarity,
            mention.start,
            mention.end,
            term=_term(mention, words),
            sides=sides,
            side_shared=shared and bool(sides),
            severities=_severities(roles),
            zones=frozenset(_values("zone.", roles)),
        )


def _term(mention: Mention, words: list[Token]) -> str:
    """The phrase of a mention in canonical spelling, without sides."""
    inside = (w for w in words if w.keys and mention.start <= w.start < mention.end)
    return " ".join(w.keys[0] for w in inside if w.keys[0] not in ("left", "right", "the"))


# Between an adjective and its noun none of these can stand.
_APART = frozenset(
    (
        *",;:()",
        *("and", "or", "in", "at", "on", "of", "with", "without", "to", "for", "from", "due"),
        *("is", "are", "was", "were", "has", "have", "may", "might", "could", "which", "that"),
        *("likely", "probably", "possibly", "suspicious", "concerning", "consistent"),
        *("compatible", "represent", "represents", "representing", "reflect", "reflects"),
        *("reflecting", "suggest", "suggests", "suggesting", "suggestive", "indicating"),
    )
)


def _owner(spans: list[_Span], words: list[Token], found: PhraseMatch) -> _Span:
    """Which mention of a clause an attribute describes.

    An adjective stands before its noun ("small left effusion"), a place after it ("opacity in the
    left base").
    """
    following = min((span for span in spans if span[1] > found.start), default=None)
    before = max((span for span in spans if span[1] <= found.start), default=None)
    if following is None or before is None:
        return following or before or spans[0]
    between = (w for w in words if found.end <= w.start < following[0])
    apart = any(key in _APART for word in between for key in word.keys)
    return before if apart else following


def _values(prefix: str, roles: Iterable[str]) -> set[str]:
    return {role.removeprefix(prefix) for role in roles if role.startswith(prefix)}


def _severities(roles: Iterable[str]) -> frozenset[Severity]:
    return frozenset(Severity(v) for value in _values("severity.", roles) for v in value.split("-"))


def _sides(roles: Iterable[str]) -> frozenset[Side]:
    sides = {Side(value) for value in _values("side.", roles)}
    if {Side.LEFT, Side.RIGHT} <= sides:
        return frozenset({Side.BILATERAL})
    return frozenset(sides)
