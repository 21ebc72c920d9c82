"""The API for programs: images of a study in, the prediction as JSON out (docs/reading-room.md).

By ``POST /api/draft`` or `gradio_client`. Only the draft's audit record is kept.
"""

import asyncio
import base64
import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import gradio as gr
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException

from rag.export import DOCUMENT_FORMATS, DocumentFormat, as_document
from rag.export.dicom_header import StructuredReportError
from rag.export.text import Export
from rag.prediction import Prediction
from rag.priors import Prior
from rag.review.audit import AuditError, draft_event
from rag.schema import Status
from rag.settings import PageSettings
from rag.study import NO_REGION, ReaderRegion, RegionError, Study, drop_rejected
from reading_room import strings
from reading_room.controller import MAX_INDICATION, Controller
from reading_room.image_opener import MAX_IMAGES
from reading_room.layout import DRAFT_QUEUE, image_field

_MAX_PENDING = 16
"""Requests being drafted or waiting; more are refused."""
_INPUT_ERRORS = ("ImageReadError", "PriorMismatchError", "UsageError")

ApiResponse = tuple[int, dict[str, Any]]
"""HTTP status and JSON object."""


def draft_study(
    controller: Controller,
    images: list[bytes],
    *,
    indication: str = "",
    region: ReaderRegion = NO_REGION,
    documents: Sequence[DocumentFormat] = (),
    prior: Sequence[bytes] = (),
    prior_date: str = "",
) -> ApiResponse:
    """The prediction for the images of one study, or why there is none.

    Args:
        controller: holds the pipeline and the audit record.
        images: contents of the files, frontal first.
        indication: of the study, if known.
        region: of the first image, to retrieve evidence for.
        documents: exports of the draft; each is returned under its name, in base64.
        prior: files of the patient's earlier study: images, a report as DICOM SR or text.
        prior_date: ISO 8601, if no header has it.
    """
    if not images:
        return _error(400, strings.API_NO_IMAGE)
    if len(images) > MAX_IMAGES:
        return _error(400, strings.TOO_MANY_IMAGES.format(MAX_IMAGES, len(images)))
    images, notes = drop_rejected(images)
    if not images:
        return _error(422, strings.NO_ACCEPTED_IMAGE, error="ImageReadError")
    hashes = [hashlib.sha256(image).hexdigest() for image in images]
    study = Study(
        source=images[0],
        other_views=tuple(images[1:]),
        name=f"image {hashes[0][:12]}",
        indication=" ".join(indication.split())[:MAX_INDICATION],
        region=region,
        prior=Prior(files=tuple(prior), date=prior_date),
    )
    prediction = controller.pipeline.invoke(study)
    prediction = replace(prediction, warnings=(*prediction.warnings, *notes))
    draft_id = uuid.uuid4().hex
    event = draft_event(prediction, images=hashes, indication=study.indication, ruled_out=())
    try:
        controller.record(draft_id, "draft", event)
    except AuditError as error:  # a draft that cannot be recorded is not returned
        return _error(503, str(error), error="AuditError")
    body = {**prediction.to_json(), "draft_id": draft_id}
    if prediction.status is Status.OK:
        export = replace(Export.from_prediction(prediction), draft_id=draft_id)
        try:
            for form in documents:
                content = as_document(export, form, image=images[0])
                body[form] = base64.b64encode(content).decode()
        except StructuredReportError as error:
            return 422, {**body, "error": "StructuredReportError", "reason": str(error)}
    return _http_status(prediction), body


def add_draft_route(server: FastAPI, controller: Controller, settings: PageSettings) -> None:
    """``POST /api/draft``, a multipart form; its fields are in docs/reading-room.md."""
    pending = asyncio.Semaphore(_MAX_PENDING)
    slots = asyncio.Semaphore(settings.drafts_at_once)

    async def handle(request: Request) -> ApiResponse:
        try:
            async with request.form(max_files=2 * MAX_IMAGES, max_fields=8) as form:
                images, prior = (
                    [part for part in form.getlist(name) if isinstance(part, UploadFile)]
                    for name in ("image", "prior")
                )
                if any((file.size or 0) > settings.max_upload_mb << 20 for file in images + prior):
                    reason = strings.API_TOO_LARGE.format(settings.max_upload_mb)
                    return _error(413, reason, error="TooLarge")
                documents = [str(name) for name in form.getlist("document")]
                draft = partial(
                    draft_study,
                    controller,
                    [await image.read() for image in images],
                    indication=str(form.get("indication") or ""),
                    region=_parse_region(form.get("region")),
                    documents=cast("list[DocumentFormat]", documents),
                    prior=[await file.read() for file in prior],
                    prior_date=str(form.get("prior_date") or ""),
                )
        except (MultiPartException, AssertionError, RegionError) as error:
            return _error(400, str(error))
        if unknown := [name for name in documents if name not in DOCUMENT_FORMATS]:
            return _error(
                400, strings.API_NO_DOCUMENT.format(unknown[0], ", ".join(DOCUMENT_FORMATS))
            )
        if pending.locked():
            return _error(503, strings.API_BUSY, error="Busy")
        async with pending, slots:
            return await asyncio.to_thread(draft)

    @server.post("/api/draft")
    async def post_draft(request: Request) -> JSONResponse:
        status, body = await handle(request)
        return JSONResponse(body, status)


def add_client_api(controller: Controller, settings: PageSettings) -> None:
    """``/draft`` for `gradio_client`: like ``POST /api/draft``, of invisible components."""
    images = image_field(label="images", visible=False)
    indication = gr.Textbox("", label="indication", max_length=MAX_INDICATION, visible=False)
    region = gr.JSON({}, label="region", visible=False)
    prediction = gr.JSON(label="prediction", visible=False)

    def draft(
        images: list[str] | None, indication: str = "", region: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """A draft of one study, or why there is none: docs/predictions.md."""
        try:
            parsed = ReaderRegion.from_json(region or {})
        except RegionError as error:
            raise gr.Error(str(error), print_exception=False) from error
        contents = [Path(image).read_bytes() for image in images or []]
        return draft_study(controller, contents, indication=indication, region=parsed)[1]

    gr.Button(visible=False).click(
        draft,
        [images, indication, region],
        prediction,
        api_name="draft",
        concurrency_id=DRAFT_QUEUE,
        concurrency_limit=settings.drafts_at_once,
    )


def _error(status: int, reason: str, *, error: str = "BadRequest") -> ApiResponse:
    return status, {"error": error, "reason": reason}


def _parse_region(value: object) -> ReaderRegion:
    if not value:
        return NO_REGION
    try:
        values = json.loads(str(value))
    except (ValueError, RecursionError):
        values = None
    return ReaderRegion.from_json(values)


def _http_status(prediction: Prediction) -> int:
    """200 for a draft or an abstention, 422 for unusable input, 503 for a temporary failure."""
    if prediction.status is not Status.FAILED:
        return 200
    return 422 if prediction.error in _INPUT_ERRORS else 503
