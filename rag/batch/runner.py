"""One run of a batch: what is left to do is done, and every study has one line in the end.

Owns the order of things: take the output, see what is there, do the rest, say how it went. Knows
neither where images come from nor how predictions are made.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

from rag.batch.inputs import BatchStudy
from rag.batch.output import MADE_WITH, BatchOutput, ExistingPredictions, PredictionLog
from rag.batch.workers import Engine
from rag.errors import OutputError, UsageError
from rag.index import Exclusions, ReportIndex
from rag.pipeline import ReportPipeline
from rag.schema import NOTICE, Status
from rag.study import Study

logger = logging.getLogger(__name__)

Progress = Callable[["Counts"], None]


@dataclass(slots=True)
class Counts:
    """How far a run has come, or how it ended.

    Attributes:
        total: studies of the input.
        before: of them, done by earlier runs.
        now: how often each status came out in this run.
        errors: failures by class, of all runs.
        seconds: since this run began its first study.
        stages: seconds of this run by stage, summed over studies.
        statuses: studies of the input by the status of their line, at the end.
    """

    total: int = 0
    before: int = 0
    now: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    stages: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)

    @property
    def done(self) -> int:
        """Studies that have a line."""
        return self.before + self.now.total()

    @property
    def rate(self) -> float:
        """Studies a second of this run."""
        return self.now.total() / self.seconds if self.seconds else 0.0

    @property
    def complete(self) -> bool:
        """Every study has a line, and none failed. Images that are refused are no failures."""
        return self.statuses.total() == self.total and not self.statuses[Status.FAILED]

    def to_json(self) -> dict[str, Any]:
        """The content of ``summary.json``."""
        count = max(self.now.total(), 1)
        return {
            "notice": NOTICE,
            "studies": self.total,
            "left": self.total - self.statuses.total(),
            "statuses": dict(sorted(self.statuses.items())),
            "failures": dict(self.errors.most_common()),
            "this_run": {
                "studies": self.now.total(),
                "seconds": round(self.seconds, 3),
                "studies_per_second": round(self.rate, 4),
                "mean_seconds_by_stage": {
                    stage: round(seconds / count, 4)
                    for stage, seconds in sorted(self.stages.items())
                },
            },
        }


def run_batch(
    studies: Sequence[BatchStudy],
    engine: Engine,
    output: BatchOutput,
    *,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> Counts:
    """Do what is left of a batch.

    Args:
        studies: of the input, with distinct ids.
        engine: makes the predictions.
        output: entered; its folder is ours.
        retry_failed: studies that failed before are done again.
        progress: told after every study.

    Raises:
        UsageError: the output holds something else than earlier runs of this batch.
        OutputError: the disk is full; what was written stays.
        BatchError: the model's servers are gone.
    """
    existing = output.read_existing()
    if retry_failed:
        logger.info("failed studies to be done again: %d", output.forget_failures(existing))
    _refuse_mixture(existing, engine.pipeline, output)
    output.write_studies(studies)
    left = [study for study in studies if study.study_id not in existing.statuses]
    counts = Counts(total=len(studies), before=len(studies) - len(left), errors=existing.errors)
    store = engine.pipeline.retriever.store
    asked = (as_study(study, store) for study in left)
    try:
        # closed before the index is: no thread may search an index that is gone
        with closing(engine.draft(asked)) as run, PredictionLog(output.predictions) as log:
            started = time.perf_counter()
            for prediction in run:
                log.append(prediction)
                existing.add(prediction.study_id, prediction.status, prediction.error)
                counts.now[prediction.status] += 1
                counts.stages.update(prediction.seconds)
                counts.seconds = time.perf_counter() - started
                if progress:
                    progress(counts)
    finally:
        engine.stop.set()
        ids = {study.study_id for study in studies} & existing.statuses.keys()
        counts.statuses.update(str(existing.statuses[name]) for name in ids)
        with suppress(OutputError):  # the disk is full: that was said already
            output.write_summary(counts.to_json())
    return counts


def as_study(study: BatchStudy, store: ReportIndex) -> Study:
    """A study as the pipeline takes it, with what must not be retrieved for it."""
    named = [store.studies_named_in(name) for name in study.names_to_exclude]
    return Study(
        study.image,
        name=study.name,
        further=study.further,
        study_id=study.study_id,
        exclude=Exclusions(frozenset({study.study_id}).union(*named), study.patient_ids),
        indication=study.indication,
        prior=study.prior,
    )


def _refuse_mixture(
    existing: ExistingPredictions, pipeline: ReportPipeline, output: BatchOutput
) -> None:
    """Predictions of two encoders, indexes or models must not lie in one file.

    Raises:
        UsageError: names what has changed.
    """
    if not existing.made_with:
        return
    now = pipeline.made_with
    changed = [
        f"{name} was {existing.made_with[name]!r} and is {now[name]!r}"
        for name in MADE_WITH
        if now[name] != existing.made_with[name]
    ]
    if changed:
        raise UsageError(
            f"{output.predictions} was made otherwise ({'; '.join(changed)}): choose another "
            "output, or go back to what it was made with"
        )
