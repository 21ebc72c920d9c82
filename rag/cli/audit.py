"""`cxr-rag replay RECORD` and `cxr-rag audit verify | list`: the audit record from the shell."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rag.cli.options import EXIT_FAILED, Config, read_settings, say
from rag.errors import UsageError
from rag.schema import NOTICE

if TYPE_CHECKING:
    from rag.review.audit import AuditLog

app = typer.Typer(help="The audit record of the reading room.", no_args_is_help=True)

File = Annotated[
    Path | None, typer.Option("--file", help="Audit record; default: the one in home.")
]


@app.command()
def verify(
    config: Config = "cpu",
    file: File = None,
    last: Annotated[
        str, typer.Option(help="A hash you noted earlier; fails if the record lacks it.")
    ] = "",
) -> None:
    """Verify that no line was changed, removed, added or moved; name the first that was."""
    from rag.review.audit import AuditError

    log = _open_log(config, file)
    count, found = log.verify()
    if last and last not in {entry.sha256 for entry in log.entries()}:
        raise AuditError(f"no line has the hash {last}: this is another record, or a rewritten one")
    typer.echo(f"{count} lines in order; last hash {found}")


@app.command("list")
def list_drafts(config: Config = "cpu", file: File = None) -> None:
    """List drafts, one per line: id, time, status, and the events after it."""
    log = _open_log(config, file)
    drafts: dict[str, list[str]] = {}
    for entry in log.entries():
        drafts.setdefault(entry.draft, []).append(entry.event)
        if entry.event == "draft":
            drafts[entry.draft][0] = f"{entry.at} {entry.data['status']}"
    for draft, (first, *events) in drafts.items():
        typer.echo(f"{draft}  {first}  {' '.join(events)}")


def replay(
    record: Annotated[str, typer.Argument(metavar="DRAFT", help="Id of a draft, or its start.")],
    config: Config = "cpu",
    file: File = None,
) -> None:
    """Rebuild the prompt of a recorded draft and compare it byte for byte."""
    from rag.factory import template_folder
    from rag.index import ReportIndex
    from rag.review.replay import replay as replay_draft

    settings = read_settings(config)
    with ReportIndex(settings.index_dir, url=settings.chroma_url) as index:
        replayed = replay_draft(
            _open_log(config, file), record, index=index, templates=template_folder(settings)
        )
    for role, content in replayed.prompt.messages:
        typer.echo(f"--- {role}\n{content}")
    typer.echo(f"--- answer then ({NOTICE})\n{replayed.answer}")
    for difference in replayed.differences:
        say(difference)
    verdict = "identical" if replayed.is_identical else "NOT the prompt that was sent"
    say(f"{verdict}: recorded {replayed.recorded_sha256}, now {replayed.prompt.sha256}")
    if not replayed.is_identical:
        sys.exit(EXIT_FAILED)


def _open_log(config: str, file: Path | None) -> "AuditLog":
    from rag.review.audit import AuditLog

    if file is not None and not file.is_file():
        raise UsageError(f"there is no audit record {file}")
    return AuditLog(file or read_settings(config).audit_file)
