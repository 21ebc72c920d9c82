"""Progress bars of the command line: a bar a stage, with counts and the time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import progress
from rich.console import Console

Progress = Callable[[str, int, int], None]


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """A callback ``(stage, done, total)`` that draws on stderr; silent if that is no terminal."""
    console = Console(stderr=True)
    tasks: dict[str, progress.TaskID] = {}
    with progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bars:

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield advance
