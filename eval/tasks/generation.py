"""The generation task: drafts against references, with leak gate, baselines and intervals."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.aggregate import Statistics, subset_numbers
from eval.baselines import Baselines, make_baselines
from eval.cache import ScoreCache
from eval.errors import NotAvailableError, Problems
from eval.io.predictions import read_predictions
from eval.io.references import References, read_references
from eval.io.studies import Scope
from eval.io.study_set import Run, StudySet, make_run, make_study_set
from eval.leaks import LeakCheck, check_leaks
from eval.metrics.base import MetricGroup, Setup, SufficientStats
from eval.metrics.registry import load_metrics
from eval.results import Result, card_facts, command, file_facts, finite, made_by, now
from eval.risk import RiskCoverage, has_risk, risk_coverage
from eval.stats import LEVEL
from eval.text import CLEANINGS


@dataclass(frozen=True, slots=True)
class GenerationTask:
    """The options of ``cxr-rag eval score``."""

    predictions: Path
    references: Path
    name: str
    measures: tuple[str, ...]
    split: str = ""
    train: Path | None = None
    train_split: str = ""
    scope: Scope = Scope.REPORT
    cleaning: str = "coco-ptb"
    samples: int = 10_000
    seed: int = 0
    cache: Path | None = None
    models: Path = Path("models")


@dataclass(frozen=True, slots=True)
class Scored:
    """Everything that was computed.

    Attributes:
        runs: the system first, then the trivial baselines.
        normal: of each study, whether its reference is.
        metrics: those that ran, by key.
        statistics: by system and metric key.
    """

    result: Result
    study_set: StudySet
    runs: tuple[Run, ...]
    leak: LeakCheck
    normal: tuple[bool, ...]
    metrics: dict[str, MetricGroup]
    statistics: Statistics


def score_generation(task: GenerationTask) -> Scored:
    """Read, check, score.

    Raises:
        EvalUsageError: an option that cannot be followed.
        EvalDataError: a file that cannot be scored, a leak among them.
    """
    inputs = _read(task)
    study_set, run, leak = inputs.study_set, inputs.run, inputs.leak
    runs = (run, *inputs.baselines.runs)
    setup = Setup(CLEANINGS[task.cleaning], study_set.texts, task.models)
    ready, missing = load_metrics(task.measures, setup)
    statistics = _score(ready, runs, missing, task.cache)
    ran = {metric.key: metric for metric in ready if (run.name, metric.key) in statistics}
    normal = study_set.normal()
    numbers = [
        number
        for subset, mask in _subsets(normal, leak)
        for number in subset_numbers(
            subset,
            mask,
            statistics=statistics,
            metrics=ran,
            patients=study_set.patients,
            samples=task.samples,
            seed=task.seed,
        )
    ]
    result = Result(
        task="generation",
        name=task.name,
        created=now(),
        made_by=made_by(),
        command=command(),
        models=run.made_by,
        dataset=_dataset(task, inputs, normal),
        settings=_settings(task),
        cards=[card_facts(metric) for metric in ran.values()],
        numbers=numbers,
        not_available=missing | inputs.baselines.missing,
        curves={"risk_coverage": _risk(task, inputs, ran, statistics)},
        notes=_notes(inputs),
    )
    return Scored(result, study_set, runs, leak, normal, ran, statistics)


@dataclass(frozen=True, slots=True)
class _Inputs:
    references: References
    study_set: StudySet
    run: Run
    leak: LeakCheck
    baselines: Baselines


def _read(task: GenerationTask) -> _Inputs:
    references = read_references(task.references, split=task.split)
    train = read_references(task.train, split=task.train_split) if task.train else None
    study_set = make_study_set(references, task.scope)
    run = make_run(
        task.name,
        read_predictions(task.predictions),
        study_set=study_set,
        references=references,
        problems=Problems(task.predictions),
    )
    leak = check_leaks(study_set, train=train, run=run)
    words = CLEANINGS[task.cleaning].words
    beside = make_baselines(study_set, run=run, train=train, words=words, seed=task.seed)
    return _Inputs(references, study_set, run, leak, beside)


def _settings(task: GenerationTask) -> dict[str, Any]:
    return {
        "scope": task.scope.value,
        "cleaning": task.cleaning,
        "samples": task.samples,
        "seed": task.seed,
        "level": LEVEL,
    }


def _score(
    ready: Sequence[MetricGroup], runs: Sequence[Run], missing: dict[str, str], cache: Path | None
) -> dict[tuple[str, str], SufficientStats]:
    """Rows by system and metric, system by system; what cannot run goes to ``missing``."""
    found: dict[tuple[str, str], SufficientStats] = {}
    with ScoreCache(cache) as scores:
        for metric in ready:
            # evidence is the system's own: copying has no sentences to support
            scored = runs[:1] if metric.reads_evidence else runs
            # one call for all systems: a metric that is slow to start starts once
            groups = [[run] for run in scored] if metric.whole_run else [list(scored)]
            try:
                for group in groups:
                    pairs = [pair for run in group for pair in run.pairs]
                    parts = np.split(scores.rows(metric, pairs), len(group))
                    found |= {(r.name, metric.key): p for r, p in zip(group, parts, strict=True)}
            except NotAvailableError as error:
                missing[metric.key] = str(error)
    order = [(run.name, metric.key) for run in runs for metric in ready]
    return {key: found[key] for key in order if key in found}


def _subsets(normal: Sequence[bool], leak: LeakCheck) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """All studies, normal ones, abnormal ones, and those whose text is new; none that is empty."""
    is_normal = np.array(normal)
    masks = {
        "all": np.ones_like(is_normal),
        "normal": is_normal,
        "abnormal": ~is_normal,
        "text not in train": ~np.array(leak.seen_text, dtype=bool),
    }
    if not any(leak.seen_text):
        del masks["text not in train"]
    yield from ((name, mask) for name, mask in masks.items() if mask.any())


def _dataset(task: GenerationTask, inputs: _Inputs, normal: Sequence[bool]) -> dict[str, Any]:
    study_set, leak = inputs.study_set, inputs.leak
    return {
        "predictions": file_facts(task.predictions),
        "references": file_facts(task.references),
        "split": task.split,
        "train": file_facts(task.train),
        "train_split": task.train_split,
        "fingerprint": study_set.fingerprint,
        "studies": len(study_set),
        "patients": len(set(study_set.patients)),
        "patients_known": study_set.has_patients,
        "without_section": len(study_set.without_section),
        "normal": sum(normal),
        "missing_predictions": inputs.run.missing,
        "baselines_from": inputs.baselines.source,
        "train_studies": leak.train_studies,
        "checked": {"studies": leak.studies, "patients": leak.patients},
        "texts_in_train": sum(leak.seen_text) if leak.train_studies else None,
    }


def _risk(
    task: GenerationTask, inputs: _Inputs, ran: dict[str, MetricGroup], statistics: Statistics
) -> list[dict[str, Any]]:
    """Risk and coverage of every measure that has a risk, if the run says how sure it is."""
    run = inputs.run
    if run.confidence is None or len(set(run.confidence)) < 2:
        return []
    curves = []
    for metric in ran.values():
        measures = [measure for measure in metric.measures if has_risk(measure)]
        if measures and not metric.whole_run:
            curves += risk_coverage(
                statistics[run.name, metric.key],
                run.confidence,
                inputs.study_set.patients,
                measures,
                seed=task.seed,
            )
    return [_curve_facts(curve) for curve in curves]


def _curve_facts(curve: RiskCoverage) -> dict[str, Any]:
    ends = {"aurc": curve.aurc_interval, "score_at": curve.score_at_interval}
    return {
        "measure": curve.measure,
        "coverage": [round(float(x), 6) for x in curve.coverage],
        "score": [finite(float(y)) for y in curve.score],
        "aurc": finite(curve.aurc),
        "aurc_random": finite(curve.aurc_random),
        "at": curve.at,
        "score_at": finite(curve.score_at),
        "score_all": finite(curve.score_all),
        **{f"{name}_low": finite(interval.low) for name, interval in ends.items()},
        **{f"{name}_high": finite(interval.high) for name, interval in ends.items()},
    }


def _notes(inputs: _Inputs) -> list[str]:
    references, study_set = inputs.references, inputs.study_set
    notes = list(inputs.leak.notes)
    if not study_set.has_patients:
        notes.append(
            f"{references.path.name} names no patients: each study counts as its own patient, and "
            "intervals are too narrow if patients have several"
        )
    if study_set.without_section:
        notes.append(
            f"{len(study_set.without_section)} studies have no {study_set.scope} in their "
            "reference and are not scored"
        )
    return notes
