"""For programs: films of a study in, the prediction's JSON out. See docs/reading-room.md.

Owns the form of request and answer. Nothing is kept: no session, no file, no audit line but the
draft's own.
"""

import asyncio
import hashlib
import json
import uuid
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException

from encoders.film import MAX_BYTES
from rag.attention import NOWHERE, Attention, AttentionError
from rag.audit import AuditLog, draft_event
from rag.pipeline import ReportPipeline
from rag.prediction import Prediction
from rag.schema import Status
from rag.study import Study
from reading_room import strings
from reading_room.desk import LONGEST_INDICATION, MOST_FILMS

MOST_WAITING = 16


class Drafter:
    """Answers requests; a few at a time, the rest wait, and too many are turned away.

    Args:
        pipeline: from film to draft.
        at_once: how many drafts are made side by side.
        audit: where each draft is written; None keeps no record.
    """

    def __init__(
        self, pipeline: ReportPipeline, *, at_once: int, audit: AuditLog | None = None
    ) -> None:
        self._pipeline = pipeline
        self._audit = audit
        self._places = asyncio.Semaphore(at_once)
        self._waiting = 0

    async def answer(self, request: Request) -> tuple[int, dict[str, Any]]:
        """``POST /api/draft``: ``film``, perhaps several, ``indication`` and ``attention``."""
        try:
            async with request.form(max_files=2 * MOST_FILMS, max_fields=8) as form:
                films = [part for part in form.getlist("film") if isinstance(part, UploadFile)]
                contents = [await film.read(MAX_BYTES + 1) for film in films]
                indication = str(form.get("indication") or "")
                attention = _attention(form.get("attention"))
        except (MultiPartException, AssertionError, AttentionError) as error:
            return 400, {"error": "BadRequest", "reason": str(error)}
        if self._waiting >= MOST_WAITING:
            return 503, {"error": "Busy", "reason": strings.API_BUSY}
        self._waiting += 1
        try:
            async with self._places:
                return await asyncio.to_thread(self.draft, contents, indication, attention)
        finally:
            self._waiting -= 1

    def draft(
        self, films: list[bytes], indication: str, attention: Attention = NOWHERE
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON object for the films of one study, frontal first.

        Args:
            films: contents of the files.
            indication: why the film was taken, if known.
            attention: where to look on the first film; it draws the search there.
        """
        if not films:
            return 400, {"error": "BadRequest", "reason": strings.API_NO_FILM}
        if len(films) > MOST_FILMS:
            reason = strings.TOO_MANY_FILMS.format(MOST_FILMS, len(films))
            return 400, {"error": "BadRequest", "reason": reason}
        hashes = [hashlib.sha256(film).hexdigest() for film in films]
        study = Study(
            source=films[0],
            further=tuple(films[1:]),
            name=f"film {hashes[0][:12]}",
            indication=" ".join(indication.split())[:LONGEST_INDICATION],
            attention=attention,
        )
        prediction = self._pipeline.invoke(study)
        draft_id = uuid.uuid4().hex
        if self._audit is not None:
            event = draft_event(prediction, films=hashes, indication=study.indication, ruled_out=())
            self._audit.append("draft", draft=draft_id, data=event)
        return _status_of(prediction), {**prediction.to_json(), "draft_id": draft_id}


def _attention(value: object) -> Attention:
    """A form's field: a JSON object, or nothing."""
    if not value:
        return NOWHERE
    try:
        values = json.loads(str(value))
    except (ValueError, RecursionError):  # a hundred thousand brackets are no region either
        values = None
    return Attention.from_json(values)


def _status_of(prediction: Prediction) -> int:
    """200 for a draft and for an abstention, 422 for what is no film, 503 for what may pass."""
    if prediction.status is not Status.FAILED:
        return 200
    return 422 if prediction.error == "ImageReadError" else 503
