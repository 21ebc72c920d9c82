"""For who runs the page: ``/healthz`` (it runs), ``/readyz`` (it can draft), ``/metrics``.

The first two answer without a login, and say no more than that; the metrics want one.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from rag.errors import CxrRagError
from rag.llm.vllm_server import is_alive
from rag.pipeline import ReportPipeline
from rag.settings import LlmSettings

OPEN_PATHS = ("/healthz", "/readyz")
_KEPT_SECONDS = 2.0

Ready = Callable[[], Mapping[str, bool]]
"""What a draft needs, and whether it is there."""


def readiness(pipeline: ReportPipeline, llm: LlmSettings) -> dict[str, bool]:
    """Whether index and language model answer, where they are wanted."""
    try:
        pipeline.retriever.store.get("-")
        index = True
    except CxrRagError:
        index = False
    return {"index": index, "llm": not llm.enabled or is_alive(llm)}


def add_monitoring(server: FastAPI, ready: Ready) -> None:
    """The three routes."""
    asking, known, until = asyncio.Lock(), dict[str, bool](), 0.0

    @server.get("/healthz")
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @server.get("/readyz")
    async def readyz() -> Response:
        nonlocal known, until
        async with asking:  # index and model are asked once, however many want to know
            if time.monotonic() > until:
                known = dict(await asyncio.to_thread(ready))
                until = time.monotonic() + _KEPT_SECONDS
        return JSONResponse(known, 200 if all(known.values()) else 503)

    @server.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
