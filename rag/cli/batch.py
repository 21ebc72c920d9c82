"""`cxr-rag batch`: folders and lists of images -> predictions.jsonl."""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rag.cli.options import EXIT_FAILED, Config, NoLlm, progress_bars, read_settings, say
from rag.errors import UsageError

if TYPE_CHECKING:
    from rag.batch.inputs import BatchStudy
    from rag.batch.output import BatchOutput
    from rag.batch.runner import Counts
    from rag.batch.workers import Stop
    from rag.settings import Settings


def batch(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="IN", help="Folder, DICOMDIR, image, or a list: .csv, .jsonl, ReXrank .json."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Argument(metavar="OUT", help="Folder for the predictions.")
    ] = None,
    *,
    config: Config = "cpu",
    no_llm: NoLlm = False,
    by_folder: Annotated[
        bool,
        typer.Option("--by-folder", help="Treat the PNG and JPEG files of a folder as one study."),
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Retry failed studies.")
    ] = False,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="ray reads and encodes on many machines.")
    ] = "local",
    ray_address: Annotated[
        str, typer.Option(help="Address of a running Ray cluster; default: start one here.")
    ] = "",
    input_json_file: Annotated[
        Path | None, typer.Option("--input_json_file", help="ReXrank: input studies.")
    ] = None,
    save_json_file: Annotated[
        Path | None,
        typer.Option("--save_json_file", help="ReXrank: output, the input with drafts."),
    ] = None,
    img_root_dir: Annotated[
        Path | None,
        typer.Option("--img_root_dir", help="Folder that the paths of a list are relative to."),
    ] = None,
) -> None:
    """Draft a report for every study in a folder or list; resumes where it was interrupted.

    Exit codes: 0 every study has a draft or was refused; 2 wrong usage; 3 some failed; 130, 143
    interrupted by Ctrl-C or SIGTERM.
    """
    settings = read_settings(config, no_llm=no_llm)
    from rag.batch import manifests
    from rag.batch.output import open_output
    from rag.batch.workers import Stop

    if save_json_file is not None and input_json_file is not None and source is None:
        source, output = input_json_file, manifests.work_folder(save_json_file)
    elif input_json_file is not None or save_json_file is not None:
        raise UsageError(
            "--input_json_file and --save_json_file go together and replace IN and OUT"
        )
    if source is None or output is None:
        raise UsageError("name IN and OUT")
    stop = Stop()
    with open_output(output) as out:
        studies = _list_studies(source, out, root=img_root_dir, by_folder=by_folder)
        ray = ray_address if engine == "ray" else None
        counts = _run(settings, studies, out, stop, ray_address=ray, retry_failed=retry_failed)
        if save_json_file is not None and out.predictions.exists():
            count = manifests.write_rexrank(source, save_json_file, out.predictions)
            typer.echo(f"{save_json_file}: {count} studies")
    if stop.signal:
        say("interrupted; run the same command to resume")
        sys.stdout.flush()
        os._exit(128 + stop.signal)  # without waiting for a thread that hangs
    _print_summary(counts, output)
    if not counts.complete:
        sys.exit(EXIT_FAILED)


def _list_studies(
    source: Path, output: "BatchOutput", *, root: Path | None, by_folder: bool
) -> "Sequence[BatchStudy]":
    from rag.batch.grouping import group_images
    from rag.batch.inputs import list_images

    listing = list_images(source, root=root, skip_folder=output.folder)
    studies, problems = group_images(listing.images, by_folder=by_folder)
    for problem in (*listing.problems, *problems):
        say(f"note: {problem}")
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(listing.skipped.items()))
    skipped = f" (skipped: {kinds})" if kinds else ""
    if not studies:
        raise UsageError(f"there is no image in {source}{skipped}")
    say(f"{len(listing.images)} images of {len(studies)} studies{skipped}")
    return studies


def _run(
    settings: "Settings",
    studies: "Sequence[BatchStudy]",
    output: "BatchOutput",
    stop: "Stop",
    *,
    ray_address: str | None,
    retry_failed: bool,
) -> "Counts":
    from rag.batch.runner import run_batch
    from rag.batch.workers import Engine, threaded_prepare
    from rag.factory import load_encoder, open_pipeline
    from rag.llm.vllm_server import LlmServer, is_alive

    with ExitStack() as resources:
        llm = resources.enter_context(LlmServer(settings, say=say))
        pipeline = resources.enter_context(open_pipeline(settings, load_encoder(settings)))
        llm.wait()
        if ray_address is None:
            prepare = threaded_prepare(pipeline, threads=settings.batch.num_workers)
        else:
            from rag.batch.ray import ray_prepare

            prepare = resources.enter_context(ray_prepare(settings, address=ray_address))
        resources.enter_context(_stopped_by_signals(stop))
        advance = resources.enter_context(progress_bars())
        engine = Engine(
            pipeline,
            prepare,
            # without a model there is nothing to wait for: threads would only take turns
            max_concurrency=settings.batch.max_concurrency if settings.llm.enabled else 1,
            outage_timeout_s=settings.batch.outage_timeout_s,
            is_alive=partial(is_alive, settings.llm),
            stop=stop,
        )
        return run_batch(
            studies,
            engine,
            output,
            retry_failed=retry_failed,
            progress=lambda counts: advance(
                "studies", counts.done, counts.total, _progress_note(counts)
            ),
        )


@contextmanager
def _stopped_by_signals(stop: "Stop") -> Iterator[None]:
    """Ctrl-C and SIGTERM finish the studies in progress; a second one exits at once."""

    def handle(number: int, _: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        say("stopping: finishing drafts in progress, up to 30 s; interrupt again to stop now")
        stop.set(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _progress_note(counts: "Counts") -> str:
    failed = f", {counts.errors.total()} failed" if counts.errors else ""
    return f"{failed}, {counts.rate:.2f}/s"


def _print_summary(counts: "Counts", folder: Path) -> None:
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(counts.statuses.items()))
    typer.echo(f"{counts.total} studies: {statuses or 'none done'}")
    for error, count in counts.errors.most_common():
        typer.echo(f"  failed, {error}: {count}")
    if counts.errors:
        typer.echo("  `--retry-failed` retries them; the reasons are in predictions.jsonl")
    done = f"{counts.this_run.total()} in this run, {counts.rate:.2f} per second"
    typer.echo(f"{done}; {folder / 'summary.json'}")
