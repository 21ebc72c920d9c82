"""Reads reference reports: Open-I's studies.jsonl, your own CSV or JSONL, ReXrank's JSON.

Keys that are understood: the study as study_id or id; the patient as patient_id or subject_id; the
text as findings and impression, section_findings and section_impression, or report; and split.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from eval.errors import EvalDataError, EvalUsageError, listed
from eval.io.entries import Entry, FieldError, parse_entries
from eval.io.studies import ReferenceStudy, Texts

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


def _study(entry: Entry) -> tuple[ReferenceStudy, bool]:
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
