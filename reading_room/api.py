"""The API for programs: images of a study in, the prediction's JSON out. See docs/reading-room.md.

By ``POST /api/draft`` and by `gradio_client`. Nothing is kept but the draft's audit record.
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
from reading_room.layout import DRAFTING, image_field
from reading_room.opening import MAX_IMAGES

MAX_UNDER_WAY = 16
"""Requests that are being drafted or wait for that; more are turned away."""
_UNUSABLE = ("ImageReadError", "PriorMismatchError", "UsageError")

Answer = tuple[int, dict[str, Any]]
"""HTTP status and JSON object."""


def draft_study(
    controller: Controller,
    images: list[bytes],
    *,
    indication: str = "",
    region: ReaderRegion = NO_REGION,
    documents: Sequence[DocumentFormat] = (),
    prior: Sequence[bytes] = (),
    day: str = "",
) -> Answer:
    """The prediction for the images of one study, or why there is none.

    Args:
        controller: has pipeline and audit record.
        images: contents of the files, frontal first.
        indication: of the study, if known.
        region: of the first image, to retrieve evidence for.
        documents: to make of the draft; each is in the answer under its name, in base64.
        prior: of the patient's earlier study: images, a report as DICOM SR or text.
        day: of the prior, ISO 8601, where no header tells.
    """
    if not images:
        return _refusal(400, strings.API_NO_IMAGE)
    if len(images) > MAX_IMAGES:
        return _refusal(400, strings.TOO_MANY_IMAGES.format(MAX_IMAGES, len(images)))
    images, notes = drop_rejected(images)
    if not images:
        return _refusal(422, strings.NO_ACCEPTED_IMAGE, error="ImageReadError")
    hashes = [hashlib.sha256(image).hexdigest() for image in images]
    study = Study(
        source=images[0],
        other_views=tuple(images[1:]),
        name=f"image {hashes[0][:12]}",
        indication=" ".join(indication.split())[:MAX_INDICATION],
        region=region,
        prior=Prior(files=tuple(prior), date=day),
    )
    prediction = controller.pipeline.invoke(study)
    prediction = replace(prediction, warnings=(*prediction.warnings, *notes))
    draft_id = uuid.uuid4().hex
    event = draft_event(prediction, images=hashes, indication=study.indication, ruled_out=())
    try:
        controller.write(draft_id, "draft", event)
    except AuditError as error:  # what cannot be recorded is not given out
        return _refusal(503, str(error), error="AuditError")
    answer = {**prediction.to_json(), "draft_id": draft_id}
    if prediction.status is Status.OK:
        what = replace(Export.from_prediction(prediction), draft_id=draft_id)
        try:
            for form in documents:
                content = as_document(what, form, image=images[0])
                answer[form] = base64.b64encode(content).decode()
        except StructuredReportError as error:
            return 422, {**answer, "error": "StructuredReportError", "reason": str(error)}
    return _status_of(prediction), answer


def add_draft_route(server: FastAPI, controller: Controller, settings: PageSettings) -> None:
    """``POST /api/draft``: ``image`` and, if wanted, more fields (docs/reading-room.md)."""
    under_way = asyncio.Semaphore(MAX_UNDER_WAY)
    slots = asyncio.Semaphore(settings.drafts_at_once)

    async def answer(request: Request) -> Answer:
        try:
            async with request.form(max_files=2 * MAX_IMAGES, max_fields=8) as form:
                images, prior = (
                    [part for part in form.getlist(name) if isinstance(part, UploadFile)]
                    for name in ("image", "prior")
                )
                if any((file.size or 0) > settings.max_upload_mb << 20 for file in images + prior):
                    reason = strings.API_TOO_LARGE.format(settings.max_upload_mb)
                    return _refusal(413, reason, error="TooLarge")
                documents = [str(each) for each in form.getlist("document")]
                draft = partial(
                    draft_study,
                    controller,
                    [await image.read() for image in images],
                    indication=str(form.get("indication") or ""),
                    region=_region(form.get("region")),
                    documents=cast("list[DocumentFormat]", documents),
                    prior=[await each.read() for each in prior],
                    day=str(form.get("prior_date") or ""),
                )
        except (MultiPartException, AssertionError, RegionError) as error:
            return _refusal(400, str(error))
        if unknown := [each for each in documents if each not in DOCUMENT_FORMATS]:
            return _refusal(
                400, strings.API_NO_DOCUMENT.format(unknown[0], ", ".join(DOCUMENT_FORMATS))
            )
        if under_way.locked():
            return _refusal(503, strings.API_BUSY, error="Busy")
        async with under_way, slots:
            return await asyncio.to_thread(draft)

    @server.post("/api/draft")
    async def post_draft(request: Request) -> JSONResponse:
        status, content = await answer(request)
        return JSONResponse(content, status)


def add_client_api(controller: Controller, settings: PageSettings) -> None:
    """``/draft`` for `gradio_client`: the same as ``POST /api/draft``, without visible parts."""
    images = image_field(label="images", file_count="multiple", visible=False)
    indication = gr.Textbox("", label="indication", max_length=MAX_INDICATION, visible=False)
    region = gr.JSON({}, label="region", visible=False)
    prediction = gr.JSON(label="prediction", visible=False)

    def draft(
        images: list[str] | None, indication: str = "", region: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """A draft of one study, or why there is none: docs/predictions.md."""
        try:
            where = ReaderRegion.from_json(region or {})
        except RegionError as error:
            raise gr.Error(str(error), print_exception=False) from error
        contents = [Path(image).read_bytes() for image in images or []]
        return draft_study(controller, contents, indication=indication, region=where)[1]

    gr.Button(visible=False).click(
        draft,
        [images, indication, region],
        prediction,
        api_name="draft",
        concurrency_id=DRAFTING,
        concurrency_limit=settings.drafts_at_once,
    )


def _refusal(status: int, reason: str, *, error: str = "BadRequest") -> Answer:
    return status, {"error": error, "reason": reason}


def _region(value: object) -> ReaderRegion:
    """A form field: a JSON object, or nothing."""
    if not value:
        return NO_REGION
    try:
        values = json.loads(str(value))
    except (ValueError, RecursionError):
        values = None
    return ReaderRegion.from_json(values)


def _status_of(prediction: Prediction) -> int:
    """200 for a draft or an abstention, 422 for unusable images, 503 for a passing failure."""
    if prediction.status is not Status.FAILED:
        return 200
    return 422 if prediction.error in _UNUSABLE else 503
