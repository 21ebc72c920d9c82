"""`cxr-rag generate | query | locate`: a draft of an image, its nearest reports, its findings."""

import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from rag.cli.options import (
    EXIT_FAILED,
    Config,
    Images,
    Json,
    NoLlm,
    PatientIds,
    StudyIds,
    print_error,
    read_settings,
    say,
)
from rag.errors import CxrRagError, NoDraft, UsageError
from rag.export import FILE_SUFFIXES, DocumentFormat, as_document
from rag.schema import NOTICE, Status

if TYPE_CHECKING:
    from rag.localization import LocatedFinding, MapEncoder
    from rag.prediction import Prediction
    from rag.retriever import ReportRetriever
    from rag.schema import Hit

_folder_option = partial(typer.Option, metavar="FOLDER")


def generate(
    images: Images,
    *,
    config: Config = "cpu",
    as_json: Json = False,
    no_llm: NoLlm = False,
    indication: Annotated[str, typer.Option(help="Why the image was taken.")] = "",
    study_ids: StudyIds = None,
    patient_ids: PatientIds = None,
    prior: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE|FOLDER",
            help="The patient's earlier study: its report (text, DICOM SR), images, or a folder.",
        ),
    ] = None,
    sr: Annotated[
        Path | None, _folder_option(help="Also write DICOM structured reports here.")
    ] = None,
    fhir: Annotated[Path | None, _folder_option(help="Also write FHIR R4 bundles here.")] = None,
    hl7: Annotated[
        Path | None, _folder_option(help="Also write HL7 ORU^R01 messages here.")
    ] = None,
) -> None:
    """Draft a report for each image; every sentence names the reports it rests on.

    If no server answers at llm.url, the one in the settings is started for the run. DICOM reports
    are PARTIAL and UNVERIFIED, FHIR and HL7 reports preliminary.
    """
    settings = read_settings(config, no_llm=no_llm)
    missing = [str(image) for image in images if not image.is_file()]
    if missing := [*missing, *(str(path) for path in prior or () if not path.exists())]:
        raise UsageError(f"there is no file {', '.join(missing)}")
    if prior and len(images) > 1:
        raise UsageError("--prior belongs to one patient: give one image with it")
    from rag.export.text import as_text
    from rag.factory import load_encoder, open_pipeline
    from rag.index import Exclusions
    from rag.llm.vllm_server import LlmServer
    from rag.priors import Prior
    from rag.study import Study, drop_rejected

    folders: dict[DocumentFormat, Path | None] = {"dicom": sr, "fhir": fhir, "hl7": hl7}
    failed = False
    with (
        LlmServer(settings, say=say) as llm,
        open_pipeline(settings, load_encoder(settings)) as pipeline,
    ):
        llm.wait()
        images, notes = drop_rejected(images)
        for note in notes:
            failed = True
            say(note)
        for image in images:
            study = Study(
                image,
                name=str(image),
                exclude=Exclusions(frozenset(study_ids or ()), frozenset(patient_ids or ())),
                indication=indication,
                prior=Prior(files=tuple(prior or ())),
            )
            prediction = pipeline.invoke(study)
            if prediction.status is not Status.OK:
                failed = True
            else:
                for form, folder in folders.items():
                    if folder is not None:
                        failed |= not _write_document(prediction, image, form, folder)
            if as_json:
                typer.echo(json.dumps(prediction.to_json(), ensure_ascii=False))
            else:
                typer.echo(as_text(prediction) + "\n")
    if failed:
        sys.exit(EXIT_FAILED)


def _write_document(
    prediction: "Prediction", image: Path, form: DocumentFormat, folder: Path
) -> bool:
    """Write a document into a folder; returns whether it could be made."""
    from rag.atomic_io import explain_disk_errors, free_path, write_bytes_atomic
    from rag.export.dicom_header import StructuredReportError
    from rag.export.text import Export

    try:
        content = as_document(Export.from_prediction(prediction), form, image=image)
    except StructuredReportError as error:
        say(f"{image}: no {form} report: {error}")
        return False
    with explain_disk_errors(folder):
        path = free_path(folder, image.stem, FILE_SUFFIXES[form])
        write_bytes_atomic(path, content, mode=0o600)  # it names the patient
    say(f"{image}: {form} report in {path}")
    return True


