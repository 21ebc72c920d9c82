"""The scored studies in one order, the drafts of a run for them, and the leak gate.

A study whose reference lacks the scored section is excluded and counted; a study
without a draft stays in with an empty one, counted by its reason.

No scored study may have been seen by the system. Overlapping studies or patients stop the run.
Equal texts do not (reports repeat word for word), but they are counted, and every table is given
with them and without.
"""

import hashlib
import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from encoders.report_sections import normalize_text
from eval.errors import EvalDataError, EvalLeakError, EvalUsageError, Problems, listed
from eval.studies import (
    Pair,
    PredictedStudy,
    References,
    ReferenceStudy,
    Scope,
    read_predictions,
)
from rag.report_nlp.labeller import NO_FINDING, label_text
from rag.schema import Status


@dataclass(frozen=True, slots=True)
class StudySet:
    """What every run is scored against.

    Attributes:
        studies: by study id, sorted.
        without_section: how many studies of the file lack the scored section.
        has_patients: whether patients are known; if not, each study counts as its own patient.
    """

    scope: Scope
    studies: tuple[ReferenceStudy, ...]
    without_section: int
    has_patients: bool

    def __len__(self) -> int:
        return len(self.studies)

    @property
    def texts(self) -> tuple[str, ...]:
        """The scored text of each reference."""
        return tuple(study.text(self.scope) for study in self.studies)

    @property
    def patients(self) -> tuple[str, ...]:
        """Patient of each study."""
        return tuple(study.patient for study in self.studies)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over scope, ids and scored texts: equal only for equal study sets."""
        facts = [[s.study_id, s.patient, s.text(self.scope)] for s in self.studies]
        return hashlib.sha256(json.dumps([self.scope, facts]).encode()).hexdigest()

    def normal(self) -> tuple[bool, ...]:
        """Whether each reference is normal: the labeller's "No Finding"."""
        whole = (study.text(Scope.REPORT) for study in self.studies)
        return tuple(NO_FINDING in label_text(text) for text in whole)


@dataclass(frozen=True, slots=True)
class Run:
    """A system's drafts, one for each study of the set.

    Attributes:
        pairs: in the order of the study set.
        missing: studies without a draft, by reason.
        confidence: of each study; None unless every study with a draft has one.
        made_by: models, prompts and indexes that the file names, each with all its values.
    """

    name: str
    pairs: tuple[Pair, ...]
    missing: dict[str, int] = field(default_factory=dict)
    confidence: tuple[float, ...] | None = None
    made_by: dict[str, list[str]] = field(default_factory=dict)


def make_study_set(references: References, scope: Scope) -> StudySet:
    """The studies of a file that have the section.

    Raises:
        EvalUsageError: none has it.
    """
    having = [s for s in references.studies.values() if s.text(scope)]
    if not having:
        raise EvalUsageError(f"{references.path} has no {scope} in any study: choose another scope")
    return StudySet(
        scope=scope,
        studies=tuple(sorted(having, key=lambda study: study.study_id)),
        without_section=len(references.studies) - len(having),
        has_patients=references.has_patients,
    )


def make_run(name: str, path: Path, *, study_set: StudySet, references: References) -> Run:
    """Match the predictions of a file with the study set.

    Raises:
        EvalDataError: the file cannot be read, or holds a study that the references do not.
        EvalUsageError: no prediction has the scored section.
    """
    predictions = read_predictions(path)
    problems = Problems(path)
    for each in predictions.values():
        if each.study_id not in references.studies:
            split = references.elsewhere.get(each.study_id)
            known = "is unknown to the references" if split is None else f"is in split {split!r}"
            problems.add(each.where, f"the study {each.study_id} {known}")
    problems.raise_if_any()
    scope = study_set.scope
    absent = PredictedStudy(study_id="absent", status=Status.FAILED)
    found = [predictions.get(study.study_id, absent) for study in study_set.studies]
    if not any(study.text(scope) for study in found):
        if any(study.text(Scope.REPORT) for study in found):
            raise EvalUsageError(f"no prediction has its {scope} apart: score the whole report")
        raise EvalDataError("no study of the set has a draft: nothing to score")
    missing: Counter[str] = Counter()
    made_by: defaultdict[str, set[str]] = defaultdict(set)
    pairs, confidence = [], []
    for study, text, each in zip(study_set.studies, study_set.texts, found, strict=True):
        draft = each.text(scope)
        pairs.append(Pair(study.study_id, text, draft, each.sentences(scope), each.evidence))
        if each is absent:
            missing["not in the file"] += 1
        elif not draft:
            missing[f"no {scope}" if each.status is Status.OK else each.status.value] += 1
        if each.confidence is not None:
            confidence.append(each.confidence)
        elif not draft:  # is the least sure, unless it says otherwise
            confidence.append(float("-inf"))
        for key, value in each.made_by.items():
            made_by[key].add(value)
    return Run(
        name=name,
        pairs=tuple(pairs),
        missing=dict(missing),
        confidence=tuple(confidence) if len(confidence) == len(pairs) else None,
        made_by={key: sorted(values) for key, values in sorted(made_by.items())},
    )


@dataclass(frozen=True, slots=True)
class LeakCheck:
    """What the gate let pass.

    Attributes:
        seen_text: whether each study's reference text is, word for word, a text of the training
            data; empty if none was named.
        notes: what was not checked, in sentences.
    """

    seen_text: tuple[bool, ...]
    notes: tuple[str, ...]


def check_leaks(study_set: StudySet, *, train: References | None, run: Run) -> LeakCheck:
    """Compare the study set with the training data, and with the evidence the run names.

    Raises:
        EvalLeakError: names overlapping studies or patients.
    """
    scored = {study.study_id for study in study_set.studies}
    leaks = [
        f"study {pair.study_id} was drafted from the report of {report.report_id}"
        for pair in run.pairs
        for report in pair.evidence
        if report.report_id in scored
    ]
    if leaks:
        raise EvalLeakError(
            f"the evidence of {run.name} holds reports of studies that are scored:\n"
            f"{listed(leaks)}\nTake them out of the report collection and draft again"
        )
    if train is None:
        note = "no training data was named (--train): overlap with it is not checked"
        return LeakCheck((), (note,))
    shared = {"studies": scored & train.studies.keys()}
    notes: tuple[str, ...] = ()
    if study_set.has_patients and train.has_patients:
        theirs = {study.patient for study in train.studies.values()}
        shared["patients"] = theirs.intersection(study_set.patients)
    else:
        notes = ("the files do not both name patients: overlap of patients is not checked",)
    for what, names in shared.items():
        if names:
            raise EvalLeakError(
                f"{len(names)} {what} are scored and in the training data {train.path} too:\n"
                f"{listed(sorted(names))}\nTake them out of one of the two"
            )
    known = {normalize_text(study.text(study_set.scope)) for study in train.studies.values()}
    return LeakCheck(tuple(normalize_text(text) in known for text in study_set.texts), notes)
