"""Trivial baselines that every system must beat.

constant: the most common training report for every study. random: a random training report. top-1
copied: the nearest evidence report, verbatim. oracle top-1: the training report closest to the
reference, which no system can know: the upper bound of copying.
"""

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from eval.studies import Pair, References, Scope
from eval.study_set import Run, StudySet

CONSTANT, RANDOM, TOP_1, ORACLE = "constant", "random", "top-1 copied", "oracle top-1"
BASELINES = (CONSTANT, RANDOM, TOP_1, ORACLE)
"""Reserved names: no run may have one."""

_Pool = Sequence[tuple[str, str]]
"""Patient and text of each report that can be copied."""


@dataclass(frozen=True, slots=True)
class Baselines:
    """Baseline runs.

    Attributes:
        source: where their texts come from, for the table's caption.
        missing: reasons for the baselines that could not be made, by name.
    """

    runs: tuple[Run, ...]
    source: str
    missing: dict[str, str]


def make_baselines(
    study_set: StudySet,
    *,
    run: Run,
    train: References | None,
    words: Callable[[str], list[str]],
    seed: int,
) -> Baselines:
    """Baselines for a study set.

    Without training data the texts come from the other patients' references, which favours the
    baselines a little.

    Args:
        study_set: the scored studies.
        run: the system, for its evidence.
        train: the training data.
        words: splits a text for the oracle's comparison.
        seed: of the random report.
    """
    source = "the training reports" if train else "the references of the other patients"
    studies = (
        sorted(train.studies.values(), key=lambda s: s.study_id) if train else study_set.studies
    )
    pool = [(s.patient, s.text(study_set.scope)) for s in studies]
    pool = [(patient, text) for patient, text in pool if text]
    drafts = {
        CONSTANT: _constant_drafts(study_set, pool),
        RANDOM: _random_drafts(study_set, pool, seed),
        TOP_1: _nearest_drafts(study_set, run, train),
        ORACLE: _oracle_drafts(study_set, pool, words),
    }
    runs = [_make_run(name, study_set, texts) for name, texts in drafts.items() if any(texts)]
    missing = {
        name: "the predictions do not say which report was nearest (evidence)"
        if name == TOP_1
        else f"{source} have no report of another patient"
        for name, texts in drafts.items()
        if not any(texts)
    }
    return Baselines(tuple(runs), source, missing)


def _make_run(name: str, study_set: StudySet, drafts: Sequence[str]) -> Run:
    pairs = tuple(
        Pair(study.study_id, text, draft)
        for study, text, draft in zip(study_set.studies, study_set.texts, drafts, strict=True)
    )
    missing = sum(not draft for draft in drafts)
    return Run(name, pairs, {"no report to copy": missing} if missing else {})


def _constant_drafts(study_set: StudySet, pool: _Pool) -> list[str]:
    """The most common text of other patients; ties in alphabetical order."""
    counts = Counter(text for _, text in pool)
    ranked = sorted(counts, key=lambda text: (-counts[text], text))
    own: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for patient, text in pool:
        own[patient][text] += 1
    drafts = []
    for patient in study_set.patients:
        mine = own[patient]
        others = (text for text in ranked if text not in mine)  # the first beats all the rest
        candidates = [*mine, *itertools.islice(others, 1)]
        best = min(candidates, key=lambda text: (mine[text] - counts[text], text), default="")
        drafts.append(best if counts[best] > mine[best] else "")
    return drafts


def _random_drafts(study_set: StudySet, pool: _Pool, seed: int) -> list[str]:
    generator = random.Random(seed)  # noqa: S311 - a baseline, not a secret
    patients = {patient for patient, _ in pool}
    drafts = []
    for own in study_set.patients:
        patient, text = own, ""
        while patient == own and patients - {own}:
            patient, text = generator.choice(pool)
        drafts.append(text if patient != own else "")
    return drafts


def _nearest_drafts(study_set: StudySet, run: Run, train: References | None) -> list[str]:
    """The nearest report, or its scored section if the training data has it."""
    drafts = []
    for pair in run.pairs:
        nearest = next(iter(pair.evidence), None)
        study = train.studies.get(nearest.report_id) if train and nearest else None
        if nearest is None:
            drafts.append("")
        elif study is not None:
            drafts.append(study.text(study_set.scope))
        elif study_set.scope is Scope.REPORT:
            drafts.append(nearest.text)
        else:
            return []
    return drafts


def _oracle_drafts(
    study_set: StudySet, pool: _Pool, words: Callable[[str], list[str]]
) -> list[str]:
    """The text with the highest ROUGE-1 F1 against the reference."""
    from sklearn.feature_extraction import DictVectorizer  # noqa: PLC0415 - takes a second

    if not pool:
        return []
    vectorizer = DictVectorizer()
    pool_counts = vectorizer.fit_transform([Counter(words(text)) for _, text in pool]).tocsc()
    pool_lengths = np.asarray(pool_counts.sum(axis=1)).ravel()
    patients = np.array([patient for patient, _ in pool])
    drafts = []
    for text, patient in zip(study_set.texts, study_set.patients, strict=True):
        reference = words(text)
        counts = vectorizer.transform(Counter(reference))
        shared = np.minimum(pool_counts[:, counts.indices].toarray(), counts.data).sum(axis=1)
        f1 = 2 * shared / np.maximum(pool_lengths + len(reference), 1)
        f1[patients == patient] = -1
        best = int(f1.argmax())
        drafts.append(pool[best][1] if f1[best] >= 0 else "")
    return drafts
