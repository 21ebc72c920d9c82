"""Reads reference reports: Open-I's studies.jsonl, your own CSV or JSONL, ReXrank's JSON.

Keys that are understood: the study as study_id or id; the patient as patient_id or subject_id; the
text as findings and impression, section_findings and section_impression, or report; and split.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.errors import EvalDataError, EvalUsageError, listed
from eval.io.fields import FieldError, identifier, text
from eval.io.files import FileEntry, parse_entries
from eval.io.studies import ReferenceStudy, Texts

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
    found = parse_entries(path, _study, key=lambda pair: pair[0].study_id, what="study")
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


def _study(entry: FileEntry) -> tuple[ReferenceStudy, bool]:
    values = entry.values
    study_id = identifier(values, "study_id", "id") or entry.key
    if not study_id:
        raise FieldError("has no study_id (or id)")
    patient_id = identifier(values, "patient_id", "subject_id")
    if values.keys() >= _OPEN_I:
        patient_id = study_id  # in Open-I each study is another patient (see `rag.corpus.openi`)
    study = ReferenceStudy(
        study_id=study_id,
        patient_id=patient_id or study_id,
        texts=_texts(values),
        split=identifier(values, "split"),
    )
    return study, bool(patient_id)


def _texts(values: dict[str, Any]) -> Texts:
    names = (
        ("findings", "section_findings"),
        ("impression", "section_impression"),
    )
    if not {name for pair in names for name in pair} & values.keys() and "report" not in values:
        raise FieldError("has no findings, impression or report")
    findings, impression = (
        next(filter(None, (text(values, n) for n in pair)), "") for pair in names
    )
    report = "" if findings or impression else text(values, "report")
    return Texts(findings, impression, report)
