"""Reports, hits, predicted findings and drafts: the records that the steps share, all frozen.

What becomes of them, a prediction and its JSON form, is in `rag.prediction`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Section(StrEnum):
    """The two sections of a report that a draft has."""

    FINDINGS = "findings"
    IMPRESSION = "impression"


@dataclass(frozen=True, slots=True)
class Span:
    """One sentence of a section: ``text[start:end]`` of that section, verbatim."""

    section: Section
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ReportRecord:
    """One report of a collection, verbatim.

    Attributes:
        report_id: unique in its collection; what a citation names.
        study_id: the study it describes; never retrieved for the same study.
        patient_id: the patient; never retrieved for the same patient.
        findings, impression, indication, comparison: section texts, empty if absent.
        labels: finding labels that came with the report (MeSH headings for Open-I).
        sentences: spans of the sentences of findings and impression, in reading order.
        stated: its `rag.report_reading.usable_labels`, read when it was indexed; None: not yet.
        date: study date as ISO 8601 where the collection has one, else empty.
        collection: name of the collection it came from, whose licence holds for it.
    """

    report_id: str
    study_id: str
    patient_id: str
    findings: str = ""
    impression: str = ""
    indication: str = ""
    comparison: str = ""
    labels: tuple[str, ...] = ()
    sentences: tuple[Span, ...] = ()
    stated: tuple[str, ...] | None = None
    date: str = ""
    collection: str = ""

    def section(self, name: Section) -> str:
        """Text of one section."""
        return self.findings if name is Section.FINDINGS else self.impression

    def sentence(self, span: Span) -> str:
        """Text of one sentence."""
        return self.section(span.section)[span.start : span.end]

    @property
    def text(self) -> str:
        """Findings and impression as one text: what is embedded and what is shown."""
        return "\n".join(part for part in (self.findings, self.impression) if part)


@dataclass(frozen=True, slots=True)
class Hit:
    """One retrieved report.

    Attributes:
        record: the report.
        similarity: cosine in [-1, 1], higher is nearer.
        copies: how many reports of the store have word for word this text ("seen 302 times").
        why: why it is here if it is not among the nearest, e.g. "fetched for pleural effusion".
    """

    record: ReportRecord
    similarity: float
    copies: int = 1
    why: str = ""


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What an image's query brought.

    Attributes:
        hits: the evidence to show, best first.
        pool: all that were looked at, nearest first: what a draft is agreed on by.
    """

    hits: tuple[Hit, ...]
    pool: tuple[Hit, ...] = ()


@dataclass(frozen=True, slots=True)
class PredictedFindings:
    """What the images of a study show: CheXpert-14 names, and ids of the lexicon ("granuloma").

    Attributes:
        probabilities: finding -> calibrated probability in [0, 1]. Findings that are not here are
            not judged: the image neither expects nor denies them.
        positive: what a draft may state, most probable first.
        undeniable: must-not-miss findings that are too probable for a draft to deny.
        not_assessable: findings whose probability says little more than chance would.
        normal: whether a report without any finding would not surprise. Can go together with
            positive findings: both are guesses.
        threshold: probability from which a finding is positive.
    """

    probabilities: Mapping[str, float] = field(default_factory=dict)
    positive: tuple[str, ...] = ()
    undeniable: frozenset[str] = frozenset()
    not_assessable: frozenset[str] = frozenset()
    normal: bool = False
    threshold: float = 0.5


NO_PREDICTED_FINDINGS = PredictedFindings()
"""Of an image without a finding head."""


PRIOR = "prior"
"""What a sentence cites that rests on the patient's own earlier study, beside report ids."""


@dataclass(frozen=True, slots=True)
class DraftSentence:
    """One sentence of a draft and the reports it rests on."""

    text: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """A draft: not for clinical use, and nothing in it without a source."""

    findings: tuple[DraftSentence, ...] = ()
    impression: tuple[DraftSentence, ...] = ()

    def section(self, name: Section) -> tuple[DraftSentence, ...]:
        """Sentences of one section."""
        return self.findings if name is Section.FINDINGS else self.impression


@dataclass(frozen=True, slots=True)
class Hint:
    """A finding that the draft does not state.

    Attributes:
        finding: CheXpert-14 name, or id of the lexicon.
        probability: in the image.
        sentence: one that would state it, with its sources.
    """

    finding: str
    probability: float
    sentence: DraftSentence


class Status(StrEnum):
    """How the work on one study stands or ended."""

    RUNNING = "running"
    OK = "ok"
    ABSTAINED = "abstained"
    FAILED = "failed"


NOTICE = "AI draft, not for clinical use"
"""Stands on every screen and in every export."""
