"""`cxr-rag train` and `cxr-rag embed`: the encoder's own commands."""

import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rag.cli.options import EXIT_FAILED, Config, Source, fail, read_settings
from rag.errors import UsageError

if TYPE_CHECKING:
    from encoders.training.dataset import Collection, TrainingStudy
    from encoders.training.trainer import Progress

_REPORT_SECONDS = 30


def train(
    config: Annotated[Path, typer.Option("--config", help="A file of configs/train/.")],
    out: Annotated[
        Path, typer.Option("--out", help="Run folder; pass an existing folder to resume.")
    ],
    *,
    data: Annotated[Path | None, typer.Option(help="Instead of the settings' data.path.")] = None,
    experts: Annotated[
        Path | None, typer.Option(help="NIH readings, for settings without a data section.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Decoded images; beside the run folder if left out.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the one in the settings.")] = None,
) -> None:
    """Train CLIP, or eCLIP where the settings have an expert section; resumes after a cut.

    With several processes: accelerate launch -m rag.cli.main train ...
    """
    from encoders.packaged_weights import EncoderError  # noqa: PLC0415
    from encoders.training.config import read_settings as read_training_settings  # noqa: PLC0415
    from encoders.training.dataset import TrainingDataError  # noqa: PLC0415
    from encoders.training.sources.load import load_collection, source_of  # noqa: PLC0415
    from encoders.training.train import train as run  # noqa: PLC0415 - torch takes seconds

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cache = cache or out.parent / "cache"
    try:
        settings = read_training_settings(config)
        if seed is not None:
            settings = settings.model_copy(update={"seed": seed})
        source = source_of(settings, data=data, experts=experts)
    except (TrainingDataError, EncoderError) as error:
        raise UsageError(str(error)) from error
    try:
        collection = load_collection(source, experts=settings.uses_annotation)
        collection = _with_report_labels(collection)
        folder = run(settings, collection=collection, out=out, cache=cache, on_step=_Reporter())
    except (TrainingDataError, EncoderError) as error:
        fail(error, EXIT_FAILED)
    typer.echo(f"model written to {folder}", err=True)


def _with_report_labels(collection: "Collection") -> "Collection":
    """What our labeller reads in the reports becomes labels to learn from, beside those given."""
    from dataclasses import replace  # noqa: PLC0415

    from rag.report_nlp.assertion import Polarity  # noqa: PLC0415
    from rag.report_nlp.labeller import label_text  # noqa: PLC0415

    def labelled(study: "TrainingStudy") -> "TrainingStudy":
        if not study.labels_complete:
            return study
        stated = label_text(study.text).items()
        found = {f"CheXpert/{name}" for name, said in stated if said is not Polarity.NEGATIVE}
        return replace(study, details=study.details | found)

    return replace(collection, train=tuple(labelled(study) for study in collection.train))


class _Reporter:
    """A line every half minute: step, loss, time left."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, progress: "Progress") -> None:
        now = time.monotonic()
        if now < self._next and progress.step < progress.steps:
            return
        self._next = now + _REPORT_SECONDS
        typer.echo(
            f"step {progress.step} of {progress.steps}, loss {progress.loss:.3f}, "
            f"{round(progress.seconds_left / 60)} min left",
            err=True,
        )


def embed(
    source: Source,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The array; ids go beside it.")],
    *,
    config: Config = "cpu",
) -> None:
    """Turn images into unit vectors: OUT.npy float32 [N, D], OUT.csv with their ids.

    Exit codes: 0 every image has a row; 2 wrong usage; 3 some are in OUT.failed.csv.
    """
    from encoders.embed_files import embed_files  # noqa: PLC0415
    from rag.batch.inputs import list_images  # noqa: PLC0415
    from rag.factory import load_encoder  # noqa: PLC0415

    settings = read_settings(config)
    images = list_images(source).images
    if not images:
        raise UsageError(f"there is no image in {source}")
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
