"""The local engine: reading and encoding, asking, and writing at the same time, in bounded memory.

    studies ─▶ prepare (a few threads) ─▶ queue ─▶ finish (many threads) ─▶ queue ─▶ the caller

Preparing needs the processor, finishing mostly waits for the model; how many questions are really
under way is the model's matter (`rag.replicas`). The queues are short: when the model is slow,
preparing waits. What comes out, comes in the order of its completion.
"""

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Generic, TypeVar

from rag.errors import BatchError
from rag.pipeline import Prepared, ReportPipeline
from rag.prediction import Prediction
from rag.replicas import OutageError
from rag.schema import Draft, Status
from rag.study import Study

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_TICK = 0.1  # seconds after which a waiting thread looks whether it should still wait


class Stop:
    """Says to all threads of a run that it ends early, and why."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.error: BaseException | None = None
        self.since = math.inf

    def set(self, error: BaseException | None = None) -> None:
        """End the run; the first error counts."""
        if self.error is None:
            self.error = error
        self.since = min(self.since, time.monotonic())
        self._event.set()

    def is_set(self) -> bool:
        """Whether the run is to end."""
        return self._event.is_set()


class _Channel(Generic[_T]):
    """A bounded queue that ends: when all who put have left, or when the run is stopped."""

    def __init__(self, size: int, stop: Stop) -> None:
        self._queue: queue.Queue[_T] = queue.Queue(size)
        self._stop = stop
        self._lock = threading.Lock()
        self._writers = 0
        self._closed = threading.Event()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Somebody puts things here for as long as the block runs; call `join` first."""
        try:
            yield
        finally:
            with self._lock:
                self._writers -= 1
                if not self._writers:
                    self._closed.set()

    def join(self, writers: int) -> None:
        """So many will be writing."""
        self._writers = writers

    def put(self, item: _T, *, even_if_stopped: bool = False) -> bool:
        """Put it, when there is room; False if the run was stopped first."""
        while even_if_stopped or not self._stop.is_set():
            with suppress(queue.Full):
                self._queue.put(item, timeout=_TICK)
                return True
        return False

    def taking(self, *, grace_seconds: float = math.inf) -> Iterator[_T]:
        """Everything that is put; after a stop for so many seconds at the most."""
        while True:
            try:
                yield self._queue.get(timeout=_TICK)
            except queue.Empty:
                if self._closed.is_set() and self._queue.empty():
                    return
                if time.monotonic() > self._stop.since + grace_seconds:
                    return


Prepare = Callable[[Iterable[Study], Stop], Iterator[Prepared]]
"""An engine's first half: studies to work, in any order. `rag.batch.ray` has another."""


def run_stages(
    studies: Iterable[Study],
    pipeline: ReportPipeline,
    *,
    stop: Stop,
    prepare: Prepare,
    askers: int,
    grace_seconds: float = 30,
) -> Iterator[Prediction]:
    """The predictions of all studies, as they are finished.

    After ``stop.set()`` no study is begun; those whose question is under way are still finished.

    Args:
        studies: taken as they are needed.
        pipeline: its `finish` is called from many threads.
        stop: ends the run early; set here when something breaks that is no study's fault.
        prepare: the first half.
        askers: threads that ask; more than the model's servers ever take are idle.
        grace_seconds: how long answers are waited for after a stop.

    Raises:
        BatchError: the model is gone; what was not asked was not done, and is no failure.
    """
    finished: _Channel[Prediction] = _Channel(2 * askers, stop)
    ready: _Channel[Prepared] = _Channel(askers, stop)
    ready.join(1)
    finished.join(askers)

    def feed() -> None:
        with ready.writing(), _ending_on_error(stop):
            for work in prepare(studies, stop):
                if not ready.put(work):
                    return

    def ask() -> None:
        with finished.writing(), _ending_on_error(stop):
            for work in ready.taking():
                if stop.is_set():
                    continue  # empty the queue; this study is done by the next run
                finished.put(_finished(pipeline, work), even_if_stopped=True)

    _start(feed, "feed")
    for number in range(askers):
        _start(ask, f"ask-{number}")
    yield from finished.taking(grace_seconds=grace_seconds)
    if stop.error is not None:
        raise stop.error


def threaded_prepare(pipeline: ReportPipeline, *, threads: int) -> Prepare:
    """Prepare in this process: images are read and decoded side by side."""

    def prepare(studies: Iterable[Study], stop: Stop) -> Iterator[Prepared]:
        ready: _Channel[Prepared] = _Channel(threads, stop)
        ready.join(threads)
        source = iter(studies)
        taking = threading.Lock()

        def read() -> None:
            with ready.writing(), _ending_on_error(stop):
                while not stop.is_set():
                    with taking:
                        study = next(source, None)
                    if study is None or not ready.put(prepared(pipeline, study)):
                        return

        for number in range(threads):
            _start(read, f"prepare-{number}")
        yield from ready.taking()

    return prepare


def prepared(pipeline: ReportPipeline, study: Study) -> Prepared:
    """The first half of a study; not even a mistake of ours ends the run."""
    try:
        return pipeline.prepare(study)
    except Exception as error:  # noqa: BLE001 - unattended: the other studies must go on
        return Prepared(study, _broken(pipeline.begun(study), error))


def _finished(pipeline: ReportPipeline, work: Prepared) -> Prediction:
    try:
        return pipeline.finish(work)
    except OutageError:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        return _broken(work.prediction, error)


def _broken(latest: Prediction, error: Exception) -> Prediction:
    """A failure nobody foresaw. Its words may quote the image: they go to DEBUG alone."""
    logger.debug("unexpected failure of a study", exc_info=error)
    logger.error("a study failed in a way that was not foreseen: %s", type(error).__name__)
    return replace(
        latest,
        status=Status.FAILED,
        error=type(error).__name__,
        reason="failed in a way that was not foreseen; CXR_RAG_LOG=DEBUG shows where. Please "
        "report it.",
        draft=Draft(),
        check=None,
    )


def _start(target: Callable[[], None], name: str) -> None:
    # daemons: a request that hangs must not keep a process from ending that was told to end
    threading.Thread(target=target, name=f"batch-{name}", daemon=True).start()


@contextmanager
def _ending_on_error(stop: Stop) -> Iterator[None]:
    """Whatever breaks a thread ends the run: a study's own failures never come this far."""
    try:
        yield
    except OutageError as error:
        stop.set(BatchError(f"stopped: {error}") if not stop.is_set() else None)
    except BaseException as error:
        logger.debug("a thread of the batch broke", exc_info=error)
        stop.set(error)
