"""A study as its reference has it, as a system predicted it, and the files that hold them.

References: Open-I's studies.jsonl, your own CSV or JSONL, ReXrank's JSON. Understood are the study
as study_id or id; the patient as patient_id or subject_id; the text as findings and impression,
section_findings and section_impression, or report; and split.

Predictions: our predictions.jsonl, any JSONL with a report, ReXrank's JSON. A line needs study_id
and a text: ``report`` (or ReXrank's ``model_prediction``) as one text, or ``findings`` and
``impression`` as texts or as lists of cited sentences. A study the system failed at or abstained
from says so in ``status``, or is left out.
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

from eval.entries import Entry, Identifier, Text, named, parse_entries
from eval.errors import EvalDataError, EvalUsageError, listed
from rag.schema import DraftSentence, Section, Status

MAX_WORDS = 2_000
"""Far longer than any chest X-ray report: a longer draft is a generation gone wrong."""


class Scope(StrEnum):
    """The part of the report that is scored."""

    REPORT = "report"
    """Findings and impression as one text, or the report as it stands where it has no sections."""
    FINDINGS = "findings"
    IMPRESSION = "impression"


class _Study(Entry):
    study_id: Identifier = named("study_id", "id", needed=True)
    report: Text = ""

    @property
    def key(self) -> str:
        return self.study_id

    def text(self, scope: Scope) -> str:
        """The part that is scored, empty if it is missing."""
        parts = [part for part in map(self._section, Section) if part]
        if scope is Scope.REPORT:
            return "\n".join(parts) or self.report
        return self._section(Section(scope))

    def _section(self, section: Section) -> str:
        given: str | tuple[DraftSentence, ...] = getattr(self, section)
        return given if isinstance(given, str) else " ".join(each.text for each in given)

    @model_validator(mode="after")
    def _has_a_length(self) -> "_Study":
        words = len(self.text(Scope.REPORT).split())
        if words > MAX_WORDS:
            raise ValueError(f"has {words} words: more than {MAX_WORDS} is too long for a report")
        return self


class ReferenceStudy(_Study):
    """One study as its radiologist reported it.

    Attributes:
        patient_id: empty where the file names no patients.
        split: "train", "val", ... where the file says so.
    """

    patient_id: Identifier = named("patient_id", "subject_id")
    findings: Text = named("findings", "section_findings")
    impression: Text = named("impression", "section_impression")
    split: Identifier = ""

    @property
    def patient(self) -> str:
        """Whose it is; where the file names no patients, each study is another's."""
        return self.patient_id or self.study_id

    @model_validator(mode="before")
    @classmethod
    def _open_i(cls, values: dict[str, Any]) -> dict[str, Any]:
        if values.keys() >= {"id", "frontal", "lateral", "labels", "split"}:
            # in Open-I each study is another patient (see `rag.corpus.openi`)
            return values | {"patient_id": values["id"]}
        return values

    @model_validator(mode="after")
    def _has_a_text(self) -> "ReferenceStudy":
        if not {"findings", "impression", "report"} & self.model_fields_set:
            raise ValueError("has no findings, impression or report")
        return self


@dataclass(frozen=True, slots=True)
class Evidence:
    """One report the draft was made from."""

    report_id: Annotated[Identifier, Field(min_length=1)]
    text: Text = ""


def _cited(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict) or not _text_of(item.get("text")):
        raise ValueError("is no sentence {...} with a text")
    return {"text": _text_of(item["text"]), "sources": item.get("sources", ())}


_text_of = TypeAdapter(Text).validate_python
_HEADING = re.compile(r"(?:^|(?<=[\s.]))(findings|impression)\s*:", re.IGNORECASE)
_MADE_BY = ("llm", "prompt", "prompt_hash", "encoder_id", "index_id", "model")
_Sentences = tuple[Annotated[DraftSentence, BeforeValidator(_cited)], ...]
_Section = Annotated[
    Annotated[Text, Tag("text")] | Annotated[_Sentences, Tag("sentences")],
    Discriminator(lambda value: "sentences" if isinstance(value, list) else "text"),
]


