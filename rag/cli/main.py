"""The command line: `cxr-rag demo | index | query | generate | batch | eval | doctor | ...`.

Exit codes: 0 everything done, 1 a bug of ours, 2 wrong usage or settings, 3 a study, a store or a
server failed (said in one line). Heavy modules are imported inside the commands, so that `--help`
answers at once.
"""

import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eval.cli import app as eval_app
from rag.cli import audit, batch, deidentify, index, pacs, train
from rag.errors import CxrRagError, SettingsError
from rag.schema import NOTICE

if TYPE_CHECKING:
    from rag.settings import Settings

EXIT_USAGE, EXIT_FAILED = 2, 3

app = typer.Typer(
    help=f"Draft chest X-ray reports from evidence. {NOTICE}.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    epilog="Exit codes: 0 done, 1 a bug, 2 wrong usage or settings, 3 something failed.",
)
app.add_typer(index.app, name="index")
app.add_typer(eval_app, name="eval", help="Score drafts and encoders; numbers with intervals.")
app.add_typer(audit.app, name="audit")
app.command()(audit.replay)
app.command()(batch.batch)
app.command()(train.train)
app.command()(train.embed)
app.command()(deidentify.deid)
app.add_typer(pacs.app, name="dicomweb")
app.command()(pacs.receive)

Config = Annotated[str, typer.Option("--config", help="A preset (cpu, gpu) or a TOML file.")]
Images = Annotated[list[Path], typer.Argument(metavar="FILE...", help="DICOM, PNG or JPEG.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
StudyIds = Annotated[
    list[str] | None, typer.Option("--study-id", help="Never retrieve this study's reports.")
]
PatientIds = Annotated[
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
    from app import serve  # noqa: PLC0415
    from rag.cli.demo import run_demo  # noqa: PLC0415

    settings = _settings(config)
    if port is not None:
        page = settings.page.model_copy(update={"port": port})
        settings = settings.model_copy(update={"page": page})
    run_demo(settings, open_page=serve, say=_say)


@app.command()
def query(
    what: Annotated[str, typer.Argument(metavar="FILE|TEXT", help="An image, or words.")],
    config: Config = "cpu",
    k: Annotated[int, typer.Option("-k", min=1, max=50, help="How many reports.")] = 5,
    as_json: Json = False,
) -> None:
    """Show the reports nearest to an image or to words; no language model is asked."""
    from rag.cli.commands import run_query  # noqa: PLC0415

    for line in run_query(_settings(config), what, k=k, as_json=as_json):
        typer.echo(line)


@app.command()
def generate(
    images: Images,
    *,
    config: Config = "cpu",
    as_json: Json = False,
    indication: Annotated[str, typer.Option(help="Why the image was taken.")] = "",
    study_ids: StudyIds = None,
    patient_ids: PatientIds = None,
    sr: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also write DICOM reports here.")
    ] = None,
) -> None:
    """Draft a report for each image; every sentence names the reports it rests on."""
    from rag.cli.commands import run_generate  # noqa: PLC0415

    failed = run_generate(
        _settings(config),
        images,
        as_json=as_json,
        indication=indication,
        study_ids=frozenset(study_ids or ()),
        patient_ids=frozenset(patient_ids or ()),
        sr=sr,
        say=_say,
        write=typer.echo,
    )
    if failed:
        sys.exit(EXIT_FAILED)


@app.command()
def doctor(config: Config = "cpu") -> None:
    """Check versions, weights, store, language model and disk, and say what to fix."""
    from rag.cli.doctor import examine  # noqa: PLC0415

    ill = False
    for check in examine(_settings(config)):
        mark = typer.style("fix ", fg="red") if check.cure else typer.style("ok  ", fg="green")
        typer.echo(f"{mark} {check.name}: {check.found}")
        if check.cure:
            ill = True
            typer.echo(f"     {check.cure}")
    if ill:
        sys.exit(EXIT_FAILED)


def _settings(config: str) -> "Settings":
    from rag.settings import load_settings  # noqa: PLC0415 - pydantic takes a fifth of a second

    return load_settings(config)


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _fail(error: CxrRagError, code: int) -> None:
    typer.secho(f"cxr-rag: {error}", err=True, fg="red")
    sys.exit(code)


if __name__ == "__main__":
    main()
