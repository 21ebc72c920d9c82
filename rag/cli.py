"""The command line: `cxr-rag demo | index | query | generate | doctor`.

Exit codes: 0 everything done, 1 a bug of ours, 2 wrong usage or settings, 3 a study, a store or a
server failed (said in one line). Heavy modules are imported inside the commands, so that `--help`
answers at once.
"""

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from rag.errors import CxrRagError, SettingsError
from rag.schema import NOTICE

EXIT_USAGE, EXIT_FAILED = 2, 3

app = typer.Typer(
    help=f"Draft chest X-ray reports from evidence. {NOTICE}.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    epilog="Exit codes: 0 done, 1 a bug, 2 wrong usage or settings, 3 something failed.",
)

Config = Annotated[str, typer.Option("--config", help="A preset (cpu, gpu) or a TOML file.")]
Films = Annotated[
    list[Path], typer.Argument(metavar="FILE...", help="Films: DICOM, PNG or JPEG.", exists=True)
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
StudyId = Annotated[
    list[str] | None, typer.Option("--study-id", help="Never retrieve this study's reports.")
]
PatientId = Annotated[
    list[str] | None, typer.Option("--patient-id", help="Never retrieve this patient's reports.")
]


def main() -> None:
    """Run a command; a failure we can explain is one line, never a traceback."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.basicConfig(level=os.environ.get("CXR_RAG_LOG", "ERROR"), stream=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        app()
    except SettingsError as error:
        _fail(error, EXIT_USAGE)
    except CxrRagError as error:
        _fail(error, EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


@app.command()
def demo(
    config: Config = "cpu",
    port: Annotated[int | None, typer.Option(help="Port of the page.")] = None,
) -> None:
    """Build what is missing, start the language model, and open the reading room."""
    from rag.demo import run_demo  # noqa: PLC0415
    from rag.settings import load_settings  # noqa: PLC0415

    run_demo(load_settings(config), port=port, say=_say)


@app.command()
def query(
    text: Annotated[str, typer.Argument(help="A film (DICOM, PNG, JPEG), or words.")],
    config: Config = "cpu",
    k: Annotated[int, typer.Option("-k", min=1, max=50, help="How many reports.")] = 5,
    as_json: Json = False,
) -> None:
    """Show the reports nearest to a film or to words; no language model is used."""


@app.command()
def generate(
    films: Films,
    config: Config = "cpu",
    as_json: Json = False,
    indication: Annotated[str, typer.Option(help="Why the film was taken.")] = "",
    study_id: StudyId = None,
    patient_id: PatientId = None,
) -> None:
    """Draft a report for each film; every sentence names the reports it rests on."""


@app.command()
def doctor(config: Config = "cpu") -> None:
    """Check versions, weights, store, language model and disk, and say what to fix."""


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _fail(error: CxrRagError, code: int) -> None:
    typer.secho(f"cxr-rag: {error}", err=True, fg="red")
    sys.exit(code)
