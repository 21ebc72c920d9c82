"""The scored studies, the drafts of a run for them, and the leak check.

A study whose reference lacks the scored section is excluded and counted; a study without a draft
stays in with an empty one and is counted by reason.

The system must not have seen a scored study: overlapping studies or patients stop the run. Equal
texts do not (reports repeat word for word), but are counted, and every table is given with and
without them.
"""

import hashlib
import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from encoders.report_sections import normalize_text
from eval.errors import EvalDataError, EvalLeakError, EvalUsageError, Problems, bullet_list
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
        studies: sorted by study id.
        normal: whether the labeller reads "No Finding" in each reference.
        without_section: how many studies of the file lack the scored section.
    """

    scope: Scope
    studies: tuple[ReferenceStudy, ...]
    normal: tuple[bool, ...]
    without_section: int

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
    def has_patients(self) -> bool:
        """Whether the file names patients; if not, each study counts as its own patient."""
        return all(study.patient_id for study in self.studies)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over scope, ids and scored texts: equal only for equal study sets."""
        facts = [[s.study_id, s.patient, s.text(self.scope)] for s in self.studies]
        return hashlib.sha256(json.dumps([self.scope, facts]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Run:
    """A system's drafts, one for each study of the set.

    Attributes:
        pairs: in the order of the study set.
        missing: studies without a draft, by reason.
        confidence: of each study; None unless every study with a draft has one.
        made_by: every model, prompt and index that the file names.
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
    studies = [study for _, study in sorted(references.studies.items()) if study.text(scope)]
    if not studies:
        raise EvalUsageError(f"{references.path} has no {scope} in any study: choose another scope")
    return StudySet(
        scope=scope,
        studies=tuple(studies),
        normal=tuple(NO_FINDING in label_text(study.text(Scope.REPORT)) for study in studies),
        without_section=len(references.studies) - len(studies),
    )


def make_run(name: str, path: Path, *, study_set: StudySet, references: References) -> Run:
    """Match the predictions of a file with the study set.

    Raises:
        EvalDataError: the file cannot be read, or has a study that the references lack.
        EvalUsageError: no prediction has the scored section.
    """
    predictions = read_predictions(path)
    problems = Problems(path)
    for prediction in predictions.values():
        if prediction.study_id not in references.studies:
            split = references.other_splits.get(prediction.study_id)
            reason = "is not in the references" if split is None else f"is in split {split!r}"
            problems.add(prediction.where, f"the study {prediction.study_id} {reason}")
    problems.raise_if_any()
    scope = study_set.scope
    absent = PredictedStudy(study_id="absent", status=Status.FAILED)
    matched = [predictions.get(study.study_id, absent) for study in study_set.studies]
    if not any(prediction.text(scope) for prediction in matched):
        if any(prediction.text(Scope.REPORT) for prediction in matched):
            raise EvalUsageError(
                f"no prediction has a separate {scope} section: score the whole report"
            )
        raise EvalDataError("no study of the set has a draft: nothing to score")
    missing: Counter[str] = Counter()
    made_by: defaultdict[str, set[str]] = defaultdict(set)
    pairs, confidence = [], []
    for study, prediction in zip(study_set.studies, matched, strict=True):
        draft, sentences = prediction.text(scope), prediction.sentences(scope)
        reference = study.text(scope)
        pairs.append(Pair(study.study_id, reference, draft, sentences, prediction.evidence))
        if prediction is absent:
            missing["not in the file"] += 1
        elif not draft:
            status = prediction.status
            missing[f"no {scope}" if status is Status.OK else status.value] += 1
        if prediction.confidence is not None:
            confidence.append(prediction.confidence)
        elif not draft:  # least confident, unless the file says otherwise
            confidence.append(float("-inf"))
        for key, value in prediction.made_by.items():
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
    """Overlap that does not stop the run.

    Attributes:
        text_in_train: whether each reference text is also, word for word, a training text; empty
            without training data.
        notes: what was not checked.
    """

    text_in_train: tuple[bool, ...]
    notes: tuple[str, ...]


def check_leaks(study_set: StudySet, *, train: References | None, run: Run) -> LeakCheck:
    """Compare the study set with the training data and with the run's evidence.

    Raises:
        EvalLeakError: names overlapping studies or patients.
    """
    scored_ids = {study.study_id for study in study_set.studies}
    leaks = [
        f"study {pair.study_id} was drafted from the report of {report.report_id}"
        for pair in run.pairs
        for report in pair.evidence
        if report.report_id in scored_ids
    ]
    if leaks:
        raise EvalLeakError(
            f"the evidence of {run.name} contains reports of scored studies:\n"
            f"{bullet_list(leaks)}\nRemove them from the report collection and draft again"
        )
    if train is None:
        note = "no training data given (--train): overlap with it is not checked"
        return LeakCheck((), (note,))
    shared = {"studies": scored_ids & train.studies.keys()}
    notes: tuple[str, ...] = ()
    if study_set.has_patients and train.has_patients:
        train_patients = {study.patient for study in train.studies.values()}
        shared["patients"] = train_patients.intersection(study_set.patients)
    else:
        notes = ("the files do not both name patients: overlap of patients is not checked",)
    for kind, names in shared.items():
        if names:
            raise EvalLeakError(
                f"{len(names)} {kind} are scored and also in the training data {train.path}:\n"
                f"{bullet_list(sorted(names))}\nRemove them from one of the two"
            )
    train_texts = {normalize_text(study.text(study_set.scope)) for study in train.studies.values()}
    return LeakCheck(tuple(normalize_text(text) in train_texts for text in study_set.texts), notes)
