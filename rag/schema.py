"""The records that the steps share: reports, hits, predicted findings and drafts.

A study's outcome and its JSON form are in `rag.prediction`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Section(StrEnum):
    """The sections of a draft."""

    FINDINGS = "findings"
    IMPRESSION = "impression"


@dataclass(frozen=True, slots=True)
class Span:
    """One sentence: ``text[start:end]`` of a section."""

    section: Section
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ReportRecord:
    """One report of a collection, verbatim.

    Attributes:
        report_id: unique in its collection; cited by sentences.
        study_id, patient_id: never retrieved for the same study or patient.
        findings, impression, indication, comparison: section texts, empty if absent.
        labels: as given by the collection, e.g. Open-I's MeSH headings.
        sentences: spans of the sentences of findings and impression, in reading order.
        stated: cached `rag.report_reading.usable_labels`; None before indexing.
        date: study date as ISO 8601, or empty.
        collection: name of its collection, whose licence applies.
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
        """Text of a section."""
        return self.findings if name is Section.FINDINGS else self.impression

    def sentence(self, span: Span) -> str:
        """Text of a sentence."""
        return self.section(span.section)[span.start : span.end]

    @property
    def text(self) -> str:
        """Findings and impression, as embedded and shown."""
        return "\n".join(part for part in (self.findings, self.impression) if part)


@dataclass(frozen=True, slots=True)
class Hit:
    """One retrieved report.

    Attributes:
        similarity: cosine in [-1, 1].
        copies: number of reports in the index with exactly this text.
        why: reason for a hit that is not among the nearest, e.g. "fetched for pleural effusion".
    """

    record: ReportRecord
    similarity: float
    copies: int = 1
    why: str = ""


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Reports retrieved for an image.

    Attributes:
        hits: the evidence to show, best first.
        pool: the nearest reports, whose consensus is the draft.
    """

    hits: tuple[Hit, ...]
    pool: tuple[Hit, ...] = ()


@dataclass(frozen=True, slots=True)
class PredictedFindings:
    """Predicted findings of a study's images: CheXpert-14 names and lexicon ids ("granuloma").

    Attributes:
        probabilities: finding -> calibrated probability in [0, 1]; others are not judged.
        positive: findings that a draft may state, most probable first.
        undeniable: must-not-miss findings that are too probable for a draft to deny.
        not_assessable: findings predicted hardly better than by chance.
        normal: whether normal reports are preferred, by the probability of "No Finding".
        threshold: probability from which a finding is positive.
    """

    probabilities: Mapping[str, float] = field(default_factory=dict)
    positive: tuple[str, ...] = ()
    undeniable: frozenset[str] = frozenset()
    not_assessable: frozenset[str] = frozenset()
    normal: bool = False
    threshold: float = 0.5


NO_PREDICTED_FINDINGS = PredictedFindings()
"""For an encoder without a finding head."""

PRIOR = "prior"
"""Source of a sentence that rests on the patient's own prior study; others are report ids."""


@dataclass(frozen=True, slots=True)
class DraftSentence:
    """One sentence of a draft and the reports it rests on."""

    text: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """A draft report; not for clinical use."""

    findings: tuple[DraftSentence, ...] = ()
    impression: tuple[DraftSentence, ...] = ()

    def section(self, name: Section) -> tuple[DraftSentence, ...]:
        """Sentences of a section."""
        return self.findings if name is Section.FINDINGS else self.impression


@dataclass(frozen=True, slots=True)
class Hint:
    """A finding below the reporting threshold that deserves a look.

    Attributes:
        finding: CheXpert-14 name or lexicon id.
        sentence: how a report of the pool words it.
    """

    finding: str
    probability: float
    sentence: DraftSentence


class Status(StrEnum):
    """Status of a prediction."""

    RUNNING = "running"
    OK = "ok"
    ABSTAINED = "abstained"
    FAILED = "failed"


NOTICE = "AI draft, not for clinical use"
"""Shown on every screen and in every export."""
