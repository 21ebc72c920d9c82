"""The scored studies in one order, and the drafts of a run for them.

A study whose reference lacks the scored section is excluded and counted; a study
without a draft stays in with an empty one, counted by its reason.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from eval.errors import EvalDataError, EvalUsageError, Problems
from eval.io.references import References
from eval.io.studies import Pair, PredictedStudy, ReferenceStudy, Scope
from rag.report_nlp.labeller import NO_FINDING, label_text
from rag.schema import Status


@dataclass(frozen=True, slots=True)
class StudySet:
    """What every run is scored against.

    Attributes:
        studies: by study id, sorted.
        without_section: studies of the file whose reference lacks the scored section.
        has_patients: whether patients are known; if not, each study counts as its own patient.
    """

    scope: Scope
    studies: tuple[ReferenceStudy, ...]
    without_section: frozenset[str]
    has_patients: bool

    def __len__(self) -> int:
        return len(self.studies)

    @property
    def texts(self) -> tuple[str, ...]:
        """The scored text of each reference."""
        return tuple(study.texts.of(self.scope) for study in self.studies)

    @property
    def patients(self) -> tuple[str, ...]:
        """Patient of each study."""
        return tuple(study.patient_id for study in self.studies)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over scope, ids and scored texts: equal only for equal study sets."""
        facts = [[s.study_id, s.patient_id, s.texts.of(self.scope)] for s in self.studies]
        return hashlib.sha256(json.dumps([self.scope, facts]).encode()).hexdigest()

    def normal(self) -> tuple[bool, ...]:
        """Whether each reference is normal: the labeller's "No Finding"."""
        whole = (study.texts.of(Scope.REPORT) for study in self.studies)
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
    having = [s for s in references.studies.values() if s.texts.of(scope)]
    if not having:
        raise EvalUsageError(f"{references.path} has no {scope} in any study: choose another scope")
    return StudySet(
        scope=scope,
        studies=tuple(sorted(having, key=lambda study: study.study_id)),
        without_section=frozenset(references.studies) - {study.study_id for study in having},
        has_patients=references.has_patients,
    )


def make_run(
    name: str,
    predictions: Mapping[str, PredictedStudy],
    *,
    study_set: StudySet,
    references: References,
    problems: Problems,
) -> Run:
    """Match a system's predictions with the study set.

    Raises:
        EvalDataError: the predictions hold a study that the references do not.
        EvalUsageError: no prediction has the scored section.
    """
    _refuse_unknown(predictions, references, problems)
    scope = study_set.scope
    found = [predictions.get(study.study_id) for study in study_set.studies]
    if not any(study and study.texts.of(scope) for study in found):
        if any(study and study.texts.of(Scope.REPORT) for study in found):
            raise EvalUsageError(f"no prediction has its {scope} apart: score the whole report")
        raise EvalDataError("no study of the set has a draft: nothing to score")
    pairs = tuple(
        _pair(study, text, predicted, scope)
        for study, text, predicted in zip(study_set.studies, study_set.texts, found, strict=True)
    )
    reasons = (_why_missing(study, scope) for study in found)
    return Run(
        name=name,
        pairs=pairs,
        missing=dict(Counter(reason for reason in reasons if reason)),
        confidence=_confidence(found, scope),
        made_by=_made_by(found),
    )


def _refuse_unknown(
    predictions: Mapping[str, PredictedStudy], references: References, problems: Problems
) -> None:
    for study in predictions.values():
        if study.study_id in references.studies:
            continue
        split = references.elsewhere.get(study.study_id)
        known = f"is in split {split!r}" if split is not None else "is unknown to the references"
        problems.add(study.where, f"the study {study.study_id} {known}")
    problems.raise_if_any()


def _pair(study: ReferenceStudy, text: str, found: PredictedStudy | None, scope: Scope) -> Pair:
    if found is None:
        return Pair(study.study_id, text, "")
    draft = found.texts.of(scope)
    return Pair(study.study_id, text, draft, found.sentences(scope), found.evidence)


def _why_missing(study: PredictedStudy | None, scope: Scope) -> str:
    if study is None:
        return "not in the file"
    if study.status is not Status.OK:
        return study.status.value
    return "" if study.texts.of(scope) else f"no {scope}"


def _confidence(found: list[PredictedStudy | None], scope: Scope) -> tuple[float, ...] | None:
    """Studies without a draft are the least sure, unless they say otherwise."""
    values = []
    for study in found:
        if study is not None and study.confidence is not None:
            values.append(study.confidence)
        elif study is None or not study.texts.of(scope):
            values.append(float("-inf"))
        else:
            return None
    return tuple(values)


def _made_by(found: list[PredictedStudy | None]) -> dict[str, list[str]]:
    named: dict[str, set[str]] = {}
    for study in found:
        for name, value in study.made_by if study else ():
            named.setdefault(name, set()).add(value)
    return {name: sorted(values) for name, values in sorted(named.items())}
