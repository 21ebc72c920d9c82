"""The page as a server: Gradio's routes behind the middleware, and our own.

Ours are the viewer's scripts, image pixels, exports, ``POST /api/draft``, and for operators
``/healthz`` (it runs), ``/readyz`` (it can draft) and ``/metrics``, which needs a login.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from rag.errors import CxrRagError, ServerError
from rag.llm.vllm_server import is_alive
from rag.pipeline import ReportPipeline
from rag.settings import LlmSettings, Settings
from reading_room import strings
from reading_room.api import add_draft_route
from reading_room.controller import Controller
from reading_room.file_store import FileStore
from reading_room.image_opener import MAX_IMAGES
from reading_room.login import Login
from reading_room.middleware import Middleware

_STATIC = Path(__file__).parent / "static"
_READINESS_TTL_S = 2.0


def make_server(blocks: gr.Blocks, controller: Controller, settings: Settings) -> FastAPI:
    """The whole server, not yet listening.

    Raises:
        SettingsError: the page would be open to the network without a login.
    """
    page = settings.page
    login = Login.from_settings(page)
    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    server.mount("/reading-room", StaticFiles(directory=_STATIC))
    _add_file_routes(server, controller.file_store)
    add_draft_route(server, controller, page)
    add_monitoring_routes(server, lambda: readiness(controller.pipeline, settings.llm))
    blocks.queue(max_size=64, api_open=False)
    gr.mount_gradio_app(
        server,
        blocks,
        path="/",
        root_path=page.root_path or None,
        auth_dependency=lambda request: request.scope["reader"],
        max_file_size=f"{page.max_upload_mb}mb",
        allowed_paths=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        show_error=False,
        footer_links=[],
        theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        css_paths=[_STATIC / "page.css"],
        js="() => document.body.classList.add('dark')",
    )
    # a mounted page never "launches", and until then Gradio accepts any path on this machine as an
    # upload: it would copy the file to where a client can fetch it
    blocks.has_launched = True
    server.add_middleware(
        Middleware,
        login=login,
        settings=page,
        max_upload_bytes=(MAX_IMAGES * page.max_upload_mb + 1) * 2**20,
    )
    return server


class _LargeFileResponse(FileResponse):
    """Large chunks: the default of 64 KiB would switch threads 350 times for 22 MiB."""

    chunk_size = 4 * 2**20


def _add_file_routes(server: FastAPI, file_store: FileStore) -> None:
    """Images for the viewer, and exports under the name that the browser saves them by."""

    @server.get("/image/{name}")
    @server.get("/export/{name}/{saved_as}")
    def get_file(name: str, request: Request, saved_as: str | None = None) -> Response:
        path = file_store.find(name, reader=request.scope["reader"])
        if path is None:
            return PlainTextResponse(strings.FILE_GONE, 404)
        return _LargeFileResponse(
            path,
            media_type="application/octet-stream",
            filename=saved_as,
            headers={"cache-control": "no-store"},
        )


@contextmanager
def run_server(server: FastAPI, *, host: str, port: int) -> Iterator[str]:
    """Serve in the background until the block ends; yields the address.

    Raises:
        ServerError: the port is taken.
    """
    config = uvicorn.Config(
        server,
        host=host,
        port=port,
        log_config=None,  # `cxr-rag` has set up logging
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
        server_header=False,
        proxy_headers=False,  # the middleware decides which proxies to trust
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, name="page", daemon=True)
    thread.start()
    while not running.started:
        if not thread.is_alive():
            raise ServerError(
                f"the page could not be opened on {host}:{port}; if the port is in use, choose "
                f"another with --port {port + 1}"
            )
        thread.join(0.05)
    bound_port = running.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://{'[' + host + ']' if ':' in host else host}:{bound_port}/"
    finally:
        running.should_exit = True
        thread.join(10)


def readiness(pipeline: ReportPipeline, llm: LlmSettings) -> dict[str, bool]:
    """Whether the index and, if enabled, the language model answer."""
    try:
        pipeline.retriever.index.get("-")
        index = True
    except CxrRagError:
        index = False
    return {"index": index, "llm": not llm.enabled or is_alive(llm)}


def add_monitoring_routes(server: FastAPI, check_ready: Callable[[], dict[str, bool]]) -> None:
    """``/healthz``, ``/readyz`` and ``/metrics``; readiness is cached for two seconds."""
    lock, ready, expires = asyncio.Lock(), dict[str, bool](), 0.0

    @server.get("/healthz")
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @server.get("/readyz")
    async def readyz() -> Response:
        nonlocal ready, expires
        async with lock:
            if time.monotonic() > expires:
                ready = await asyncio.to_thread(check_ready)
                expires = time.monotonic() + _READINESS_TTL_S
        return JSONResponse(ready, 200 if all(ready.values()) else 503)

    @server.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
