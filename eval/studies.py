"""Files of reference and predicted reports, and the studies in them.

References: Open-I's studies.jsonl, your own CSV or JSONL, ReXrank's JSON. Columns: study_id or id;
patient_id or subject_id; findings and impression, section_findings and section_impression, or
report; split.

Predictions: our predictions.jsonl, any JSONL with a report, ReXrank's JSON. A line needs study_id
and a text: ``report`` (or ReXrank's ``model_prediction``) as one text, or ``findings`` and
``impression`` as texts or as lists of cited sentences. A study that failed or abstained says so in
``status``, or is left out.
"""

import re
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    FiniteFloat,
    Tag,
    TypeAdapter,
    model_validator,
)

from eval.entries import Entry, Identifier, Text, column, parse_entries
from eval.errors import EvalDataError, EvalUsageError, bullet_list
from rag.schema import DraftSentence, Section, Status

MAX_WORDS = 2_000
"""Far longer than any chest X-ray report: a longer draft is a failed generation."""


class Scope(StrEnum):
    """The part of the report that is scored."""

    REPORT = "report"
    """Findings and impression as one text, or the whole report if it has no sections."""
    FINDINGS = "findings"
    IMPRESSION = "impression"


class _Study(Entry):
    study_id: Identifier = column("study_id", "id", required=True)
    report: Text = ""

    @property
    def key(self) -> str:
        return self.study_id

    def text(self, scope: Scope) -> str:
        """The scored part, empty if it is missing."""
        parts = [part for part in map(self._section, Section) if part]
        if scope is Scope.REPORT:
            return "\n".join(parts) or self.report
        return self._section(Section(scope))

    def _section(self, section: Section) -> str:
        content: str | tuple[DraftSentence, ...] = getattr(self, section)
        return content if isinstance(content, str) else " ".join(s.text for s in content)

    @model_validator(mode="after")
    def _check_length(self) -> "_Study":
        words = len(self.text(Scope.REPORT).split())
        if words > MAX_WORDS:
            raise ValueError(f"has {words} words: more than {MAX_WORDS} is too long for a report")
        return self


class ReferenceStudy(_Study):
    """One study as its radiologist reported it; ``patient_id`` and ``split`` may be empty."""

    patient_id: Identifier = column("patient_id", "subject_id")
    findings: Text = column("findings", "section_findings")
    impression: Text = column("impression", "section_impression")
    split: Identifier = ""

    @property
    def patient(self) -> str:
        """The patient; if the file names none, each study counts as its own patient."""
        return self.patient_id or self.study_id

    @model_validator(mode="before")
    @classmethod
    def _add_open_i_patient(cls, values: dict[str, Any]) -> dict[str, Any]:
        if values.keys() >= {"id", "frontal", "lateral", "labels", "split"}:
            # in Open-I each study is another patient (see `rag.corpus.openi`)
            return values | {"patient_id": values["id"]}
        return values

    @model_validator(mode="after")
    def _check_text(self) -> "ReferenceStudy":
        if not {"findings", "impression", "report"} & self.model_fields_set:
            raise ValueError("has no findings, impression or report")
        return self


@dataclass(frozen=True, slots=True)
class Evidence:
    """One report the draft was made from."""

    report_id: Annotated[Identifier, Field(min_length=1)]
    text: Text = ""


def _check_sentence(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict) or not _parse_text(item.get("text")):
        raise ValueError("is not a sentence {...} with a text")
    return {"text": _parse_text(item["text"]), "sources": item.get("sources", ())}


_parse_text = TypeAdapter(Text).validate_python
_HEADING = re.compile(r"(?:^|(?<=[\s.]))(findings|impression)\s*:", re.IGNORECASE)
_MADE_BY = ("llm", "prompt", "prompt_hash", "encoder_id", "index_id", "model")
_Sentences = tuple[Annotated[DraftSentence, BeforeValidator(_check_sentence)], ...]
_Section = Annotated[
    Annotated[Text, Tag("text")] | Annotated[_Sentences, Tag("sentences")],
    Discriminator(lambda value: "sentences" if isinstance(value, list) else "text"),
]


