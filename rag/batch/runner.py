"""One run of a batch: drafts the studies that have no line yet, and summarises the outcome.

Knows neither where images come from nor how predictions are made.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

from rag.batch.inputs import BatchStudy
from rag.batch.output import BatchOutput
from rag.batch.workers import Engine
from rag.errors import OutputError
from rag.schema import NOTICE, Status

logger = logging.getLogger(__name__)

Progress = Callable[["Counts"], None]


@dataclass(slots=True)
class Counts:
    """Progress of a run, and its outcome.

    Attributes:
        total: studies of the input.
        done_before: of them, done by earlier runs.
        this_run: studies done by this run, by status.
        errors: failures by class, of all runs.
        seconds: since this run started its first study.
        stages: seconds of this run by stage, summed over studies.
        statuses: studies of the input by status, at the end.
    """

    total: int = 0
    done_before: int = 0
    this_run: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    stages: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)

    @property
    def done(self) -> int:
        """Studies that have a line."""
        return self.done_before + self.this_run.total()

    @property
    def rate(self) -> float:
        """Studies per second in this run."""
        return self.this_run.total() / self.seconds if self.seconds else 0.0

    @property
    def complete(self) -> bool:
        """Every study has a line, and none failed. Refused images are not failures."""
        return self.statuses.total() == self.total and not self.statuses[Status.FAILED]

    def to_json(self) -> dict[str, Any]:
        """The content of ``summary.json``."""
        count = max(self.this_run.total(), 1)
        return {
            "notice": NOTICE,
            "studies": self.total,
            "left": self.total - self.statuses.total(),
            "statuses": dict(sorted(self.statuses.items())),
            "failures": dict(self.errors.most_common()),
            "this_run": {
                "studies": self.this_run.total(),
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
    """Draft the studies, with distinct ids, that have no line in the output yet.

    ``retry_failed`` also drafts those that failed before. ``progress`` is called after every study.

    Raises:
        UsageError: the output was made with another encoder, index, model or prompt.
        OutputError: the disk is full; what was written stays.
        BatchError: no model server answers.
    """
    if retry_failed:
        logger.info("failed studies to retry: %d", output.drop_failures())
    output.check_provenance(engine.pipeline.provenance)
    output.write_studies(studies)
    left = [study for study in studies if study.study_id not in output.statuses]
    counts = Counts(total=len(studies), done_before=len(studies) - len(left), errors=output.errors)
    started = time.perf_counter()
    try:
        # closed before the index: no thread may search a closed one
        with closing(engine.draft(left)) as predictions:
            for prediction in predictions:
                output.append(prediction)
                counts.this_run[prediction.status] += 1
                counts.stages.update(prediction.seconds)
                counts.seconds = time.perf_counter() - started
                if progress:
                    progress(counts)
    finally:
        engine.stop.set()
        ids = {study.study_id for study in studies} & output.statuses.keys()
        counts.statuses.update(str(output.statuses[name]) for name in ids)
        with suppress(OutputError):  # the disk is full, and that was raised already
            output.write_summary(counts.to_json())
    return counts
