"""The commands `cxr-rag eval embed | prompts` and the tasks on vectors."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from encoders.base import ImageEncoder
    from eval.results import Result

app = typer.Typer()

VectorsFile = Annotated[
    Path, typer.Argument(metavar="VECTORS", help="File written by `eval embed`.")
]
Layout = Annotated[
    Literal["open-i", "chexpert-5x200", "rsna", "nih-14x100", "table"],
    typer.Option(help="Layout of the data set."),
]
Out = Annotated[Path, typer.Option("--out", help="Result folder; replaced if it exists.")]
Split = Annotated[str, typer.Option(help="Use only this split.")]
Samples = Annotated[int, typer.Option(min=100, help="Bootstrap resamples of patients.")]
Seed = Annotated[int, typer.Option(help="Random seed.")]


@app.command()
def embed(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="Table of images and labels.")],
    *,
    layout: Layout,
    out: Annotated[Path, typer.Option("--out", help="Vectors file (.npz) to write.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images; default: the table's folder.")
    ] = None,
    encoder: Annotated[
        str, typer.Option(help="As the setting `encoder`: eclip, a folder, hf:ID, ...")
    ] = "eclip",
    vectors: Annotated[
        Path | None,
        typer.Option(help="Another model's .npz (id, image, text, prompt) instead of ours."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of that other model.")] = "",
    split: Split = "",
    per_class: Annotated[int, typer.Option(min=1, help="Images per class in nih-14x100.")] = 100,
    seed: Seed = 0,
) -> None:
    """Embed the images, reports and prompts of a data set, for the tasks below."""
    from eval.datasets import DatasetLayout, read_layout
    from eval.embedding import embed as embed_images
    from eval.embedding import find_images, import_vectors
    from eval.errors import EvalUsageError
    from eval.vectors import save_vectors
    from rag.atomic_io import explain_disk_errors

    with explain_disk_errors(out, EvalUsageError):
        out.parent.mkdir(parents=True, exist_ok=True)
    data = read_layout(DatasetLayout(layout), table, split=split, per_class=per_class, seed=seed)
    if vectors is not None:
        embedded = import_vectors(data, vectors, name=name or vectors.stem)
    else:
        embedded = embed_images(
            data,
            paths=find_images(data, images or table.parent),
            encoder=_encoder(encoder),
            say=lambda line: typer.echo(f"\r{line}", err=True, nl=False),
        )
        typer.echo("", err=True)
    save_vectors(out, embedded)
    typer.echo(
        f"{out}: {len(embedded)} images, {len(embedded.classes)} classes, {embedded.encoder_id}",
        err=True,
    )


@app.command()
def prompts(layout: Layout) -> None:
    """Print the prompts of a data set's classes, one JSON object per line, to embed elsewhere."""
    import json
    from dataclasses import asdict

    from eval.datasets import DatasetLayout, classes_of
    from eval.datasets import prompts as class_prompts

    for prompt in class_prompts(classes_of(DatasetLayout(layout))):
        typer.echo(json.dumps(asdict(prompt)))


@app.command()
def zero_shot(
    vectors: VectorsFile, *, out: Out, split: Split = "", samples: Samples = 2_000, seed: Seed = 0
) -> None:
    """Zero-shot classification by prompt ensembles."""
    from eval.tasks.zero_shot import zero_shot as run

    finish(run(vectors, split=split, samples=samples, seed=seed), out)


@app.command()
def linear_probe(
    vectors: VectorsFile,
    *,
    out: Out,
    train_split: Annotated[str, typer.Option(help="Split to train on.")] = "train",
    test_split: Annotated[str, typer.Option(help="Split to test on.")] = "val",
    samples: Samples = 1_000,
    seed: Seed = 0,
) -> None:
    """Linear probe on 1, 10 and 100 % of the training patients."""
    from eval.tasks.linear_probe import linear_probe as run

    finish(
        run(vectors, train_split=train_split, test_split=test_split, samples=samples, seed=seed),
        out,
    )


@app.command()
def retrieval(
    vectors: VectorsFile, *, out: Out, split: Split = "", samples: Samples = 2_000, seed: Seed = 0
) -> None:
    """Retrieval from image to report and back: R@k, MRR, nDCG, median rank."""
    from eval.tasks.retrieval import retrieval as run

    finish(run(vectors, split=split, samples=samples, seed=seed), out)


@app.command()
def embedding(
    vectors: VectorsFile, *, out: Out, split: Split = "", samples: Samples = 500, seed: Seed = 0
) -> None:
    """Embedding quality: alignment, uniformity, modality gap."""
    from eval.tasks.embedding import embedding_quality

    finish(embedding_quality(vectors, split=split, samples=samples, seed=seed), out)


def _encoder(name: str) -> "ImageEncoder":
    from encoders.packaged_weights import EncoderError
    from encoders.registry import load_encoder
    from eval.errors import EvalDataError

    try:
        return load_encoder(name)
    except EncoderError as error:
        raise EvalDataError(str(error)) from error


def finish(result: "Result", out: Path) -> None:
    """Write a task's result and print its tables."""
    from eval.result_io import save_result

    save_result(result, out)
    show(result, out)


def show(result: "Result", out: Path) -> None:
    """Print a result's tables."""
    from eval.tables import as_terminal

    typer.echo(as_terminal(result))
    typer.echo(f"\nwritten to {out}; `cxr-rag eval report {out}` makes an HTML page", err=True)