class PredictedStudy(_Study):
    """One study as a system reported it, or why there is no report.

    Attributes:
        findings, impression: cited sentences, if the system cites its evidence.
        evidence: nearest first.
        confidence: higher is more certain; None if unknown.
        labels: predicted probability of each label of the image.
        made_by: models, prompt and index that the file names.
    """

    status: Literal[Status.OK, Status.ABSTAINED, Status.FAILED] = Status.OK
    findings: _Section = ""
    impression: _Section = ""
    evidence: tuple[Evidence, ...] = ()
    confidence: FiniteFloat | None = None
    labels: dict[str, float] = Field(default_factory=dict)
    made_by: dict[str, str] = Field(default_factory=dict)

    def sentences(self, scope: Scope) -> tuple[DraftSentence, ...]:
        """Cited sentences of the scored part."""
        parts = [getattr(self, name) for name in Section if scope in (Scope.REPORT, name.value)]
        return tuple(s for part in parts if not isinstance(part, str) for s in part)

    @model_validator(mode="before")
    @classmethod
    def _normalise(cls, row: dict[str, Any]) -> dict[str, Any]:
        values = {name: value for name, value in row.items() if value is not None}
        is_rexrank = "model_prediction" in row
        report = values.get("model_prediction" if is_rexrank else "report")
        if values.get("status", Status.OK) != Status.OK or is_rexrank:
            # no draft, or ReXrank's: the sections beside it are the reference's
            values = {k: v for k, v in values.items() if k not in ("report", *Section)}
        if values.get("status", Status.OK) == Status.OK and not any(map(values.get, Section)):
            values |= _split_sections(report) if isinstance(report, str) else {"report": report}
        labels = values.get("labels")  # not ours unless it maps names to numbers
        probabilities = labels.items() if isinstance(labels, dict) else ()
        values["labels"] = {k: v for k, v in probabilities if isinstance(v, int | float)}
        made_by = {name: values.get(name) for name in _MADE_BY}
        values["made_by"] = {k: v for k, v in made_by.items() if v and isinstance(v, str)}
        return values

    @model_validator(mode="after")
    def _check_draft(self) -> "PredictedStudy":
        if self.status is Status.OK and not self.text(Scope.REPORT):
            raise ValueError(
                "the draft is empty: leave the study out, or give it the status 'failed' or "
                "'abstained'"
            )
        return self


def _split_sections(report: str) -> dict[str, str]:
    """Sections of a report written as "Findings: ... Impression: ...", else the report."""
    headings = list(_HEADING.finditer(report))
    if not headings or report[: headings[0].start()].strip():
        return {"report": report}
    ends = [heading.start() for heading in headings[1:]] + [len(report)]
    parts: dict[str, str] = {}
    for heading, end in zip(headings, ends, strict=True):
        name = heading.group(1).lower()
        parts[name] = f"{parts.get(name, '')} {report[heading.end() : end].strip()}".strip()
    return parts


@dataclass(frozen=True, slots=True)
class Pair:
    """What a metric sees of one study: its reference and its draft (empty if missing)."""

    study_id: str
    reference: str
    draft: str
    sentences: tuple[DraftSentence, ...] = ()
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class References:
    """A file of reference reports.

    Attributes:
        studies: by study id, only those of the requested split.
        other_splits: split of every other study, by study id.
    """

    path: Path
    studies: dict[str, ReferenceStudy]
    other_splits: dict[str, str]

    @property
    def has_patients(self) -> bool:
        """Whether the file names patients: all or none."""
        return all(study.patient_id for study in self.studies.values())


def read_references(path: Path, *, split: str = "") -> References:
    """All studies of a file, or those of one split.

    Raises:
        EvalUsageError: no such file, or no study of that split in it.
        EvalDataError: names every invalid line.
    """
    studies = parse_entries(path, ReferenceStudy)
    if not studies:
        raise EvalDataError(f"{path} holds no study")
    with_patient = sum(bool(study.patient_id) for study in studies.values())
    if 0 < with_patient < len(studies):
        raise EvalDataError(
            f"{path} names a patient in {with_patient} of {len(studies)} studies only"
        )
    other_splits = {name: s.split for name, s in studies.items() if split and s.split != split}
    kept = {name: study for name, study in studies.items() if name not in other_splits}
    if not kept:
        counts = Counter(other_splits.values()).most_common()
        splits = bullet_list([f"{name or '(none)'}: {count}" for name, count in counts])
        raise EvalUsageError(f"{path} has no study of split {split!r}; it has\n{splits}")
    return References(path, kept, other_splits)


def read_predictions(path: Path) -> dict[str, PredictedStudy]:
    """Predictions of a file, by study id.

    Raises:
        EvalUsageError: no such file.
        EvalDataError: names every invalid line.
    """
    studies = parse_entries(path, PredictedStudy)
    if not studies:
        raise EvalDataError(f"{path} holds no prediction")
    return studies
