"""The leak gate: no scored study may have been seen by the system.

Overlapping studies or patients stop the run. Equal texts do not (reports repeat word for word), but
they are counted, and every table is given with them and without.
"""

from dataclasses import dataclass

from eval.errors import EvalLeakError, listed
from eval.io.references import References
from eval.io.study_set import Run, StudySet


@dataclass(frozen=True, slots=True)
class LeakCheck:
    """What the gate checked, and what it found.

    Attributes:
        studies: whether study ids were compared with the training data.
        patients: whether patient ids were.
        train_studies: size of the training data, 0 if none was named.
        seen_text: whether each study's reference text is, word for word, a text of the training
            data; empty if none was named.
        notes: sentences for the reader.
    """

    studies: bool
    patients: bool
    train_studies: int
    seen_text: tuple[bool, ...]
    notes: tuple[str, ...]


def check_leaks(study_set: StudySet, *, train: References | None, run: Run) -> LeakCheck:
    """Compare the study set with the training data, and with the evidence the run names.

    Raises:
        EvalLeakError: names overlapping studies or patients.
    """
    _refuse_own_evidence(study_set, run)
    if train is None:
        note = "no training data was named (--train): overlap with it is not checked"
        return LeakCheck(False, False, 0, (), (note,))
    scored = {study.study_id for study in study_set.studies}
    _refuse(scored & train.studies.keys(), "studies", train)
    notes = []
    patients = study_set.has_patients and train.has_patients
    if patients:
        _refuse(
            {study.patient_id for study in study_set.studies}
            & {study.patient_id for study in train.studies.values()},
            "patients",
            train,
        )
    else:
        notes.append("the files do not both name patients: overlap of patients is not checked")
    known = {_plain(study.texts.of(study_set.scope)) for study in train.studies.values()} - {""}
    seen = tuple(_plain(text) in known for text in study_set.texts)
    return LeakCheck(True, patients, len(train.studies), seen, tuple(notes))


def _refuse(shared: set[str], what: str, train: References) -> None:
    if shared:
        raise EvalLeakError(
            f"{len(shared)} {what} are scored and in the training data {train.path} too:\n"
            f"{listed(sorted(shared))}\nTake them out of one of the two"
        )


def _refuse_own_evidence(study_set: StudySet, run: Run) -> None:
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


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
