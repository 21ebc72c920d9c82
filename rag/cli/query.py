"""`cxr-rag query`: the reports nearest to an image or to words."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rag.cli.options import Config, Json, read_settings
from rag.errors import CxrRagError, UsageError

if TYPE_CHECKING:
    from rag.retriever import ReportRetriever
    from rag.schema import Hit


def query(
    what: Annotated[str, typer.Argument(metavar="FILE|TEXT", help="An image, or words.")],
    config: Config = "cpu",
    k: Annotated[int, typer.Option("-k", min=1, max=50, help="How many reports.")] = 5,
    as_json: Json = False,
) -> None:
    """Show the reports nearest to an image or to words; no language model is asked."""
    settings = read_settings(config)
    path = Path(what)
    if not path.is_file() and _looks_like_a_path(what):
        raise UsageError(f"there is no file {what}; words are searched for if they look like words")
    from rag.factory import load_encoder, open_retriever  # noqa: PLC0415 - torch takes seconds

    encoder = load_encoder(settings)
    with open_retriever(settings, encoder) as retriever:
        if path.is_file():
            hits = _hits_of_image(retriever, path, k)
        else:
            hits = retriever.nearest_to_text(what, k=k)
    for hit in hits:
        record = hit.record
        if as_json:
            found = {"report_id": record.report_id, "similarity": round(hit.similarity, 6)}
            typer.echo(json.dumps({**found, "text": record.text}, ensure_ascii=False))
        else:
            text = " ".join(record.text.split())
            typer.echo(f"{hit.rank:>2}  {hit.similarity:.3f}  {record.report_id}  {text}")


def _looks_like_a_path(what: str) -> bool:
    from rag.batch.inputs import IMAGE_SUFFIXES  # noqa: PLC0415 - numpy

    return os.sep in what.rstrip() or Path(what).suffix.lower() in IMAGE_SUFFIXES


def _hits_of_image(retriever: "ReportRetriever", path: Path, k: int) -> "Sequence[Hit]":
    from encoders.images.image_io import read_image, read_image_info  # noqa: PLC0415
    from encoders.images.raw_image import ImageReadError  # noqa: PLC0415
    from rag.retriever import ImageQuery  # noqa: PLC0415

    try:
        image = read_image(path, name=path.name)
        identity = read_image_info(path).identity
    except ImageReadError as error:
        raise CxrRagError(f"{path}: {error}") from error
    found = ImageQuery(
        vector=retriever.encoder.embed_images([image])[0],
        studies=retriever.store.studies_named_in(path) | frozenset(identity.study_ids),
        patients=frozenset(filter(None, [identity.patient_id])),
    )
    return retriever.retrieve(found, k=k).hits
