"""What a sentence states: findings with polarity, side, severity and zone; its topics."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

from rag.report_nlp.labeller import Mention, sentence_mentions
from rag.report_nlp.lexicon import Finding, PhraseMatch, Token, match_attributes
from rag.report_nlp.non_findings import (
    Number,
    find_numbers,
    has_placeholder,
    prior_mentions,
    recommends_or_communicates,
)
from rag.report_nlp.scopes import Polarity
from rag.report_nlp.sentences import sentence_spans, tokenize


class Topic(StrEnum):
    """What a sentence is about: a part of the chest, a device, the technique, advice."""

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
    """Extent or degree in three steps; "trace" and "small" are both slight."""

    SLIGHT = "slight"
    MODERATE = "moderate"
    SEVERE = "severe"


@dataclass(frozen=True, slots=True)
class Statement:
    """One finding as a sentence states it, at ``sentence[start:end]``.

    Attributes:
        polarity: None if nothing is said of the image (history, a question, "heart size" alone).
        term: the phrase in canonical spelling, without sides.
        sides, severities, zones: empty if not stated. Zones are "upper", "middle" and "lower",
            "hilar", a chamber or valve of the heart, or a bone.
        side_shared: the side was stated of another finding of the clause.
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
        """Its CheXpert-14 name; empty if CheXpert has none."""
        return self.finding.label

    @property
    def concept(self) -> str:
        """Equal for findings that mean the same ("cardiomegaly", "enlarged heart")."""
        return self.finding.concept

    @property
    def name(self) -> str:
        """Its label, or its concept if it has none."""
        return self.label or self.concept

    @property
    def is_present(self) -> bool:
        """Whether the finding is stated, with certainty or not."""
        return self.polarity in (Polarity.POSITIVE, Polarity.UNCERTAIN)

    @property
    def is_denied(self) -> bool:
        """Whether the finding is negated."""
        return self.polarity is Polarity.NEGATIVE

    @property
    def claims(self) -> tuple["Statement", ...]:
        """One statement per concept: a "cardiomediastinal silhouette" concerns the heart, too."""
        if self.concept != "mediastinal_size" or not self.term.startswith("cardio"):
            return (self,)
        return self, replace(self, finding=replace(self.finding, concept="heart_size"))


@dataclass(frozen=True, slots=True)
class ParsedSentence:
    """All that is read from one sentence. Spans are offsets in that sentence.

    ``sides``, ``severities`` and ``zones`` are those of the whole sentence, also of things that are
    not in the lexicon.
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
    """The statements of all sentences of a text."""
    return [s for a, b in sentence_spans(text) for s in parse_sentence(text[a:b]).statements]


@lru_cache(maxsize=8192)
def parse_sentence(sentence: str) -> ParsedSentence:
    """Parse one sentence; cached, since reports repeat each other's sentences."""
    tokens = tokenize(sentence)
    attributes = match_attributes(tokens)
    mentions = sentence_mentions(sentence)
    advice = recommends_or_communicates(sentence)
    roles = {role for match in attributes for role in match.roles}
    return ParsedSentence(
        text=sentence,
        statements=tuple(_statements(mentions, tokens, attributes)),
        topics=_topics(mentions, attributes, advice=advice),
        numbers=find_numbers(sentence),
        prior_mentions=prior_mentions(sentence),
        has_placeholder=has_placeholder(sentence),
        is_advice=advice,
        sides=frozenset(Side(v) for v in _values("side.", roles)),
        severities=_severities(roles),
        zones=frozenset(_values("zone.", roles)),
    )


def _topics(
    mentions: Iterable[Mention], attributes: Iterable[PhraseMatch], *, advice: bool
) -> frozenset[Topic]:
    finding_topics = {Topic(mention.finding.topic) for mention in mentions}
    roles = (role for match in attributes for role in match.roles)
    topics = finding_topics | {Topic(value) for value in _values("topic.", roles)}
    specific = topics - {Topic.OVERALL, Topic.TECHNIQUE, Topic.OTHER}
    if specific:
        # "within normal limits" and "on the lateral view" do not change the topic
        topics = specific | (finding_topics - {Topic.OVERALL, Topic.OTHER})
    if advice:
        topics = topics | {Topic.ADVICE}
    return frozenset(topics or {Topic.OTHER})


