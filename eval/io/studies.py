"""A study as the reference has it, as a system predicted it, and the pair that is scored."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from rag.schema import DraftSentence, Section, Status


class Scope(StrEnum):
    """The part of the report that is scored."""

    REPORT = "report"
    """Findings and impression as one text, or the report as it stands where it has no sections."""
    FINDINGS = "findings"
    IMPRESSION = "impression"


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of one report; a missing section is empty."""

    findings: str = ""
    impression: str = ""
    report: str = ""
    """The whole report, where it was given without sections."""

    def of(self, scope: Scope) -> str:
        """The part that is scored, empty if it is missing."""
        if scope is Scope.FINDINGS:
            return self.findings
        if scope is Scope.IMPRESSION:
            return self.impression
        return self.report or "\n".join(part for part in (self.findings, self.impression) if part)


@dataclass(frozen=True, slots=True)
class ReferenceStudy:
    """One study as its radiologist reported it.

    Attributes:
        patient_id: equals the study id where the file names no patients.
        split: "train", "val", ... where the file says so.
    """

    study_id: str
    patient_id: str
    texts: Texts
    split: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One report the draft was made from."""

    report_id: str
    text: str


@dataclass(frozen=True, slots=True)
class PredictedStudy:
    """One study as a system reported it, or why there is no report.

    Attributes:
        sections: their sentences, where the system cites its evidence.
        evidence: nearest first.
        confidence: higher is more certain; None where unknown.
        made_by: models, prompt and index, as far as the file names them.
        where: place in its file, for messages.
    """

    study_id: str
    status: Status
    texts: Texts
    sections: Mapping[Section, tuple[DraftSentence, ...]] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()
    confidence: float | None = None
    made_by: tuple[tuple[str, str], ...] = ()
    where: str = ""

    def sentences(self, scope: Scope) -> tuple[DraftSentence, ...]:
        """Cited sentences of the part that is scored."""
        wanted = [each for each in Section if scope in (Scope.REPORT, each.value)]
        return tuple(s for section in wanted for s in self.sections.get(section, ()))


@dataclass(frozen=True, slots=True)
class Pair:
    """What a measure sees of one study: the reference and a draft, which may be missing (empty)."""

    study_id: str
    reference: str
    draft: str
    sentences: tuple[DraftSentence, ...] = ()
    evidence: tuple[Evidence, ...] = ()