def locate(
    images: Images,
    *,
    config: Config = "cpu",
    as_json: Json = False,
    out: Annotated[
        Path | None, _folder_option(help="Also write the images with the findings drawn on them.")
    ] = None,
) -> None:
    """Show where on an image each finding would be (experimental).

    Exit codes: 0 done; 3 some images could not be read or are not chest X-rays.
    """
    settings = read_settings(config)
    from encoders.images.raw_image import ImageReadError
    from encoders.registry import eclip_folder
    from rag.atomic_io import explain_disk_errors, free_path
    from rag.factory import encoder_folder, load_encoder
    from rag.localization import draw_overlay, locate_findings, read_map_measures
    from rag.screening.finding_head import load_finding_predictor
    from rag.study import Study, load

    encoder = load_encoder(settings)
    folder = encoder_folder(settings, encoder)
    head = load_finding_predictor(folder, encoder.encoder_id, settings.drafting)
    measures = read_map_measures(eclip_folder(settings.encoder))
    failed = False
    for path in images:
        try:
            image = load(Study(path, name="")).views[0]
        except (ImageReadError, NoDraft) as error:
            print_error(f"cxr-rag: {path}: {error}")
            failed = True
            continue
        found = locate_findings(cast("MapEncoder", encoder), image, head=head, measures=measures)
        for finding in found:
            typer.echo(_finding_line(path, finding, as_json=as_json))
        if out is not None:
            with explain_disk_errors(out):
                written = free_path(out, path.stem, "png")
                draw_overlay(image, found).save(written)
            say(f"{path}: overlay in {written}")
    if not as_json:
        typer.echo(f"Experimental. {NOTICE}.")
    if failed:
        sys.exit(EXIT_FAILED)


def _finding_line(path: Path, found: "LocatedFinding", *, as_json: bool) -> str:
    if as_json:
        return json.dumps({"file": str(path), **found.to_json()}, ensure_ascii=False)
    (x, y), box = found.region.peak, found.region.box
    corners = ", ".join(f"{value:.2f}" for value in box)
    return (
        f"{found.probability:>6.1%}  {found.finding:<20} peak ({x:.2f}, {y:.2f})  "
        f"box ({corners})  {path.name}"
    )


def query(
    target: Annotated[
        str, typer.Argument(metavar="FILE|TEXT", help="An image, or text to search for.")
    ],
    config: Config = "cpu",
    k: Annotated[int, typer.Option("-k", min=1, max=50, help="Number of reports.")] = 5,
    as_json: Json = False,
) -> None:
    """Show the reports nearest to an image or a text."""
    settings = read_settings(config)
    path = Path(target)
    from rag.batch.inputs import IMAGE_SUFFIXES

    looks_like_a_path = os.sep in target.rstrip() or path.suffix.lower() in IMAGE_SUFFIXES
    if looks_like_a_path and not path.is_file():
        raise UsageError(
            f"there is no file {target} (text with a slash or an image suffix is taken for a file)"
        )
    from rag.factory import load_encoder, open_retriever

    encoder = load_encoder(settings)
    with open_retriever(settings, encoder) as retriever:
        if path.is_file():
            hits = _query_by_image(retriever, path, k)
        else:
            hits = retriever.nearest_to_text(target, k=k)
    for rank, hit in enumerate(hits, 1):
        record = hit.record
        if as_json:
            found = {"report_id": record.report_id, "similarity": round(hit.similarity, 6)}
            typer.echo(json.dumps({**found, "text": record.text}, ensure_ascii=False))
        else:
            text = " ".join(record.text.split())
            typer.echo(f"{rank:>2}  {hit.similarity:.3f}  {record.report_id}  {text}")


def _query_by_image(retriever: "ReportRetriever", path: Path, k: int) -> "Sequence[Hit]":
    from encoders.image_io import read_image, read_image_info
    from encoders.images.raw_image import ImageReadError
    from rag.retriever import exclusions_for
    from rag.study import Study

    try:
        image = read_image(path)
        info = read_image_info(path)
    except ImageReadError as error:
        raise CxrRagError(f"{path}: {error}") from error
    (vector,) = retriever.encoder.embed_images([image])
    exclude = exclusions_for(Study(path, name=path.name), info, retriever.index)
    return retriever.retrieve(vector, exclude=exclude, k=k).hits