_TOPICS_WITH_SIDES = frozenset({"lungs", "pleura", "bones", "devices", "soft_tissues"})
_Offsets = tuple[int, int]


def _statements(
    mentions: Sequence[Mention], tokens: list[Token], attributes: list[PhraseMatch]
) -> Iterable[Statement]:
    """One statement per mention, with the sides, severities and zones that describe it."""
    by_mention: dict[_Offsets, set[str]] = {(m.start, m.end): set() for m in mentions}
    by_clause: dict[_Offsets, set[str]] = {m.clause: set() for m in mentions}
    preferred = [(m.start, m.end) for m in mentions if m.polarity or m.finding.label]
    for attribute in attributes:
        clause = next((c for c in by_clause if c[0] <= attribute.start < c[1]), None)
        roles = {role for role in attribute.roles if not role.startswith("topic.")}
        if clause is None or not roles:
            continue
        in_clause = [span for span in by_mention if clause[0] <= span[0] < clause[1]]
        # "Large lung nodule": the nodule is large, not the lung.
        spans = [span for span in in_clause if span in preferred] or in_clause
        by_mention[_described_mention(attribute, spans, tokens)] |= roles
        by_clause[clause] |= roles
    for mention in mentions:
        roles = by_mention[mention.start, mention.end]
        sides, shared = _sides(roles), False
        if not sides and mention.finding.topic in _TOPICS_WITH_SIDES:
            # "Left effusion with atelectasis": a clause's only side applies to all its findings.
            sides, shared = _sides(by_clause[mention.clause]), True
        yield Statement(
            mention.finding,
            mention.polarity,
            mention.start,
            mention.end,
            term=_term(mention, tokens),
            sides=sides,
            side_shared=shared and bool(sides),
            severities=_severities(roles),
            zones=frozenset(_values("zone.", roles)),
        )


def _term(mention: Mention, tokens: list[Token]) -> str:
    """The phrase of a mention in canonical spelling, without sides."""
    keys = (t.keys[0] for t in tokens if t.keys and mention.start <= t.start < mention.end)
    return " ".join(key for key in keys if key not in ("left", "right", "the"))


# None of these is between an adjective and its noun.
_NOT_WITHIN_NOUN_PHRASE = frozenset(
    (
        *",;:()",
        *("and", "or", "in", "at", "on", "of", "with", "without", "to", "for", "from", "due"),
        *("is", "are", "was", "were", "has", "have", "may", "might", "could", "which", "that"),
        *("likely", "probably", "possibly", "suspicious", "concerning", "consistent"),
        *("compatible", "represent", "represents", "representing", "reflect", "reflects"),
        *("reflecting", "suggest", "suggests", "suggesting", "suggestive", "indicating"),
    )
)


def _described_mention(
    attribute: PhraseMatch, spans: list[_Offsets], tokens: list[Token]
) -> _Offsets:
    """Which of a clause's mentions an attribute describes.

    Adjectives precede their noun ("small left effusion"), places follow it ("opacity in the left
    base").
    """
    following = min((span for span in spans if span[1] > attribute.start), default=None)
    preceding = max((span for span in spans if span[1] <= attribute.start), default=None)
    if following is None or preceding is None:
        return following or preceding or spans[0]
    between = (t for t in tokens if attribute.end <= t.start < following[0])
    separated = any(key in _NOT_WITHIN_NOUN_PHRASE for token in between for key in token.keys)
    return preceding if separated else following


def _values(prefix: str, roles: Iterable[str]) -> set[str]:
    return {role.removeprefix(prefix) for role in roles if role.startswith(prefix)}


def _severities(roles: Iterable[str]) -> frozenset[Severity]:
    return frozenset(Severity(v) for value in _values("severity.", roles) for v in value.split("-"))


def _sides(roles: Iterable[str]) -> frozenset[Side]:
    sides = {Side(value) for value in _values("side.", roles)}
    if {Side.LEFT, Side.RIGHT} <= sides:
        return frozenset({Side.BILATERAL})
    return frozenset(sides)
