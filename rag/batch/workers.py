"""The local engine: images are prepared, and what is prepared is drafted, side by side.

    studies ─▶ prepare (a few threads) ─▶ finish (many threads) ─▶ the caller

Preparing needs the processor, finishing mostly waits for the model. Both are bounded: when the
model is slow, preparing waits. Results come in order of completion.
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
from rag.pipeline import Prepared, ReportPipeline
from rag.prediction import Prediction
from rag.schema import Draft, Status
from rag.study import Study

logger = logging.getLogger(__name__)

GRACE_SECONDS = 30.0
"""How long drafts under way are waited for after a `Stop`."""

LONGEST_PAUSE_SECONDS = 15.0
_TICK_SECONDS = 0.2  # after which a stop is noticed

Prepare = Callable[[Iterable[Study]], Iterator[Prepared]]
"""An engine's first half, in any order. `rag.batch.ray` has another."""


class Stop(threading.Event):
    """Ends a run early: no study is begun, and drafts under way are waited for a while.

    Attributes:
        since: when, by `time.monotonic`.
        signal: number of the signal that ended it, if one did.
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
    """Drafts studies side by side.

    Attributes:
        pipeline: its `finish` is called from many threads.
        prepare: the first half.
        max_concurrency: drafts under way at once.
        outage_timeout_s: how long a model server that answers nobody is waited for.
        is_alive: whether it is there; asked only after failures, to tell a server that is gone from
            a study that it cannot answer.
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
        """The predictions of all studies, as they are finished; studies are taken as needed.

        Raises:
            BatchError: the model is gone; what was not asked was not done, and is no failure.
        """
        drafters = ThreadPoolExecutor(self.max_concurrency, thread_name_prefix="draft")
        under_way: set[Future[Prediction | None]] = set()
        try:
            for prepared in self.prepare(studies):
                if self.stop.is_set():
                    break
                under_way.add(drafters.submit(self._finish, prepared))
                yield from self._finished(under_way, most_left=self.max_concurrency - 1)
            yield from self._finished(under_way, most_left=0)
        finally:
            drafters.shutdown(wait=False, cancel_futures=True)

    def _finished(
        self, under_way: set[Future[Prediction | None]], *, most_left: int
    ) -> Iterator[Prediction]:
        """Take out what is done; wait until at most so many are left."""
        while under_way and time.monotonic() < self.stop.since + GRACE_SECONDS:
            full = len(under_way) > most_left
            done, _ = wait(under_way, _TICK_SECONDS if full else 0, FIRST_COMPLETED)
            under_way.difference_update(done)
            yield from map(count_prediction, filter(None, (future.result() for future in done)))
            if not full:
                return

    def _finish(self, prepared: Prepared) -> Prediction | None:
        """The second half; None where the run was stopped before the model could be asked."""
        since, pause = time.monotonic(), 0.5
        while not self.stop.is_set():
            try:
                prediction = self.pipeline.finish(prepared)
            except Exception as error:  # noqa: BLE001 - unattended: the other studies must go on
                return _broken(prepared.prediction, error)
            if not self._must_wait(prediction.error, since=since):
                if prediction.status is Status.OK and prediction.answer:  # else nobody was asked
                    self._last_answer = time.monotonic()
                return prediction
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            self.stop.wait(pause * random.uniform(0.5, 1))  # noqa: S311 - so that not all ask at once
        return None

    def _must_wait(self, error: str, *, since: float) -> bool:
        """Whether the model is to be asked again later; else the failure is the study's own."""
        busy = error == LlmBusyError.__name__
        if not busy and error != LlmUnavailableError.__name__:
            return False
        if not busy and (self._last_answer > since or self.is_alive()):
            return False
        silent = time.monotonic() - max(self._last_answer, since)
        if silent > self.outage_timeout_s:
            raise BatchError(
                f"stopped: no model server has answered for {silent:.0f} s. Look at its log, then "
                "give the same command again: it resumes"
            )
        return True


def threaded_prepare(pipeline: ReportPipeline, *, threads: int) -> Prepare:
    """Prepare in this process: images are read and encoded side by side, a few ahead."""
    work = partial(prepare_study, pipeline)
    return lambda studies: map_ahead(work, studies, threads=threads, ahead=2 * threads)


def prepare_study(pipeline: ReportPipeline, study: Study) -> Prepared:
    """The first half of a study; not even a mistake of ours ends the run."""
    try:
        return pipeline.prepare(study)
    except Exception as error:  # noqa: BLE001 - as above
        return Prepared(study, _broken(pipeline.start_prediction(study), error))


def _broken(prediction: Prediction, error: Exception) -> Prediction:
    """A failure nobody foresaw. Its words may quote the image: they go to DEBUG alone."""
    logger.debug("unexpected failure of a study", exc_info=error)
    logger.error("a study failed in a way that was not foreseen: %s", type(error).__name__)
    return replace(
        prediction,
        status=Status.FAILED,
        error=type(error).__name__,
        reason="failed in a way that was not foreseen; CXR_RAG_LOG=DEBUG shows where. Please "
        "report it.",
        draft=Draft(),
        check=None,
    )
