"""Progress bars of the command line: a bar a stage, with counts and the time left."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich import progress
from rich.console import Console

if TYPE_CHECKING:
    from rag.batch.runner import Counts

Progress = Callable[[str, int, int], None]

LINE_SECONDS = 30
"""Between two lines of progress where nobody watches a bar."""


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """A callback ``(stage, done, total)``: bars on a terminal, a line now and then elsewhere."""
    console = Console(stderr=True)
    tasks: dict[str, progress.TaskID] = {}
    last = time.monotonic()
    with progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bars:

        def advance(stage: str, done: int, total: int) -> None:
            nonlocal last
            if not console.is_terminal and time.monotonic() - last > LINE_SECONDS:
                last = time.monotonic()
                console.print(f"{stage}: {done} of {total}")
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield advance


@contextmanager
def batch_progress(*, say: Callable[[str], None]) -> Iterator[Callable[["Counts"], None]]:
    """How far a batch is: a bar on a terminal, a line now and then elsewhere."""
    console = Console(stderr=True)
    last = time.monotonic()
    with progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("studies", total=None)

        def show(counts: "Counts") -> None:
            nonlocal last
            if console.is_terminal:
                line = progress_line(counts)
                bar.update(task, description=line, completed=counts.done, total=counts.total)
            elif time.monotonic() - last > LINE_SECONDS:
                last = time.monotonic()
                say(progress_line(counts))

        yield show


def progress_line(counts: "Counts") -> str:
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
