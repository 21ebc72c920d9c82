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

from eval.io.references import References
from eval.io.studies import Pair, Scope
from eval.io.study_set import Run, StudySet

CONSTANT, RANDOM, TOP_1, ORACLE = "constant", "random", "top-1 copied", "oracle top-1"


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


@dataclass(frozen=True, slots=True)
class _Text:
    study_id: str
    patient_id: str
    text: str


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
    pool = _pool(study_set, train)
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


def _pool(study_set: StudySet, train: References | None) -> list[_Text]:
    studies = (
        sorted(train.studies.values(), key=lambda s: s.study_id) if train else study_set.studies
    )
    texts = (_Text(s.study_id, s.patient_id, s.texts.of(study_set.scope)) for s in studies)
    return [text for text in texts if text.text]


def _copied(name: str, study_set: StudySet, drafts: Sequence[str]) -> Run:
    pairs = tuple(
        Pair(study.study_id, text, draft)
        for study, text, draft in zip(study_set.studies, study_set.texts, drafts, strict=True)
    )
    lacking = sum(not draft for draft in drafts)
    return Run(name, pairs, {"no report to copy": lacking} if lacking else {})


def _constant(study_set: StudySet, pool: Sequence[_Text]) -> list[str]:
    """The most common text of the pool without the study's own patient; ties by the alphabet."""
    times = Counter(item.text for item in pool)
    own: dict[str, Counter[str]] = {}
    for item in pool:
        own.setdefault(item.patient_id, Counter())[item.text] += 1
    ranked = sorted(times, key=lambda text: (-times[text], text))

    def best(patient: str) -> str:
        mine = own.get(patient, Counter())
        # only texts of this patient lose; the first that loses none bounds all that follow
        place = next((at for at, text in enumerate(ranked) if not mine[text]), len(ranked))
        candidates = ranked[: place + 1]
        left = [text for text in candidates if times[text] > mine[text]]
        return min(left, key=lambda text: (mine[text] - times[text], text), default="")

    return [best(patient) for patient in study_set.patients]


def _random(study_set: StudySet, pool: Sequence[_Text], seed: int) -> list[str]:
    generator = random.Random(seed)  # noqa: S311 - a baseline, not a secret
    patients = {item.patient_id for item in pool}
    drafts = []
    for patient in study_set.patients:
        if patients <= {patient}:
            drafts.append("")
            continue
        chosen = generator.choice(pool)
        while chosen.patient_id == patient:
            chosen = generator.choice(pool)
        drafts.append(chosen.text)
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
            drafts.append(known.texts.of(study_set.scope))
        elif study_set.scope is Scope.REPORT:
            drafts.append(first.text)
        else:
            return []
    return drafts


def _oracle(
    study_set: StudySet, pool: Sequence[_Text], words: Callable[[str], list[str]]
) -> list[str]:
    """The pool's text with the highest F1 of words (ROUGE-1) against the reference."""
    places: dict[str, int] = {}
    counted = [Counter(words(item.text)) for item in pool]
    for counts in counted:
        for word in counts:
            places.setdefault(word, len(places))
    entries = [(row, places[w], n) for row, c in enumerate(counted) for w, n in c.items()]
    rows, columns, values = np.array(entries, dtype=np.int64).reshape(-1, 3).T
    table = csc_array((values, (rows, columns)), shape=(len(pool), len(places)))
    lengths = np.array([counts.total() for counts in counted])
    patients = np.array([item.patient_id for item in pool])
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
        best = int(f1.argmax()) if len(f1) else 0
        drafts.append(pool[best].text if len(f1) and f1[best] >= 0 else "")
    return drafts
