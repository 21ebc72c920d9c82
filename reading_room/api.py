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
from pathlib import Path
from typing import Any, cast

import gradio as gr
from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException

from encoders.images.raw_image import MAX_BYTES
from rag.export import DOCUMENTS, Document, as_document
from rag.export.dicom_header import StructuredReportError
from rag.export.text import Export
from rag.pipeline import ReportPipeline
from rag.prediction import Prediction
from rag.priors import Prior
from rag.review.audit import AuditError, AuditLog, draft_event
from rag.schema import Status
from rag.settings import PageSettings
from rag.study import NO_REGION, ReaderRegion, RegionError, Study, without_rejected
from reading_room import strings
from reading_room.controller import MAX_INDICATION
from reading_room.layout import DRAFTING, image_field
from reading_room.opening import MAX_IMAGES

MAX_WAITING = 16
_UNUSABLE = ("ImageReadError", "PriorMismatchError", "UsageError")


class DraftService:
    """Drafts a few requests at a time; the rest wait, and too many are turned away.

    Args:
        pipeline: from image to draft.
        max_concurrent: drafts.
        audit: record of drafts; None keeps none.
        max_bytes: of one image.
    """

    def __init__(
        self,
        pipeline: ReportPipeline,
        *,
        max_concurrent: int,
        audit: AuditLog | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._pipeline = pipeline
        self._audit = audit
        self._slots = asyncio.Semaphore(max_concurrent)
        self._max_bytes = max_bytes
        self._waiting = 0

    async def answer(self, request: Request) -> tuple[int, dict[str, Any]]:
        """``POST /api/draft``: ``image`` and, if wanted, more fields (docs/reading-room.md)."""
        try:
            async with request.form(max_files=2 * MAX_IMAGES, max_fields=8) as form:
                images, priors = _files(form, "image"), _files(form, "prior")
                if any((file.size or 0) > self._max_bytes for file in (*images, *priors)):
                    reason = strings.API_TOO_LARGE.format(self._max_bytes >> 20)
                    return 413, {"error": "TooLarge", "reason": reason}
                contents = [await image.read() for image in images]
                earlier = [await prior.read() for prior in priors]
                day = str(form.get("prior_date") or "")
                indication = str(form.get("indication") or "")
                region = _region(form.get("region"))
                documents = [cast("Document", str(each)) for each in form.getlist("document")]
        except (MultiPartException, AssertionError, RegionError) as error:
            return 400, {"error": "BadRequest", "reason": str(error)}
        if unknown := [each for each in documents if each not in DOCUMENTS]:
            reason = strings.API_NO_DOCUMENT.format(unknown[0], ", ".join(DOCUMENTS))
            return 400, {"error": "BadRequest", "reason": reason}
        if self._waiting >= MAX_WAITING:
            return 503, {"error": "Busy", "reason": strings.API_BUSY}
        self._waiting += 1
        try:
            async with self._slots:
                return await asyncio.to_thread(
                    self.draft, contents, indication, region, documents, prior=earlier, day=day
                )
        finally:
            self._waiting -= 1

    def draft(
        self,
        images: list[bytes],
        indication: str,
        region: ReaderRegion = NO_REGION,
        documents: Sequence[Document] = (),
        *,
        prior: Sequence[bytes] = (),
        day: str = "",
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON object for the images of one study, frontal first.

        Args:
            images: contents of the files.
            indication: of the study, if known.
            region: of the first image, to retrieve evidence for.
            documents: to make of the draft; each is in the answer under its name, in base64.
            prior: of the patient's earlier study: images, a report as DICOM SR or text.
            day: of the prior, ISO 8601, where no header tells.
        """
        if not images:
            return 400, {"error": "BadRequest", "reason": strings.API_NO_IMAGE}
        if len(images) > MAX_IMAGES:
            reason = strings.TOO_MANY_IMAGES.format(MAX_IMAGES, len(images))
            return 400, {"error": "BadRequest", "reason": reason}
        images, notes = without_rejected(images)
        if not images:
            return 422, {"error": "ImageReadError", "reason": strings.NO_ACCEPTED_IMAGE}
        hashes = [hashlib.sha256(image).hexdigest() for image in images]
        study = Study(
            source=images[0],
            further=tuple(images[1:]),
            name=f"image {hashes[0][:12]}",
            indication=" ".join(indication.split())[:MAX_INDICATION],
            region=region,
            prior=Prior(files=tuple(prior), date=day),
        )
        prediction = self._pipeline.invoke(study)
        prediction = replace(prediction, warnings=(*prediction.warnings, *notes))
        draft_id = uuid.uuid4().hex
        if self._audit is not None:
            event = draft_event(
                prediction, images=hashes, indication=study.indication, ruled_out=()
            )
            try:
                self._audit.append("draft", draft=draft_id, data=event)
            except AuditError as error:  # what cannot be recorded is not given out
                return 503, {"error": "AuditError", "reason": str(error)}
        answer = {**prediction.to_json(), "draft_id": draft_id}
        if prediction.status is Status.OK:
            what = replace(Export.of(prediction), draft_id=draft_id)
            try:
                for form in documents:
                    content = as_document(what, form, image=images[0])
                    answer[form] = base64.b64encode(content).decode()
            except StructuredReportError as error:
                return 422, {**answer, "error": "StructuredReportError", "reason": str(error)}
        return _status_of(prediction), answer


def add_client_api(drafts: DraftService, settings: PageSettings) -> None:
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
        return drafts.draft(contents, indication, where)[1]

    gr.Button(visible=False).click(
        draft,
        [images, indication, region],
        prediction,
        api_name="draft",
        concurrency_id=DRAFTING,
        concurrency_limit=settings.drafts_at_once,
    )


def _files(form: FormData, name: str) -> list[UploadFile]:
    return [part for part in form.getlist(name) if isinstance(part, UploadFile)]


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
