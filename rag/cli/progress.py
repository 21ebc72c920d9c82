"""Progress bars of the command line: a bar a stage, with counts and the time left."""

import sys
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
    last = time.monotonic()
    with progress_bars() as advance:

        def show(counts: "Counts") -> None:
            nonlocal last
            advance("studies", counts.done, counts.total)
            if not sys.stderr.isatty() and time.monotonic() - last > LINE_SECONDS:
                last = time.monotonic()
                failed = f", {counts.errors.total()} failed" if counts.errors else ""
                say(f"{counts.done} of {counts.total} studies{failed}, {counts.rate:.2f}/s")

        yield show
