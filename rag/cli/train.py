"""`cxr-rag train` and `cxr-rag embed`: the encoder's own commands."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from rag.errors import BatchUsageError

EXIT_USAGE, EXIT_FAILED = 2, 3


def train(
    config: Annotated[Path, typer.Option("--config", help="A file of configs/train/.")],
    out: Annotated[Path, typer.Option("--out", help="Run folder; the same one goes on.")],
    *,
    data: Annotated[Path | None, typer.Option(help="Instead of the settings' data.path.")] = None,
    experts: Annotated[
        Path | None, typer.Option(help="NIH boxes, for settings without a data section.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Decoded images.")] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the one in the settings.")] = None,
) -> None:
    """Train CLIP, or eCLIP where the settings have an expert section; goes on where it was cut."""
    from encoders.training.__main__ import main  # noqa: PLC0415 - torch takes seconds

    arguments = ["--config", str(config), "--out", str(out)]
    for name, value in (("data", data), ("experts", experts), ("cache", cache), ("seed", seed)):
        if value is not None:
            arguments += [f"--{name}", str(value)]
    if main(arguments):
        sys.exit(EXIT_FAILED)


def embed(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Folder, DICOMDIR, list or image.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The array; ids go beside it.")],
    *,
    config: Annotated[str, typer.Option("--config", help="A preset or a TOML file.")] = "cpu",
) -> None:
    """Turn images into unit vectors: OUT.npy float32 [N, D], OUT.csv with their ids.

    Exit codes: 0 every image has a row; 2 wrong usage; 3 some are in OUT.failed.csv.
    """
    from encoders.embed_files import embed_files  # noqa: PLC0415
    from rag.batch.inputs import list_images  # noqa: PLC0415
    from rag.factory import load_encoder  # noqa: PLC0415
    from rag.settings import load_settings  # noqa: PLC0415

    try:
        images = list_images(source).images
    except BatchUsageError as error:
        typer.secho(f"cxr-rag: {error}", err=True, fg="red")
        sys.exit(EXIT_USAGE)
    settings = load_settings(config)
    encoder = load_encoder(settings)
    with typer.progressbar(length=len(images), label="images", file=sys.stderr) as bar:
        done = embed_files(
            ((image.name, image.path) for image in images),
            encoder=encoder,
            out=out,
            threads=settings.batch.num_workers,
            on_image=lambda: bar.update(1),
        )
    typer.echo(f"{done.count} images by {encoder.encoder_id}, {done.failed} failed")
    if done.failed:
        sys.exit(EXIT_FAILED)