class PredictedStudy(_Study):
    """One study as a system reported it, or why there is no report.

    Attributes:
        findings, impression: cited sentences, where the system cites its evidence.
        evidence: nearest first.
        confidence: higher is more certain; None where unknown.
        labels: probability of each label by the image, as far as the file has them.
        made_by: models, prompt and index, as far as the file names them.
    """

    status: Literal[Status.OK, Status.ABSTAINED, Status.FAILED] = Status.OK
    findings: _Section = ""
    impression: _Section = ""
    evidence: tuple[Evidence, ...] = ()
    confidence: FiniteFloat | None = None
    labels: dict[str, float] = Field(default_factory=dict)
    made_by: dict[str, str] = Field(default_factory=dict)

    def sentences(self, scope: Scope) -> tuple[DraftSentence, ...]:
        """Cited sentences of the part that is scored."""
        parts = [getattr(self, each) for each in Section if scope in (Scope.REPORT, each.value)]
        return tuple(s for part in parts if not isinstance(part, str) for s in part)

    @model_validator(mode="before")
    @classmethod
    def _in_our_words(cls, given: dict[str, Any]) -> dict[str, Any]:
        values = {name: value for name, value in given.items() if value is not None}
        is_rexrank = "model_prediction" in given
        report = values.get("model_prediction" if is_rexrank else "report")
        if values.get("status", Status.OK) != Status.OK or is_rexrank:
            # no draft, or ReXrank's: the sections beside it are the reference's
            values = {k: v for k, v in values.items() if k not in ("report", *Section)}
        if values.get("status", Status.OK) == Status.OK and not any(map(values.get, Section)):
            values |= _in_sections(report) if isinstance(report, str) else {"report": report}
        labels = values.get("labels")  # ours; what others call labels is something else
        probabilities = labels.items() if isinstance(labels, dict) else ()
        values["labels"] = {k: v for k, v in probabilities if isinstance(v, int | float)}
        made_by = {name: values.get(name) for name in _MADE_BY}
        values["made_by"] = {k: v for k, v in made_by.items() if v and isinstance(v, str)}
        return values

    @model_validator(mode="after")
    def _has_a_draft(self) -> "PredictedStudy":
        if self.status is Status.OK and not self.text(Scope.REPORT):
            raise ValueError(
                "the draft is empty: leave the study out, or give it the status 'failed' or "
                "'abstained'"
            )
        return self


def _in_sections(report: str) -> dict[str, str]:
    """A report in one text; in sections, if it is written as "Findings: ... Impression: ..."."""
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
    """What a measure sees of one study: the reference and a draft, which may be missing (empty)."""

    study_id: str
    reference: str
    draft: str
    sentences: tuple[DraftSentence, ...] = ()
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class References:
    """A file of reference reports.

    Attributes:
        path: where they came from.
        studies: by study id, those of the split that was asked for.
        elsewhere: split of every study that was left out for its split.
        has_patients: whether the file names patients.
    """

    path: Path
    studies: dict[str, ReferenceStudy]
    elsewhere: dict[str, str]
    has_patients: bool


def read_references(path: Path, *, split: str = "") -> References:
    """All studies of a file, or those of one split.

    Raises:
        EvalUsageError: no such file, or no study of that split in it.
        EvalDataError: names every line that is wrong.
    """
    studies = parse_entries(path, ReferenceStudy)
    if not studies:
        raise EvalDataError(f"{path} holds no study")
    named = sum(bool(study.patient_id) for study in studies.values())
    if 0 < named < len(studies):
        raise EvalDataError(f"{path} names a patient in {named} of {len(studies)} studies only")
    elsewhere = {name: s.split for name, s in studies.items() if split and s.split != split}
    kept = {name: study for name, study in studies.items() if name not in elsewhere}
    if not kept:
        there = Counter(elsewhere.values())
        splits = listed([f"{name or '(none)'}: {count}" for name, count in there.most_common()])
        raise EvalUsageError(f"{path} has no study of split {split!r}; it has\n{splits}")
    return References(path, kept, elsewhere, has_patients=named > 0)


def read_predictions(path: Path) -> dict[str, PredictedStudy]:
    """What the file says of each study, by study id.

    Raises:
        EvalUsageError: no such file.
        EvalDataError: names every line that is wrong.
    """
    studies = parse_entries(path, PredictedStudy)
    if not studies:
        raise EvalDataError(f"{path} holds no prediction")
    return studies
