"""`cxr-rag index`: build the report index, verify it, rebuild it, remove from it."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rag.cli.options import EXIT_FAILED, Config, progress_bars, read_settings
from rag.errors import StoreError, UsageError

if TYPE_CHECKING:
    from rag.corpus.records import Corpus, Problem
    from rag.index import IndexSummary

app = typer.Typer(help="Build and maintain the report index.", invoke_without_command=True)

_MAX_LISTED = 20  # problems printed one by one


@app.callback()
def index(
    context: typer.Context,
    *,
    config: Config = "cpu",
    collection: Annotated[
        str, typer.Option(help="open-i, or your own reports: .csv, .jsonl or a folder of .txt.")
    ] = "open-i",
    name: Annotated[
        str, typer.Option(help="Name of the collection in the index; default: the file's name.")
    ] = "",
    licence: Annotated[str, typer.Option(help="Licence of your reports.")] = "not stated",
    attribution: Annotated[str, typer.Option(help="Attribution, shown with them.")] = "",
    exclude: Annotated[
        Path | None, typer.Option(help="File of study ids to leave out, one per line.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="CSV (study_id, image): images of these studies to embed too."),
    ] = None,
    replace: Annotated[
        bool, typer.Option(help="Start over: another encoder, or a damaged index.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what would be skipped and masked; write nothing."),
    ] = False,
) -> None:
    """Index a report collection; indexing it again adds only what has changed."""
    context.obj = config
    if context.invoked_subcommand is not None:
        return
    from rag.corpus.named import read_corpus
    from rag.corpus.records import read_exclude_file, read_images_file
    from rag.factory import index_reports, load_encoder
    from rag.index.version import scrub_memory

    scrub_memory()
    settings = read_settings(config)
    for path in (exclude, images):
        if path is not None and not path.exists():
            raise UsageError(f"there is no {path}")
    excluded = read_exclude_file(exclude) if exclude else frozenset()
    corpus = read_corpus(collection, name=name, licence=licence, attribution=attribution)
    image_files = read_images_file(images) if images else {}
    unknown = image_files.keys() - {record.study_id for record in corpus.records}
    typer.echo(f"{corpus.name}: {len(corpus.records)} reports. {corpus.attribution}")
    typer.echo(f"Licence: {corpus.licence}")
    if dry_run:
        for line in _preview_lines(corpus, excluded):
            typer.echo(line)
        return
    if not corpus.records:
        _print_problems(corpus.problems)
        raise StoreError(f"{corpus.name}: no report can be indexed, so the index stays as it is")
    with progress_bars() as progress:
        summary = index_reports(
            settings,
            corpus,
            load_encoder(settings),
            exclude=excluded,
            images=image_files,
            replace=replace,
            progress=progress,
        )
    if unknown:
        shown = ", ".join(sorted(unknown)[:_MAX_LISTED])
        typer.echo(f"{images}: {len(unknown)} studies are not in this collection: {shown}")
    for warning in corpus.warnings:
        typer.echo(f"note: {warning}")
    _print_problems(summary.problems)
    if summary.unknown_ids:
        listed = ", ".join(summary.unknown_ids[:_MAX_LISTED])
        typer.echo(f"listed, but not in this index: {listed}")
    typer.echo(_summary_line(summary))


@app.command()
def info(context: typer.Context) -> None:
    """Show what is in the index and what built it."""
    from rag.index import read_info

    settings = read_settings(context.obj)
    index_info = read_info(settings.index_dir)
    where = f" (collections on {settings.chroma_url})" if settings.chroma_url else ""
    typer.echo(f"{settings.index_dir}{where}: index {index_info.index_id}, {index_info.created}")
    typer.echo(
        f"{index_info.count} reports of {index_info.texts} texts, {index_info.images} images, "
        f"{index_info.dim} dimensions, encoder {index_info.encoder_id}"
    )
    for collection in index_info.collections:
        typer.echo(f"  {collection.name}: {collection.count} reports, {collection.licence}")


@app.command()
def verify(context: typer.Context) -> None:
    """Verify index integrity: every record, every vector, and Chroma's answers."""
    from rag.index import verify_index

    settings = read_settings(context.obj)
    report = verify_index(settings.index_dir, url=settings.chroma_url)
    for check in report.checks:
        mark = "ok  " if check.passed else "BAD "
        typer.secho(f"{mark} {check.name}: {check.detail}", fg=None if check.passed else "red")
    if not report.passed:
        sys.exit(EXIT_FAILED)


