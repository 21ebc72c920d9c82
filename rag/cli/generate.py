"""`cxr-rag generate`: a draft for each image."""

import json
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rag.cli.options import (
    EXIT_FAILED,
    Config,
    Json,
    NoLlm,
    PatientIds,
    StudyIds,
    read_settings,
    say,
)
from rag.errors import UsageError
from rag.export import ENDINGS, Document, as_document
from rag.schema import Status

if TYPE_CHECKING:
    from rag.prediction import Prediction


def generate(
    images: Annotated[list[Path], typer.Argument(metavar="FILE...", help="DICOM, PNG or JPEG.")],
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
        Path | None,
        typer.Option(metavar="FOLDER", help="Also write DICOM structured reports here."),
    ] = None,
    fhir: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also write FHIR R4 bundles here.")
    ] = None,
    hl7: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also write HL7 ORU^R01 messages here.")
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
    from rag.export.text import as_text  # noqa: PLC0415
    from rag.factory import load_encoder, open_pipeline, without_named  # noqa: PLC0415 - torch
    from rag.llm.vllm_server import LlmServer  # noqa: PLC0415
    from rag.priors import Prior  # noqa: PLC0415
    from rag.study import Study, accepted  # noqa: PLC0415

    folders: dict[Document, Path | None] = {"dicom": sr, "fhir": fhir, "hl7": hl7}
    failed = False
    with (
        LlmServer(settings, say=say) as llm,
        open_pipeline(settings, load_encoder(settings)) as pipeline,
    ):
        llm.wait()
        images, notes = accepted(images)
        for note in notes:
            failed = True
            say(note)
        for image in images:
            study = Study(
                image,
                name=str(image),
                study_ids=frozenset(study_ids or ()),
                patient_ids=frozenset(patient_ids or ()),
                indication=indication,
                prior=Prior(files=tuple(prior or ())),
            )
            prediction = pipeline.invoke(without_named(study, pipeline.retriever.store))
            if prediction.status is not Status.OK:
                failed = True
            else:
                for form, folder in folders.items():
                    if folder is not None:
                        say(_write(prediction, image, form, folder))
            if as_json:
                typer.echo(json.dumps(prediction.to_json(), ensure_ascii=False))
            else:
                typer.echo(as_text(prediction) + "\n")
    if failed:
        sys.exit(EXIT_FAILED)


def _write(prediction: "Prediction", image: Path, form: Document, folder: Path) -> str:
    """Write a document about an image into a folder; returns a line for the user."""
    from rag.atomic_io import disk_explained, swap_bytes  # noqa: PLC0415
    from rag.export.dicom_header import StructuredReportError  # noqa: PLC0415
    from rag.export.text import Export  # noqa: PLC0415

    try:
        content = as_document(Export.of(prediction), form, image=image)
    except StructuredReportError as error:
        return f"{image}: no {form} report: {error}"
    with disk_explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        stems = (f"{image.stem}{'' if n == 1 else f'-{n}'}" for n in count(1))
        names = (f"{stem}.{ENDINGS[form]}" for stem in stems)
        path = next(folder / name for name in names if not (folder / name).exists())
        swap_bytes(path, content, mode=0o600)  # it names the patient
    return f"{image}: {form} report in {path}"
