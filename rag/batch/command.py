"""What `cxr-rag batch` does; `rag.cli.batch` only parses and prints."""

import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import FrameType

from rag.batch.grouping import BatchStudy, group_images
from rag.batch.inputs import Listing, list_images
from rag.batch.output import BatchOutput
from rag.batch.runner import Counts, Summary, run_batch
from rag.batch.workers import Prepare, Stop, threaded_prepare
from rag.errors import BatchUsageError
from rag.factory import load_encoder, open_pipeline
from rag.llm.vllm_server import LlmServer
from rag.pipeline import ReportPipeline
from rag.replicas import ReplicaPool
from rag.settings import Settings

logger = logging.getLogger(__name__)

Say = Callable[[str], None]

LINE_SECONDS = 30  # between two lines of progress where nobody watches a bar


class Engine(StrEnum):
    """Where images are read and encoded."""

    LOCAL = "local"
    RAY = "ray"


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What a user may say about a batch.

    Attributes:
        source: folder, DICOMDIR, list or image.
        output: folder that is written.
        root: what relative paths of a list are relative to.
        by_folder: PNG and JPEG files of one folder are one study.
        retry_failed: do failed studies again.
        engine: where images are read and encoded.
        ray_address: of a running Ray cluster; empty starts one here.
    """

    source: Path
    output: Path
    root: Path | None = None
    by_folder: bool = False
    retry_failed: bool = False
    engine: Engine = Engine.LOCAL
    ray_address: str = ""


def run_batch_command(settings: Settings, options: BatchOptions, *, say: Say) -> Summary:
    """List, group, and do what is left.

    Raises:
        BatchUsageError: the input or output cannot be used.
        OutputError, BatchError: as for `rag.batch.runner.run_batch`.
    """
    with ExitStack() as running:
        output = running.enter_context(BatchOutput(options.output))
        studies = _studies(options, say=say)
        output.read_done()  # refuses a foreign file before anything heavy is started
        stop = Stop()
        llm = running.enter_context(LlmServer(settings, say=say))
        pipeline = running.enter_context(open_pipeline(settings, load_encoder(settings)))
        pool = ReplicaPool.of(
            settings.llm,
            max_concurrency=settings.batch.max_concurrency,
            outage_timeout_s=settings.batch.outage_timeout_s,
        )
        pipeline.drafter.llm = pool
        llm.wait()
        running.enter_context(stopped_by_signals(stop, pool.stop, say=say))
        return run_batch(
            studies,
            pipeline,
            output,
            prepare=running.enter_context(_prepare(settings, options, pipeline)),
            askers=settings.batch.max_concurrency * (1 + len(settings.llm.replicas)),
            stop=stop,
            retry_failed=options.retry_failed,
            progress=running.enter_context(progress_shown(say=say)),
        )


@contextmanager
def _prepare(
    settings: Settings, options: BatchOptions, pipeline: ReportPipeline
) -> Iterator[Prepare]:
    if options.engine is Engine.RAY:
        from rag.batch.ray import ray_prepare  # noqa: PLC0415 - an extra

        with ray_prepare(settings, address=options.ray_address) as prepare:
            yield prepare
    else:
        yield threaded_prepare(pipeline, threads=settings.batch.num_workers)


def _studies(options: BatchOptions, *, say: Say) -> Sequence[BatchStudy]:
    listing = list_images(options.source, root=options.root, leave_out=options.output)
    for problem in listing.problems:
        say(f"note: {problem}")
    if not listing.images:
        raise BatchUsageError(f"there is no image in {options.source}{_skipped(listing)}")
    studies = group_images(listing.images, by_folder=options.by_folder)
    say(f"{len(listing.images)} images of {len(studies)} studies{_skipped(listing)}")
    return studies


def _skipped(listing: Listing) -> str:
    parts = ", ".join(f"{count} {why}" for why, count in sorted(listing.skipped.items()))
    return f" (passed over: {parts})" if parts else ""


@contextmanager
def stopped_by_signals(stop: Stop, let_go: Callable[[], None], *, say: Say) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run in order: what is under way is finished, nothing is begun.

    A second one ends it at once; what was written stays.
    """

    def end(number: int, _: FrameType | None) -> None:
        if stop.is_set():
            raise SystemExit(128 + number)
        say("ending: drafts under way are finished, for 30 s at most; once more ends at once")
        stop.set(Interrupted(number))
        let_go()

    before = {one: signal.signal(one, end) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


class Interrupted(Exception):  # noqa: N818 - not an error
    """The user ended the run.

    Attributes:
        code: exit code, 128 and the signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by signal {number}")
        self.code = 128 + number


@contextmanager
def progress_shown(*, say: Say) -> Iterator[Callable[[Counts], None]]:
    """A bar on a terminal, a line now and then elsewhere: how many, how fast, how long still."""
    from rich import progress  # noqa: PLC0415 - only a run needs it
    from rich.console import Console  # noqa: PLC0415

    console = Console(stderr=True)
    last = time.monotonic()
    with progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("studies", total=None)

        def show(counts: Counts) -> None:
            nonlocal last
            if console.is_terminal:
                line = progress_line(counts)
                bar.update(task, description=line, completed=counts.done, total=counts.total)
            elif time.monotonic() - last > LINE_SECONDS:
                last = time.monotonic()
                say(progress_line(counts))

        yield show


def progress_line(counts: Counts) -> str:
    """How far a run has come, in a line."""
    failed = f", {counts.errors.total()} failed" if counts.errors else ""
    left = counts.seconds_left
    until = f", {_duration(left)} left" if left is not None else ""
    return f"{counts.done} of {counts.total} studies{failed}, {counts.rate:.2f}/s{until}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
