"""`cxr-rag eval encoders`: gives `eval` what it may not know: indexes, and drafts from them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eval.cli_vectors import Out, Samples, Seed, finish
from rag.cli.options import progress_bars, read_settings

if TYPE_CHECKING:
    from encoders.base import ImageEncoder
    from eval.sites import SiteImages
    from rag.settings import Settings


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

    Indexes and drafts stay in OUT-work: what is there is not made again.
    """
    settings = read_settings("cpu", no_llm=True)
    from eval.sites import read_comparison  # noqa: PLC0415
    from eval.tasks.encoders import compare_encoders  # noqa: PLC0415
    from rag.factory import load_encoder  # noqa: PLC0415 - torch takes seconds

    work = out.with_name(f"{out.name}-work")

    def load(name: str) -> "ImageEncoder":
        return load_encoder(settings.model_copy(update={"encoder": name}))

    def draft(name: str, encoder: "ImageEncoder", home: "SiteImages", away: "SiteImages") -> Path:
        folder = work / encoder.encoder_id / home.site.name
        own = settings.model_copy(update={"encoder": name, "index_dir": folder / "index"})
        return draft_from(own, encoder, home, away, folder / away.site.name)

    def tell(line: str) -> None:
        typer.echo(f"\r{line}", err=True, nl=line.endswith(" "))

    result = compare_encoders(
        read_comparison(config), load=load, draft=draft, samples=samples, seed=seed, say=tell
    )
    finish(result, out)


def draft_from(
    settings: "Settings", encoder: "ImageEncoder", home: "SiteImages", away: "SiteImages", out: Path
) -> Path:
    """Index one site's collection without its own test part, and draft another's test images.

    Raises:
        EvalLeakError: the collection holds a study or patient of the other site's test part.
    """
    from encoders.base import embeds_texts  # noqa: PLC0415
    from eval.errors import EvalLeakError, listed  # noqa: PLC0415
    from rag.batch.grouping import BatchStudy  # noqa: PLC0415
    from rag.batch.output import BatchOutput  # noqa: PLC0415
    from rag.batch.runner import run_batch  # noqa: PLC0415
    from rag.batch.workers import Engine, Outage, threaded_prepare  # noqa: PLC0415
    from rag.corpus.openi import read_openi  # noqa: PLC0415
    from rag.corpus.user_collection import read_collection  # noqa: PLC0415
    from rag.factory import index_reports, open_pipeline  # noqa: PLC0415

    name = home.site.collection
    corpus = read_openi() if name == "open-i" else read_collection(Path(name))
    own, others = (_ids(each) for each in (home, away))
    seen = {each.study_id: {each.study_id, each.patient_id} for each in corpus.records}
    held = frozenset(study for study, ids in seen.items() if ids & own)
    shared = sorted(study for study, ids in seen.items() if ids & others and study not in held)
    if shared:
        raise EvalLeakError(
            f"{name} holds {len(shared)} studies that are drafted in {away.site.name}, or of their "
            f"patients:\n{listed(shared)}"
        )
    pictures = home.paths if not embeds_texts(encoder) else {}
    images = {study: (pictures[study],) for study in pictures.keys() & seen.keys() - held}
    studies = [
        BatchStudy(
            study_id=image.image_id,
            image=away.paths[image.image_id],
            name=image.image,
            patient_ids=frozenset({image.patient_id}),
        )
        for image in away.test
    ]
    with progress_bars() as advance, BatchOutput(out) as output:
        index_reports(settings, corpus, encoder, exclude=held, images=images, progress=advance)
        with open_pipeline(settings, encoder) as pipeline:
            prepare = threaded_prepare(pipeline, threads=settings.batch.num_workers)
            run_batch(
                studies,
                Engine(pipeline, prepare, 1, Outage(0)),
                output,
                progress=lambda counts: advance("drafts", counts.done, counts.total),
            )
        return output.predictions


def _ids(site: "SiteImages") -> set[str]:
    """Studies and patients that are measured on."""
    return {name for image in site.test for name in (image.image_id, image.patient_id)}