@app.command()
def rebuild(context: typer.Context) -> None:
    """Rewrite the index from its own records and vectors; nothing is embedded."""
    from rag.index import rebuild_index

    settings = read_settings(context.obj)
    with progress_bars() as progress:
        summary = rebuild_index(settings.index_dir, url=settings.chroma_url, progress=progress)
    typer.echo(_summary_line(summary))


@app.command()
def delete(
    context: typer.Context,
    study: Annotated[list[str] | None, typer.Option(help="Study id; may be repeated.")] = None,
    patient: Annotated[list[str] | None, typer.Option(help="Patient id; may be repeated.")] = None,
) -> None:
    """Remove studies or patients for good, even if their collection is indexed again."""
    from rag.index import delete_from_index

    if not study and not patient:
        raise typer.BadParameter("give a --study or a --patient")
    settings = read_settings(context.obj)
    summary = delete_from_index(
        settings.index_dir,
        url=settings.chroma_url,
        studies=frozenset(study or ()),
        patients=frozenset(patient or ()),
    )
    typer.echo(_summary_line(summary))
    if summary.unknown_ids:
        unknown = ", ".join(summary.unknown_ids)
        raise StoreError(
            f"no study or patient of this index has the id {unknown}: check its spelling"
        )


def _print_problems(problems: Sequence["Problem"]) -> None:
    for problem in problems[:_MAX_LISTED]:
        typer.echo(f"skipped or repaired: {problem}")
    if len(problems) > _MAX_LISTED:
        typer.echo(f"... and {len(problems) - _MAX_LISTED} more")
    if masked := sum("masked" in problem.reason for problem in problems):
        typer.echo(
            f"masked names, dates or numbers in {masked} sections of reports (the file itself is "
            "not changed); `cxr-rag index --dry-run` shows each place"
        )


def _summary_line(summary: "IndexSummary") -> str:
    names = ("added", "changed", "kept", "removed", "excluded", "withheld", "images")
    counts = {name: getattr(summary, name) for name in names}
    counts["reports without an image"] = summary.without_image
    counts["problems"] = len(summary.problems)
    parts = ", ".join(
        f"{count} {name}" for name, count in counts.items() if count or name == "added"
    )
    return f"{parts}; index {summary.index_id}"


def _preview_lines(corpus: "Corpus", excluded: frozenset[str]) -> Iterator[str]:
    """Lines of a dry run: what would be skipped, repaired and masked; quotes what is masked."""
    from encoders.tabular import printable
    from rag.grounding.prompt_injection import screen_report
    from rag.privacy.reports import mask_identifiers, preview_masking

    for warning in corpus.warnings:
        yield f"note: {warning}"
    for problem in corpus.problems:
        yield f"skipped or repaired: {problem}"
    kinds: Counter[str] = Counter()
    indexed = masked = 0
    for record in corpus.records:
        if record.study_id in excluded:
            continue
        indexed += 1
        places = list(preview_masking(record))
        masked += bool(places)
        kinds.update(kind for kind, _ in places)
        yield from (printable(f"masked: {shown}") for _, shown in places)
        _, reasons = screen_report(mask_identifiers(record)[0])
        yield from (printable(f"removed: {record.report_id}: {reason}") for reason in reasons)
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "nothing"
    yield (
        f"would index {indexed} reports and mask {counts} in {masked} of them; nothing was written"
    )
