"""What all commands share: exit codes, options, messages and progress."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rag.settings import Settings

_PROGRESS_INTERVAL_S = 30
"""Between two lines of progress if the output is not a terminal."""

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
    """Print a message to stderr, so that stdout holds only results."""
    typer.echo(line, err=True)


def print_error(line: str) -> None:
    """Print an error in red to stderr."""
    typer.secho(line, err=True, fg="red")


def fail(reason: object, code: int) -> None:
    """Exit with a one-line error."""
    print_error(f"cxr-rag: {reason}")
    sys.exit(code)


ShowProgress = Callable[..., None]
"""Called as (stage, done, total), with an optional note."""


@contextmanager
def progress_bars() -> Iterator[ShowProgress]:
    """Progress bars on a terminal; otherwise a line now and then."""
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    tasks: dict[str, progress.TaskID] = {}
    printed_at = time.monotonic()
    with progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bars:

        def advance(stage: str, done: int, total: int, note: str = "") -> None:
            nonlocal printed_at
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total, description=stage + note)
            if not console.is_terminal and time.monotonic() - printed_at > _PROGRESS_INTERVAL_S:
                printed_at = time.monotonic()
                seconds = bars.tasks[tasks[stage]].time_remaining
                left = f", {round(seconds / 60)} min left" if seconds else ""
                console.print(f"{stage}: {done} of {total}{note}{left}")

        yield advance
