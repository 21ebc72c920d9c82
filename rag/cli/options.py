"""What all commands share: exit codes, options, what is printed where."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rag.settings import Settings

LINE_SECONDS = 30
"""Between two lines of progress where the output is not a terminal."""

EXIT_USAGE, EXIT_FAILED = 2, 3
EXIT_CODES = "Exit codes: 0 done, 1 bug, 2 wrong usage or settings, 3 something failed."

Config = Annotated[str, typer.Option("--config", help="A preset (cpu, gpu) or a TOML file.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]
NoLlm = Annotated[bool, typer.Option("--no-llm", help="Draft without a language model.")]
StudyIds = Annotated[
    list[str] | None, typer.Option("--study-id", help="Never retrieve this study's reports.")
]
PatientIds = Annotated[
    list[str] | None, typer.Option("--patient-id", help="Never retrieve this patient's reports.")
]
Images = Annotated[list[Path], typer.Argument(metavar="FILE...", help="DICOM, PNG or JPEG.")]
Source = Annotated[Path, typer.Argument(metavar="IN", help="Folder, DICOMDIR, list, or image.")]


def read_settings(config: str, *, no_llm: bool = False) -> "Settings":
    """The settings of a command.

    Raises:
        SettingsError: see `rag.config_file.load_settings`.
    """
    from rag.config_file import load_settings

    settings = load_settings(config)
    if no_llm:
        llm = settings.llm.model_copy(update={"enabled": False})
        settings = settings.model_copy(update={"llm": llm})
    return settings


def say(line: str) -> None:
    """Tell the user what happens: on stderr, so that stdout holds only results."""
    typer.echo(line, err=True)


def print_error(line: str) -> None:
    """What went wrong, in red on stderr."""
    typer.secho(line, err=True, fg="red")


def fail(reason: object, code: int) -> None:
    """End with one line."""
    print_error(f"cxr-rag: {reason}")
    sys.exit(code)


ShowProgress = Callable[..., None]
"""Told a stage, how much of it is done, of how much, and perhaps what else is to be said."""


@contextmanager
def progress_bars() -> Iterator[ShowProgress]:
    """Bars on a terminal, a line now and then elsewhere: a stage, counts, the time left."""
    from rich import progress
    from rich.console import Console

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

        def advance(stage: str, done: int, total: int, note: str = "") -> None:
            nonlocal last
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total, description=stage + note)
            if not console.is_terminal and time.monotonic() - last > LINE_SECONDS:
                last = time.monotonic()
                seconds = bars.tasks[tasks[stage]].time_remaining
                left = f", {round(seconds / 60)} min left" if seconds else ""
                console.print(f"{stage}: {done} of {total}{note}{left}")

        yield advance
