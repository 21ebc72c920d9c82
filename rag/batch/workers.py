"""The local engine: prepares and drafts studies concurrently.

    studies ─▶ prepare (a few threads) ─▶ finish (many threads) ─▶ the caller

Preparing needs the processor, finishing mostly waits for the model. Both are bounded: when the
model is slow, preparing waits. Results are in order of completion.
"""

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial

from encoders.machine import map_ahead
from rag.errors import BatchError, LlmBusyError, LlmUnavailableError
from rag.metrics import count_prediction
from rag.pipeline import PreparedStudy, ReportPipeline
from rag.prediction import Prediction
from rag.schema import Draft, Status
from rag.study import Study

logger = logging.getLogger(__name__)

_GRACE_PERIOD_S = 30.0
"""How long drafts in progress may take after a `Stop`."""

_MAX_RETRY_PAUSE_S = 15.0
_POLL_INTERVAL_S = 0.2  # until a stop is noticed

Prepare = Callable[[Iterable[Study]], Iterator[PreparedStudy]]
"""Does the first half of each study, in any order."""


class Stop(threading.Event):
    """Ends a run early: starts no study, and waits a while for drafts in progress.

    Attributes:
        since: when it was set, by `time.monotonic`.
        signal: number of the signal that set it, or 0.
    """

    since = math.inf
    signal = 0

    def set(self, signal: int = 0) -> None:
        """End the run."""
        self.signal = self.signal or signal
        self.since = min(self.since, time.monotonic())
        super().set()


@dataclass(slots=True)
class Engine:
    """Drafts studies concurrently.

    Attributes:
        pipeline: its `finish` is called from many threads.
        prepare: the first half.
        max_concurrency: drafts in progress at once.
        outage_timeout_s: how long to wait for a model server that answers no study.
        is_alive: whether the server answers at all; asked only after failures, to tell an outage
            from a study that it cannot answer.
        stop: ends the run early.
    """

    pipeline: ReportPipeline
    prepare: Prepare
    max_concurrency: int = 1
    outage_timeout_s: float = 0
    is_alive: Callable[[], bool] = lambda: True
    stop: Stop = field(default_factory=Stop)
    _last_answer: float = field(default=-math.inf, init=False)

    def draft(self, studies: Iterable[Study]) -> Generator[Prediction, None, None]:
        """Predictions in order of completion; studies are taken as needed.

        Raises:
            BatchError: no model server answers; studies that got no answer are not failures.
        """
        drafters = ThreadPoolExecutor(self.max_concurrency, thread_name_prefix="draft")
        pending: set[Future[Prediction | None]] = set()
        try:
            for prepared in self.prepare(studies):
                if self.stop.is_set():
                    break
                pending.add(drafters.submit(self._finish, prepared))
                yield from self._collect(pending, max_pending=self.max_concurrency - 1)
            yield from self._collect(pending, max_pending=0)
        finally:
            drafters.shutdown(wait=False, cancel_futures=True)

    def _collect(
        self, pending: set[Future[Prediction | None]], *, max_pending: int
    ) -> Iterator[Prediction]:
        """Take out finished predictions; wait until at most ``max_pending`` are left."""
        while pending and time.monotonic() < self.stop.since + _GRACE_PERIOD_S:
            too_many = len(pending) > max_pending
            done, _ = wait(pending, _POLL_INTERVAL_S if too_many else 0, FIRST_COMPLETED)
            pending.difference_update(done)
            yield from map(count_prediction, filter(None, (future.result() for future in done)))
            if not too_many:
                return

    def _finish(self, prepared: PreparedStudy) -> Prediction | None:
        """The second half of a study; None if the run was stopped before the model was asked."""
        started, pause = time.monotonic(), 0.5
        while not self.stop.is_set():
            try:
                prediction = self.pipeline.finish(prepared)
            except Exception as error:  # noqa: BLE001 - unattended: the other studies must go on
                return _unexpected_failure(prepared.prediction, error)
            if not self._should_retry(prediction.error, started=started):
                if prediction.status is Status.OK and prediction.answer:  # the model was asked
                    self._last_answer = time.monotonic()
                return prediction
            pause = min(2 * pause, _MAX_RETRY_PAUSE_S)
            self.stop.wait(pause * random.uniform(0.5, 1))  # noqa: S311 - spreads the retries
        return None

    def _should_retry(self, error: str, *, started: float) -> bool:
        """Whether to ask the model again later; otherwise the failure is the study's own."""
        busy = error == LlmBusyError.__name__
        if not busy and error != LlmUnavailableError.__name__:
            return False
        if not busy and (self._last_answer > started or self.is_alive()):
            return False
        outage = time.monotonic() - max(self._last_answer, started)
        if outage > self.outage_timeout_s:
            raise BatchError(
                f"stopped: no model server has answered for {outage:.0f} s. Look at its log, then "
                "run the same command again: it resumes"
            )
        return True


def threaded_prepare(pipeline: ReportPipeline, *, threads: int) -> Prepare:
    """Prepare in threads of this process, a few studies ahead."""
    prepare = partial(prepare_study, pipeline)
    return lambda studies: map_ahead(prepare, studies, threads=threads, ahead=2 * threads)


def prepare_study(pipeline: ReportPipeline, study: Study) -> PreparedStudy:
    """The first half of a study; not even a bug ends the run."""
    try:
        return pipeline.prepare(study)
    except Exception as error:  # noqa: BLE001 - as above
        return PreparedStudy(study, _unexpected_failure(pipeline.start_prediction(study), error))


def _unexpected_failure(prediction: Prediction, error: Exception) -> Prediction:
    """A failure by a bug. Its message may quote the image, so it is logged at DEBUG only."""
    logger.debug("unexpected failure of a study", exc_info=error)
    logger.error("unexpected failure of a study: %s", type(error).__name__)
    return replace(
        prediction,
        status=Status.FAILED,
        error=type(error).__name__,
        reason="unexpected failure; CXR_RAG_LOG=DEBUG shows where. Please report it.",
        draft=Draft(),
        check=None,
    )
