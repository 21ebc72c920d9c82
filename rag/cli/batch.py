"""`cxr-rag batch`: whole folders and lists of images to predictions.jsonl."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rag.errors import BatchUsageError

if TYPE_CHECKING:
    from rag.batch.command import BatchOptions
    from rag.batch.runner import Summary

EXIT_USAGE, EXIT_FAILED = 2, 3

Config = Annotated[str, typer.Option("--config", help="A preset (cpu, gpu) or a TOML file.")]
Source = Annotated[
    Path | None,
    typer.Argument(
        metavar="IN", help="Folder, DICOMDIR, image, or a list: .csv, .jsonl, ReXrank .json."
    ),
]
Output = Annotated[Path | None, typer.Argument(metavar="OUT", help="Folder for the predictions.")]
InputJson = Annotated[Path | None, typer.Option("--input_json_file", help="ReXrank: studies.")]
SaveJson = Annotated[
    Path | None, typer.Option("--save_json_file", help="ReXrank: the same with drafts.")
]
ImageRoot = Annotated[
    Path | None, typer.Option("--img_root_dir", help="Folder that a list's paths are in.")
]


def batch(
    source: Source = None,
    output: Output = None,
    *,
    config: Config = "cpu",
    by_folder: Annotated[
        bool, typer.Option("--by-folder", help="PNG and JPEG files of one folder are one study.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Do failed studies again.")
    ] = False,
    engine: Annotated[
        str, typer.Option(help="local; or ray: read and encode on many machines.")
    ] = "local",
    ray_address: Annotated[str, typer.Option(help="Of a running Ray cluster.")] = "",
    input_json_file: InputJson = None,
    save_json_file: SaveJson = None,
    img_root_dir: ImageRoot = None,
) -> None:
    """Draft a report for every study of a folder or list; goes on where it was interrupted.

    Exit codes: 0 every study has a draft or was refused; 2 wrong usage; 3 some failed; 130, 143
    ended by Ctrl-C or SIGTERM.
    """
    from rag.batch.command import BatchOptions, Engine  # noqa: PLC0415
    from rag.batch.rexrank import refuse_foreign_file, work_folder  # noqa: PLC0415

    if save_json_file is not None and input_json_file is not None and source is None:
        source, output = input_json_file, work_folder(save_json_file)
    elif input_json_file is not None or save_json_file is not None:
        raise typer.BadParameter("--input_json_file and --save_json_file stand for IN and OUT")
    if source is None or output is None:
        raise typer.BadParameter("name IN and OUT")
    if engine not in list(Engine):
        raise typer.BadParameter(f"--engine is {engine!r}, not local or ray")
    options = BatchOptions(
        source=source,
        output=output,
        root=img_root_dir,
        by_folder=by_folder,
        retry_failed=retry_failed,
        engine=Engine(engine),
        ray_address=ray_address,
    )
    try:
        if save_json_file is not None:
            refuse_foreign_file(save_json_file)
        code = _run(config, options)
    except BatchUsageError as error:
        typer.secho(f"cxr-rag: {error}", err=True, fg="red")
        sys.exit(EXIT_USAGE)
    if save_json_file is not None:
        _write_rexrank(source, save_json_file, output)
    sys.exit(code)


def _run(config: str, options: "BatchOptions") -> int:
    """Run it, say how it went, and give the exit code."""
    from rag.batch.command import Interrupted, run_batch_command  # noqa: PLC0415
    from rag.settings import load_settings  # noqa: PLC0415

    try:
        summary = run_batch_command(load_settings(config), options, say=_say)
    except Interrupted as ended:
        _say("ended early; the same command goes on from here")
        return ended.code
    _print_summary(summary, options.output)
    return 0 if summary.complete else EXIT_FAILED


def _write_rexrank(input_json_file: Path, save_json_file: Path, folder: Path) -> None:
    from rag.batch.output import PREDICTIONS  # noqa: PLC0415
    from rag.batch.rexrank import write_rexrank  # noqa: PLC0415

    if (folder / PREDICTIONS).exists():
        count = write_rexrank(input_json_file, save_json_file, folder / PREDICTIONS)
        typer.echo(f"{save_json_file}: {count} studies")


def _print_summary(summary: "Summary", folder: Path) -> None:
    counts = summary.counts
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(summary.statuses.items()))
    typer.echo(f"{counts.total} studies: {statuses or 'none done'}")
    for error, count in counts.errors.most_common():
        typer.echo(f"  failed, {error}: {count}")
    if counts.errors:
        typer.echo("  `--retry-failed` does them again; the reasons are in predictions.jsonl")
    typer.echo(
        f"{counts.now.total()} in this run, {counts.rate:.2f} a second; {folder / 'summary.json'}"
    )


def _say(line: str) -> None:
    typer.echo(line, err=True)
