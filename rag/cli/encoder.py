"""`cxr-rag train | fit-heads | calibrate | embed | eval encoders`: commands about the encoder.

`eval` knows neither indexes nor drafting; the last command passes them in.
"""

import logging
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eval.cli_vectors import Out, Samples, Seed, finish
from rag.cli.options import EXIT_FAILED, Config, Source, fail, progress_bars, read_settings, say
from rag.errors import CalibrationError, UsageError

if TYPE_CHECKING:
    from encoders.base import ImageEncoder
    from encoders.training.dataset import Dataset, TrainingStudy
    from eval.sites import SiteImages
    from rag.settings import Settings

Reports = Annotated[
    Path,
    typer.Argument(
        metavar="REPORTS", help="Reports, as for `cxr-rag index --collection`, with study ids."
    ),
]


def train(
    config: Annotated[
        Path, typer.Option("--config", help="Training settings (TOML), as in configs/train/.")
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Run folder; pass an existing folder to resume.")
    ],
    *,
    data: Annotated[Path | None, typer.Option(help="Overrides data.path.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for decoded images; default: beside the run folder.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Overrides the seed in the settings.")] = None,
) -> None:
    """Train CLIP, or eCLIP if the settings have an expert section; resumes if interrupted.

    With several processes: accelerate launch -m rag.cli.main train ...
    """
    from encoders.packaged_weights import EncoderError
    from encoders.training.config import read_settings as read_training_settings
    from encoders.training.dataset import TrainingDataError
    from encoders.training.sources.load import load_dataset, study_source
    from encoders.training.train import train as run

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cache = cache or out.parent / "cache"
    try:
        settings = read_training_settings(config)
        if seed is not None:
            settings = settings.model_copy(update={"seed": seed})
        source = study_source(settings.data, data=data)
    except (TrainingDataError, EncoderError) as error:
        raise UsageError(str(error)) from error
    try:
        dataset = load_dataset(source, experts=bool(settings.expert or settings.labelled))
        dataset = _with_report_labels(dataset)
        with progress_bars() as advance:

            def report(step: int, steps: int, loss: float) -> None:
                advance("steps", step, steps, f", loss {loss:.3f}")

            folder = run(settings, dataset=dataset, out=out, cache=cache, on_step=report)
    except (TrainingDataError, EncoderError) as error:
        fail(error, EXIT_FAILED)
    say(f"model written to {folder}")


def _with_report_labels(dataset: "Dataset") -> "Dataset":
    """The dataset with the findings of its reports added as training labels."""
    from dataclasses import replace

    from rag.report_nlp.labeller import label_text
    from rag.report_nlp.scopes import Polarity

    def labelled(study: "TrainingStudy") -> "TrainingStudy":
        if not study.labels_complete:
            return study
        labels = label_text(study.text).items()
        found = {
            f"CheXpert/{name}" for name, polarity in labels if polarity is not Polarity.NEGATIVE
        }
        return replace(study, fine_labels=study.fine_labels | found)

    return replace(dataset, train=tuple(labelled(study) for study in dataset.train))


def embed(
    source: Source,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Array to write, with its ids as CSV.")
    ],
    *,
    config: Config = "cpu",
) -> None:
    """Embed images as unit vectors: OUT.npy float32 [N, D], OUT.csv with their ids.

    Exit codes: 0 every image has a row; 2 wrong usage; 3 some failed, see OUT.failed.csv.
    """
    from encoders.embed_files import embed_files
    from rag.atomic_io import explain_disk_errors
    from rag.batch.inputs import list_images
    from rag.factory import load_encoder

    settings = read_settings(config)
    images = list_images(source).images
    if not images:
        raise UsageError(f"there is no image in {source}")
    encoder = load_encoder(settings)
    done = count(1)
    with progress_bars() as advance, explain_disk_errors(out):
        embedded, failed = embed_files(
            ((image.name, image.path) for image in images),
            encoder=encoder,
            out=out,
            threads=settings.batch.num_workers,
            on_image=lambda: advance("images", next(done), len(images)),
        )
    typer.echo(f"{embedded} images by {encoder.encoder_id}, {failed} failed")
    if failed:
        sys.exit(EXIT_FAILED)


def calibrate(
    images: Source,
    reports: Reports,
    *,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The calibration to write (JSON).")],
    config: Config = "cpu",
) -> None:
    """Calibrate predicted findings and thresholds on your own studies.

    Use patients not seen in training; set drafting.calibration to FILE afterwards. The table
    compares it with the encoder's own calibration.
    """
    settings = read_settings(config)
    from rag.atomic_io import explain_disk_errors
    from rag.factory import encoder_folder, load_encoder
    from rag.fitting.calibrate import calibration_data, compare_calibrations
    from rag.screening.calibration import fit_calibration, write_calibration
    from rag.screening.finding_head import load_finding_predictor
    from rag.settings import DraftingSettings

    encoder = load_encoder(settings)
    folder = encoder_folder(settings, encoder)
    predictor = load_finding_predictor(folder, encoder.encoder_id, DraftingSettings())
    if predictor is None:
        raise CalibrationError(f"{folder} has no finding head: there is nothing to calibrate")
    with explain_disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    head = predictor.head
    log_odds, present = calibration_data(images, reports, encoder=encoder, head=head)
    typer.echo(compare_calibrations(log_odds, present, head, predictor.calibration))
    write_calibration(out, fit_calibration(encoder.encoder_id, head.names, log_odds, present))
    say(f"written to {out}; it is used where drafting.calibration names it")


