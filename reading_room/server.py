"""The page as a server: Gradio's routes behind the middleware, and our own.

Ours are the viewer's scripts, an image's pixels, an export, and ``POST /api/draft``.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING

import gradio as gr
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles

from rag.errors import ServerError
from reading_room import strings
from reading_room.api import DraftService
from reading_room.login import LOOPBACK, Login
from reading_room.middleware import Middleware
from reading_room.monitoring import Ready, add_monitoring
from reading_room.opening import MAX_IMAGES
from reading_room.sign_panel import FORMATS

if TYPE_CHECKING:
    from rag.settings import PageSettings
    from reading_room.file_store import FileStore

STATIC = Path(__file__).parent / "static"
_TYPES = {
    "txt": "text/plain; charset=utf-8",
    "md": "text/markdown; charset=utf-8",
    "json": "application/json",
    "pdf": "application/pdf",
    "sr.dcm": "application/dicom",
    "fhir.json": "application/fhir+json",
    "hl7": "x-application/hl7-v2+er7; charset=utf-8",
}


def make_server(
    page: gr.Blocks,
    settings: "PageSettings",
    *,
    file_store: "FileStore",
    drafts: DraftService,
    ready: Ready = dict,
) -> FastAPI:
    """The whole server, not yet listening.

    Raises:
        SettingsError: the page would be open to the network without a login.
    """
    login = Login.of(settings)
    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    server.mount("/reading-room", StaticFiles(directory=STATIC))
    _add_routes(server, file_store, drafts)
    add_monitoring(server, ready)
    page.queue(max_size=64, api_open=False)
    gr.mount_gradio_app(
        server,
        page,
        path="/",
        root_path=settings.root_path or None,
        auth_dependency=lambda request: request.scope["reader"],
        max_file_size=f"{settings.max_upload_mb}mb",
        allowed_paths=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        show_error=False,
        footer_links=["api"],
        theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        css_paths=[STATIC / "page.css"],
        js="() => document.body.classList.add('dark')",
    )
    # a mounted page never "launches", and until then Gradio accepts any path on this machine as an
    # upload: it would copy the file to where a client can fetch it
    page.has_launched = True
    server.add_middleware(
        Middleware,
        login=login,
        hosts=frozenset({*LOOPBACK, settings.host, gethostname(), *settings.hosts}),
        proxies=frozenset(settings.trusted_proxies),
        per_minute=settings.requests_per_minute,
        max_bytes=(MAX_IMAGES * settings.max_upload_mb + 1) * 2**20,
    )
    return server


class _Image(FileResponse):
    """Sent in large chunks: the default 64 KiB would switch threads 350 times for 22 MiB."""

    chunk_size = 4 * 2**20


def _add_routes(server: FastAPI, file_store: "FileStore", drafts: DraftService) -> None:
    @server.get("/image/{name}")
    def image(name: str, request: Request) -> Response:
        path = file_store.find(name, reader=request.scope["reader"])
        if path is None:
            return PlainTextResponse(strings.NOT_HERE, 404)
        return _Image(
            path, media_type="application/octet-stream", headers={"cache-control": "no-store"}
        )

    @server.get("/export/{name}/{file}")
    def export(name: str, file: str, request: Request) -> Response:
        ending = file.partition(".")[2]
        path = file_store.find(name, reader=request.scope["reader"])
        if path is None or ending not in FORMATS.values():
            return PlainTextResponse(strings.NOT_HERE, 404)
        return FileResponse(
            path,
            media_type=_TYPES[ending],
            filename=f"report.{ending}",
            headers={"cache-control": "no-store"},
        )

    @server.post("/api/draft")
    async def draft(request: Request) -> Response:
        status, answer = await drafts.answer(request)
        return JSONResponse(answer, status)


@contextmanager
def listening(server: FastAPI, *, host: str, port: int) -> Iterator[str]:
    """Serve in the background for as long as the block runs; gives the address.

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
        proxy_headers=False,  # the middleware decides whom to believe
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
    found = running.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://{'[' + host + ']' if ':' in host else host}:{found}/"
    finally:
        running.should_exit = True
        thread.join(10)
