"""The commands `cxr-rag eval score | compare | report | label | cards`.

Heavy modules are imported inside the commands, so that `--help` is fast.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from eval import cli_vectors
from eval.cli_vectors import Out, Samples, Seed, show

app = typer.Typer(
    help="Score drafts and embeddings of this system or any other.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command()
def score(
    predictions: Annotated[
        Path,
        typer.Argument(
            metavar="PREDICTIONS",
            help="predictions.jsonl, JSONL with study_id and report, or ReXrank JSON.",
        ),
    ],
    *,
    references: Annotated[
        Path,
        typer.Option(
            help="Reports to score against: Open-I studies.jsonl, CSV or JSONL with study_id and "
            "report (or findings, impression), or ReXrank JSON.",
        ),
    ],
    out: Out,
    split: Annotated[str, typer.Option(help="Score only this split of the references.")] = "",
    train: Annotated[
        Path | None,
        typer.Option(
            help="Training reports of the system, or those it retrieves, for baselines and leaks."
        ),
    ] = None,
    train_split: Annotated[str, typer.Option(help="Use only this split of --train.")] = "",
    scope: Annotated[
        Literal["report", "findings", "impression"],
        typer.Option(help="Part of the report to score."),
    ] = "report",
    measures: Annotated[
        str, typer.Option(help="Comma-separated metrics, or 'rules' or 'all'.")
    ] = "rules",
    cleaning: Annotated[
        Literal["coco-ptb", "r2gen", "cxr-report-metric"],
        typer.Option(help="Tokenization convention."),
    ] = "coco-ptb",
    name: Annotated[str, typer.Option(help="Name of the run; default: the file's name.")] = "",
    samples: Samples = 10_000,
    seed: Seed = 0,
    cache: Annotated[
        Path | None, typer.Option(help="Score cache; default: in CXR_RAG_HOME.")
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option(help="Weights of model-based metrics; default: in CXR_RAG_HOME."),
    ] = None,
    judge: Annotated[
        str, typer.Option(help="OpenAI-compatible URL of a model that judges statements.")
    ] = "",
    judge_model: Annotated[str, typer.Option(help="Name of that model on the server.")] = "",
) -> None:
    """Score drafts against references, with trivial baselines, intervals and a leak check."""
    import os

    from eval.metrics.base import KEYS, RULE_BASED, JudgeServer
    from eval.result_io import save_generation
    from eval.studies import Scope
    from eval.tasks.generation import score_generation
    from rag.settings import default_home

    groups = {"rules": RULE_BASED, "all": KEYS}
    names = [word.strip() for word in measures.split(",")] + ["judge"] * bool(judge)
    scored = score_generation(
        predictions,
        references=references,
        name=name or predictions.stem,
        measures=tuple(dict.fromkeys(k for word in names for k in groups.get(word, (word,)))),
        split=split,
        train=train,
        train_split=train_split,
        scope=Scope(scope),
        cleaning=cleaning,
        samples=samples,
        seed=seed,
        cache=cache or default_home() / "scores.sqlite",
        models=models or default_home() / "eval-models",
        judge=JudgeServer(judge, judge_model, os.environ.get("CXR_RAG_JUDGE_KEY", ""))
        if judge
        else None,
    )
    save_generation(scored, out)
    show(scored.result, out)


@app.command("compare")
def compare_runs(
    first: Annotated[Path, typer.Argument(metavar="FIRST", help="Result folder of a run.")],
    second: Annotated[
        Path, typer.Argument(metavar="SECOND", help="Result folder of another run, or the same.")
    ],
    *,
    first_system: Annotated[str, typer.Option(help="Compare this baseline of the first run.")] = "",
    second_system: Annotated[
        str, typer.Option(help="Compare this baseline of the second run.")
    ] = "",
    samples: Samples = 10_000,
    seed: Seed = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare two runs on the same studies: paired intervals, randomization test, Holm."""
    import json
    from dataclasses import asdict

    from eval.compare import as_markdown, compare

    comparison = compare(
        first,
        second,
        first_system=first_system,
        second_system=second_system,
        samples=samples,
        seed=seed,
    )
    typer.echo(json.dumps(asdict(comparison)) if as_json else as_markdown(comparison))


@app.command()
def label(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSONL with `text`.")],
) -> None:
    """Print the CheXpert-14 labels of each text, one JSON object per line."""
    from eval.metrics.findings import label_file

    for line in label_file(file):
        typer.echo(line)


@app.command()
def cards() -> None:
    """Print the definition of every metric: formula, words, convention, source."""
    from eval.tables import all_cards

    typer.echo(all_cards())


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Result folders.")],
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Page to write; default: report.html in the first folder."),
    ] = None,
    text: Annotated[
        bool, typer.Option("--text/--no-text", help="Include report text, or only numbers.")
    ] = True,
) -> None:
    """Write one self-contained HTML page: tables, plots, and a browser of studies."""
    from eval.report.page import build_page
    from rag.atomic_io import explain_disk_errors, write_text_atomic

    page = out or folders[0] / "report.html"
    with explain_disk_errors(page):
        write_text_atomic(page, build_page(folders, with_text=text))
    typer.echo(f"{page}: {page.stat().st_size / 1e6:.1f} MB", err=True)


app.registered_commands += cli_vectors.app.registered_commands