def fit_heads(images: Source, reports: Reports, *, config: Config = "cpu") -> None:
    """Fit finding head, calibration and out-of-distribution statistics of an encoder.

    Two thirds of the patients train, one third calibrates. Leave out studies you evaluate on.
    """
    settings = read_settings(config)
    from rag.factory import fitted_folder, load_encoder
    from rag.fitting.fit_heads import auc_table, fit_parts, write_parts

    encoder = load_encoder(settings)
    fitted = fit_parts(images, reports, encoder=encoder)
    typer.echo(auc_table(fitted.calibration))
    folder = fitted_folder(settings, encoder)
    write_parts(folder, fitted)
    say(f"written to {folder}; drafts with {settings.encoder} use it from now on")


def encoders(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="TOML file; see docs/encoders.md.")
    ],
    *,
    out: Out,
    samples: Samples = 1_000,
    seed: Seed = 0,
) -> None:
    """Compare encoders, on one site or across sites: every task on vectors, drafts, and cost.

    Indexes and drafts are kept in OUT-work and reused.
    """
    settings = read_settings("cpu", no_llm=True)
    from eval.sites import read_comparison
    from eval.tasks.encoders import compare_encoders
    from rag.factory import load_encoder

    work = out.with_name(f"{out.name}-work")

    def load(name: str) -> "ImageEncoder":
        return load_encoder(settings.model_copy(update={"encoder": name}))

    def draft(
        name: str, encoder: "ImageEncoder", source: "SiteImages", target: "SiteImages"
    ) -> Path:
        folder = work / encoder.encoder_id / source.config.name
        own = settings.model_copy(update={"encoder": name, "index_dir": folder / "index"})
        return draft_from(own, encoder, source, target, folder / target.config.name)

    def print_status(line: str) -> None:
        typer.echo(f"\r{line}", err=True, nl=line.endswith(" "))

    result = compare_encoders(
        read_comparison(config),
        load=load,
        draft=draft,
        samples=samples,
        seed=seed,
        say=print_status,
    )
    finish(result, out)


def draft_from(
    settings: "Settings",
    encoder: "ImageEncoder",
    source: "SiteImages",
    target: "SiteImages",
    out: Path,
) -> Path:
    """Index one site's collection without its test images' studies, and draft another's images.

    Raises:
        EvalLeakError: the collection holds a study or patient of the other site's test part.
    """
    from encoders.base import embeds_texts
    from eval.errors import EvalLeakError, bullet_list
    from rag.batch.inputs import BatchStudy
    from rag.batch.output import open_output
    from rag.batch.runner import run_batch
    from rag.batch.workers import Engine, threaded_prepare
    from rag.corpus.named import read_corpus
    from rag.factory import index_reports, open_pipeline
    from rag.index import Exclusions

    name = source.config.collection
    corpus = read_corpus(name)
    source_ids, target_ids = _test_ids(source), _test_ids(target)
    ids_of = {record.study_id: {record.study_id, record.patient_id} for record in corpus.records}
    held_out = frozenset(study for study, ids in ids_of.items() if ids & source_ids)
    leaked = sorted(s for s, ids in ids_of.items() if ids & target_ids and s not in held_out)
    if leaked:
        raise EvalLeakError(
            f"{name} holds {len(leaked)} studies that are drafted in {target.config.name}, or of "
            f"their patients:\n{bullet_list(leaked)}"
        )
    paths = source.paths if not embeds_texts(encoder) else {}
    images = {study: (paths[study],) for study in paths.keys() & ids_of.keys() - held_out}
    studies = [
        BatchStudy(
            study_id=image.image_id,
            source=target.paths[image.image_id],
            name=image.image,
            exclude=Exclusions(patients=frozenset({image.patient_id})),
        )
        for image in target.test
    ]
    with progress_bars() as advance, open_output(out) as output:
        index_reports(settings, corpus, encoder, exclude=held_out, images=images, progress=advance)
        with open_pipeline(settings, encoder) as pipeline:
            prepare = threaded_prepare(pipeline, threads=settings.batch.num_workers)
            run_batch(
                studies,
                Engine(pipeline, prepare),
                output,
                progress=lambda counts: advance("drafts", counts.done, counts.total),
            )
        return output.predictions


def _test_ids(site: "SiteImages") -> set[str]:
    """Ids of the studies and patients tested on."""
    return {name for image in site.test for name in (image.image_id, image.patient_id)}
