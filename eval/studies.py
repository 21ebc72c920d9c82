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
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from eval.entries import Entry, FieldError, checked_length, parse_entries
from eval.errors import EvalDataError, EvalUsageError, listed
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
        labels: probability of each label by the image, as far as the file has them.
        made_by: models, prompt and index, as far as the file names them.
        where: place in its file, for messages.
    """

    study_id: str
    status: Status
    texts: Texts
    sections: Mapping[Section, tuple[DraftSentence, ...]] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()
    confidence: float | None = None
    labels: Mapping[str, float] = field(default_factory=dict)
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


_TEXTS = {"findings", "section_findings", "impression", "section_impression", "report"}
_OPEN_I = {"id", "frontal", "lateral", "labels", "split"}
"""Keys that every line of the Open-I layout has."""


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
    found = parse_entries(path, _reference, key=lambda pair: pair[0].study_id, what="study")
    studies = {name: study for name, (study, _) in found.items()}
    named = sum(has_patient for _, has_patient in found.values())
    if not studies:
        raise EvalDataError(f"{path} holds no study")
    if 0 < named < len(studies):
        raise EvalDataError(f"{path} names a patient in {named} of {len(studies)} studies only")
    elsewhere = {name: s.split for name, s in studies.items() if split and s.split != split}
    kept = {name: study for name, study in studies.items() if name not in elsewhere}
    if not kept:
        there = Counter(elsewhere.values())
        splits = listed([f"{name or '(none)'}: {count}" for name, count in there.most_common()])
        raise EvalUsageError(f"{path} has no study of split {split!r}; it has\n{splits}")
    return References(path, kept, elsewhere, has_patients=named > 0)


def _reference(entry: Entry) -> tuple[ReferenceStudy, bool]:
    """A study, and whether its patient is named."""
    study_id = entry.identifier("study_id", "id") or entry.key
    if not study_id:
        raise FieldError("has no study_id (or id)")
    patient_id = entry.identifier("patient_id", "subject_id")
    if entry.values.keys() >= _OPEN_I:
        patient_id = study_id  # in Open-I each study is another patient (see `rag.corpus.openi`)
    if not _TEXTS & entry.values.keys():
        raise FieldError("has no findings, impression or report")
    findings, impression = (
        entry.text(name) or entry.text(f"section_{name}") for name in ("findings", "impression")
    )
    report = "" if findings or impression else entry.text("report")
    texts = Texts(findings, impression, report)
    split = entry.identifier("split")
    return ReferenceStudy(study_id, patient_id or study_id, texts, split), bool(patient_id)


_MADE_BY = ("llm", "prompt", "prompt_hash", "encoder_id", "index_id", "model")
_Sentences = tuple[DraftSentence, ...]
_HEADING = re.compile(r"(?:^|(?<=[\s.]))(findings|impression)\s*:", re.IGNORECASE)


def read_predictions(path: Path) -> dict[str, PredictedStudy]:
    """What the file says of each study, by study id.

    Raises:
        EvalUsageError: no such file.
        EvalDataError: names every line that is wrong.
    """
    studies = parse_entries(path, _prediction, key=lambda study: study.study_id, what="study")
    if not studies:
        raise EvalDataError(f"{path} holds no prediction")
    return studies


def _prediction(entry: Entry) -> PredictedStudy:
    study_id = entry.identifier("study_id", "id") or entry.key
    if not study_id:
        raise FieldError("has no study_id")
    status = entry.values.get("status", Status.OK.value)
    known = [each.value for each in Status if each is not Status.RUNNING]
    if status not in known:
        raise FieldError(f"status is {status!r}, not one of {', '.join(known)}")
    texts = Texts()
    sections: dict[Section, _Sentences] = {}
    if status == Status.OK:
        texts, sections = _draft(entry)
        if not texts.of(Scope.REPORT):
            raise FieldError(
                "the draft is empty: leave the study out, or give it the status 'failed' or "
                "'abstained'"
            )
    made_by = [(name, entry.values.get(name)) for name in _MADE_BY]
    return PredictedStudy(
        study_id=study_id,
        status=Status(status),
        texts=texts,
        sections=sections,
        evidence=_evidence(entry.values.get("evidence")),
        confidence=entry.number("confidence"),
        labels=_probabilities(entry.values.get("labels")),
        made_by=tuple((name, value) for name, value in made_by if value and isinstance(value, str)),
        where=entry.where,
    )


def _draft(entry: Entry) -> tuple[Texts, dict[Section, _Sentences]]:
    if "model_prediction" in entry.values:  # ReXrank: the sections beside it are the reference's
        return _whole(entry.text("model_prediction")), {}
    texts, sentences = {}, {}
    for section in Section:
        texts[section.value], sentences[section] = _section(entry, section.value)
    if any(texts.values()):
        return Texts(**texts), sentences
    return _whole(entry.text("report")), sentences


def _section(entry: Entry, name: str) -> tuple[str, _Sentences]:
    given = entry.values.get(name)
    if not isinstance(given, list):
        return entry.text(name), ()
    sentences = tuple(_sentence(item, name) for item in given)
    return checked_length(" ".join(sentence.text for sentence in sentences), name), sentences


def _sentence(item: Any, name: str) -> DraftSentence:
    if not isinstance(item, dict):
        raise FieldError(f"{name} holds a {type(item).__name__}, not a sentence {{...}}")
    sources = item.get("sources", [])
    if not isinstance(sources, list) or not all(isinstance(source, str) for source in sources):
        raise FieldError(f"{name} has sources that are not a list of report ids")
    said = Entry(item).text("text")
    if not said:
        raise FieldError(f"{name} holds an empty sentence")
    return DraftSentence(said, tuple(sources))


def _evidence(given: Any) -> tuple[Evidence, ...]:
    if given is None:
        return ()
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise FieldError("evidence is not a list of reports {...}")
    entries = map(Entry, given)
    reports = tuple(Evidence(each.identifier("report_id"), each.text("text")) for each in entries)
    if not all(report.report_id for report in reports):
        raise FieldError("evidence holds a report without report_id")
    return reports


def _probabilities(given: Any) -> dict[str, float]:
    """Ours; what others call labels is something else."""
    if not isinstance(given, dict):
        return {}
    return {name: float(value) for name, value in given.items() if isinstance(value, int | float)}


def _whole(report: str) -> Texts:
    """A report in one text; in sections, if it is written as "Findings: ... Impression: ..."."""
    headings = list(_HEADING.finditer(report))
    if not headings or report[: headings[0].start()].strip():
        return Texts(report=report)
    ends = [heading.start() for heading in headings[1:]] + [len(report)]
    parts = {"findings": "", "impression": ""}
    for heading, end in zip(headings, ends, strict=True):
        name = heading.group(1).lower()
        parts[name] = f"{parts[name]} {report[heading.end() : end].strip()}".strip()
    return Texts(**parts)
