"""Trivial baselines that every system must beat.

constant: the most common training report for every study. random: any training report.
top-1 copied: the report of the nearest evidence, as it stands. oracle top-1: the training report
that agrees best with the reference, which no system can know: the ceiling of copying.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csc_array

from eval.studies import Pair, References, Scope
from eval.study_set import Run, StudySet

CONSTANT, RANDOM, TOP_1, ORACLE = "constant", "random", "top-1 copied", "oracle top-1"
BASELINES = (CONSTANT, RANDOM, TOP_1, ORACLE)
"""Names that no run may have."""

_Pool = Sequence[tuple[str, str]]
"""Patient and text of each report that can be copied."""


@dataclass(frozen=True, slots=True)
class Baselines:
    """Runs to print beside a system.

    Attributes:
        runs: those that could be made.
        source: where their texts come from, for the table's caption.
        missing: why the others could not.
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
    """The trivial runs for a study set.

    Without training data the texts come from the other patients' references: a little kinder to
    the baselines, since such texts are of the scored data itself.

    Args:
        study_set: what is scored.
        run: the system, for the reports its evidence names.
        train: the training data.
        words: cleaning that the oracle compares by.
        seed: of the random report.
    """
    source = "the training reports" if train else "the references of the other patients"
    studies = (
        sorted(train.studies.values(), key=lambda s: s.study_id) if train else study_set.studies
    )
    pool = [(s.patient, s.text(study_set.scope)) for s in studies]
    pool = [(patient, text) for patient, text in pool if text]
    drafts = {
        CONSTANT: _constant(study_set, pool),
        RANDOM: _random(study_set, pool, seed),
        TOP_1: _nearest(study_set, run, train),
        ORACLE: _oracle(study_set, pool, words),
    }
    runs = [_copied(name, study_set, texts) for name, texts in drafts.items() if any(texts)]
    missing = {
        name: "the predictions do not say which report was nearest (evidence)"
        if name == TOP_1
        else f"{source} hold no report of another patient"
        for name, texts in drafts.items()
        if not any(texts)
    }
    return Baselines(tuple(runs), source, missing)


def _copied(name: str, study_set: StudySet, drafts: Sequence[str]) -> Run:
    pairs = tuple(
        Pair(study.study_id, text, draft)
        for study, text, draft in zip(study_set.studies, study_set.texts, drafts, strict=True)
    )
    lacking = sum(not draft for draft in drafts)
    return Run(name, pairs, {"no report to copy": lacking} if lacking else {})


def _constant(study_set: StudySet, pool: _Pool) -> list[str]:
    """The most common text of the pool without the study's own patient; ties by the alphabet."""
    texts, places = np.unique([text for _, text in pool], return_inverse=True)
    times = np.bincount(places, minlength=len(texts))
    own: dict[str, list[int]] = {}
    for (patient, _), place in zip(pool, places, strict=True):
        own.setdefault(patient, []).append(place)
    drafts = []
    for patient in study_set.patients:
        left = times - np.bincount(own.get(patient, []), minlength=len(texts))
        drafts.append(str(texts[left.argmax()]) if left.any() else "")
    return drafts


def _random(study_set: StudySet, pool: _Pool, seed: int) -> list[str]:
    generator = random.Random(seed)  # noqa: S311 - a baseline, not a secret
    patients = {patient for patient, _ in pool}
    drafts = []
    for own in study_set.patients:
        patient, text = own, ""
        while patient == own and patients - {own}:
            patient, text = generator.choice(pool)
        drafts.append(text if patient != own else "")
    return drafts


def _nearest(study_set: StudySet, run: Run, train: References | None) -> list[str]:
    """The nearest report's text, its scored section alone where the training data has it."""
    drafts = []
    for pair in run.pairs:
        first = next(iter(pair.evidence), None)
        known = train.studies.get(first.report_id) if train and first else None
        if first is None:
            drafts.append("")
        elif known is not None:
            drafts.append(known.text(study_set.scope))
        elif study_set.scope is Scope.REPORT:
            drafts.append(first.text)
        else:
            return []
    return drafts


def _oracle(study_set: StudySet, pool: _Pool, words: Callable[[str], list[str]]) -> list[str]:
    """The pool's text with the highest F1 of words (ROUGE-1) against the reference."""
    if not pool:
        return []
    counted = [Counter(words(text)) for _, text in pool]
    places = {word: at for at, word in enumerate(dict.fromkeys(w for c in counted for w in c))}
    entries = [(row, places[w], n) for row, c in enumerate(counted) for w, n in c.items()]
    rows, columns, values = np.array(entries, dtype=np.int64).reshape(-1, 3).T
    table = csc_array((values, (rows, columns)), shape=(len(pool), len(places)))
    lengths = np.array([counts.total() for counts in counted])
    patients = np.array([patient for patient, _ in pool])
    drafts = []
    for text, patient in zip(study_set.texts, study_set.patients, strict=True):
        reference = Counter(words(text))
        shared = np.zeros(len(pool))
        for word, count in reference.items():
            if (column := places.get(word)) is not None:
                part = slice(table.indptr[column], table.indptr[column + 1])
                shared[table.indices[part]] += np.minimum(table.data[part], count)
        f1 = 2 * shared / np.maximum(lengths + reference.total(), 1)
        f1[patients == patient] = -1
        best = int(f1.argmax())
        drafts.append(pool[best][1] if f1[best] >= 0 else "")
    return drafts
