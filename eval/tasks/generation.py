"""The generation task: drafts against references, with leak check, baselines and intervals."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.baselines import BASELINES, make_baselines
from eval.cache import ScoreCache
from eval.errors import EvalUsageError, NotAvailableError, bullet_list
from eval.metrics.base import JudgeServer, MetricGroup, Setup, SufficientStats, load_metrics
from eval.results import MetricValue, Result, file_info, metric_card, metric_values
from eval.risk import has_risk, risk_coverage
from eval.stats import LEVEL, summed_statistic
from eval.studies import References, Scope, read_references
from eval.study_set import LeakCheck, Run, StudySet, check_leaks, make_run, make_study_set
from eval.text import CLEANINGS

Statistics = Mapping[tuple[str, str], SufficientStats]
"""By system and metric key: float64 [N, width]."""


@dataclass(frozen=True, slots=True)
class GenerationScores:
    """A result, and what it was computed from: the system is the first of the runs."""

    result: Result
    study_set: StudySet
    runs: tuple[Run, ...]
    leak: LeakCheck
    metrics: dict[str, MetricGroup]
    statistics: Statistics


def score_generation(
    predictions: Path,
    *,
    references: Path,
    name: str,
    measures: Sequence[str],
    split: str = "",
    train: Path | None = None,
    train_split: str = "",
    scope: Scope = Scope.REPORT,
    cleaning: str = "coco-ptb",
    samples: int = 10_000,
    seed: int = 0,
    cache: Path | None = None,
    models: Path = Path("models"),
    judge: JudgeServer | None = None,
) -> GenerationScores:
    """Score drafts; the options are those of `cxr-rag eval score`.

    Raises:
        EvalUsageError: an option does not fit.
        EvalDataError: a file cannot be scored, or the training data leaks.
    """
    if name in BASELINES:
        raise EvalUsageError(f"{name!r} is the name of a baseline: choose another --name")
    reports = read_references(references, split=split)
    training = read_references(train, split=train_split) if train else None
    study_set = make_study_set(reports, scope)
    run = make_run(name, predictions, study_set=study_set, references=reports)
    leak = check_leaks(study_set, train=training, run=run)
    words = CLEANINGS[cleaning].words
    baselines = make_baselines(study_set, run=run, train=training, words=words, seed=seed)
    runs = (run, *baselines.runs)
    setup = Setup(CLEANINGS[cleaning], study_set.texts, models, judge)
    loaded, missing = load_metrics(measures, setup)
    statistics = _score(loaded, runs, missing, cache)
    if not statistics:
        reasons = bullet_list([f"{key}: {reason}" for key, reason in missing.items()])
        raise EvalUsageError(f"none of the measures can run here:\n{reasons}")
    metrics = {metric.key: metric for metric in loaded if (run.name, metric.key) in statistics}
    numbers: list[MetricValue] = []
    for subset, mask in _subsets(study_set, leak):
        patients = list(itertools.compress(study_set.patients, mask))
        summed = [
            (system, subset, summed_statistic(metrics[key].measures, rows[mask], patients))
            for (system, key), rows in statistics.items()
        ]
        numbers += metric_values(summed, patients=patients, samples=samples, seed=seed)
    result = Result(
        task="generation",
        name=name,
        models={**run.made_by, **{k: v for m in metrics.values() for k, v in m.made_by.items()}},
        dataset={
            "predictions": file_info(predictions),
            "references": file_info(references),
            "split": split,
            "train": file_info(train),
            "train_split": train_split,
            "fingerprint": study_set.fingerprint,
            "studies": len(study_set),
            "patients": len(set(study_set.patients)),
            "without_section": study_set.without_section,
            "normal": sum(study_set.normal),
            "missing_predictions": run.missing,
            "baselines_from": baselines.source,
            "texts_in_train": sum(leak.text_in_train) if training else None,
        },
        settings={
            "scope": scope.value,
            "cleaning": cleaning,
            "samples": samples,
            "seed": seed,
            "level": LEVEL,
        },
        cards=[metric_card(metric) for metric in metrics.values()],
        numbers=numbers,
        not_available=missing | baselines.missing,
        curves={"risk_coverage": _risk(study_set, run, metrics, statistics, seed=seed)},
        notes=[
            *leak.notes,
            *_notes(reports, study_set),
            *(note for metric in metrics.values() for note in metric.notes),
        ],
    )
    return GenerationScores(result, study_set, runs, leak, metrics, statistics)


def _score(
    metrics: Sequence[MetricGroup], runs: Sequence[Run], missing: dict[str, str], cache: Path | None
) -> dict[tuple[str, str], SufficientStats]:
    """Rows by system and metric, in table order; metrics that cannot run go to ``missing``."""
    found: dict[tuple[str, str], SufficientStats] = {}
    with ScoreCache(cache) as scores:
        for metric in metrics:
            # baselines have no evidence of their own
            scored = runs[:1] if metric.uses_evidence else runs
            try:
                rows = {(r.name, metric.key): scores.rows(metric, r.pairs) for r in scored}
            except NotAvailableError as error:
                missing[metric.key] = str(error)
            else:
                found |= rows
    order = [(run.name, metric.key) for run in runs for metric in metrics]
    return {key: found[key] for key in order if key in found}


def _subsets(study_set: StudySet, leak: LeakCheck) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Non-empty subsets: all, normal, abnormal, and studies whose text is not in train."""
    is_normal = np.array(study_set.normal)
    masks = {"all": np.ones_like(is_normal), "normal": is_normal, "abnormal": ~is_normal}
    if any(leak.text_in_train):
        masks["text not in train"] = ~np.array(leak.text_in_train)
    yield from ((name, mask) for name, mask in masks.items() if mask.any())


def _risk(
    study_set: StudySet,
    run: Run,
    metrics: Mapping[str, MetricGroup],
    statistics: Statistics,
    *,
    seed: int,
) -> list[dict[str, Any]]:
    """Risk-coverage curves of every measure that has a risk, if the run has a confidence."""
    if run.confidence is None or len(set(run.confidence)) < 2:
        return []
    curves = []
    for metric in metrics.values():
        measures = [measure for measure in metric.measures if has_risk(measure)]
        if measures and not metric.whole_run:
            rows = statistics[run.name, metric.key]
            curves += risk_coverage(rows, run.confidence, study_set.patients, measures, seed=seed)
    return curves


def _notes(references: References, study_set: StudySet) -> Iterator[str]:
    if not study_set.has_patients:
        yield (
            f"{references.path.name} names no patients: each study counts as its own patient, and "
            "intervals are too narrow if patients have several"
        )
    if study_set.without_section:
        yield (
            f"{study_set.without_section} studies have no {study_set.scope} in their "
            "reference and are not scored"
        )
