"""Builds the page (the reading room) and serves it.

A reader's state is in their session; sessions share no study data. The server listens on the
loopback address by default, makes no outside requests, and deletes uploads after a while.
"""

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr
from fastapi import FastAPI

from rag.pipeline import ReportPipeline
from rag.review.audit import AuditLog
from rag.settings import Settings
from reading_room import strings
from reading_room.api import add_client_api
from reading_room.controller import Controller
from reading_room.events import Events
from reading_room.file_store import FileStore
from reading_room.server import make_server, run_server
from reading_room.worklist import Worklist, dicomweb_fetcher


def build_app(
    controller: Controller, settings: Settings, worklist: Worklist | None = None
) -> FastAPI:
    """The page and its server, not yet listening.

    Raises:
        SettingsError: the page would be open to the network without a login.
    """
    blocks: gr.Blocks
    with gr.Blocks(title=strings.TITLE, fill_width=True) as blocks:
        # first, so that its endpoint gets the name "draft"
        add_client_api(controller, settings.page)
        Events(controller, settings.page, worklist).connect()
    return make_server(blocks, controller, settings)


def serve(pipeline: ReportPipeline, settings: Settings, *, say: Callable[[str], None]) -> None:
    """Serve the page until it is interrupted."""
    page = settings.page
    with ExitStack() as cleanup:
        file_store = FileStore(
            settings.home / "page" / str(page.port),
            keep_seconds=page.delete_uploads_after_seconds,
        )
        cleanup.callback(file_store.close)
        os.environ["GRADIO_TEMP_DIR"] = str(file_store.uploads)
        audit = AuditLog(settings.audit_file) if page.audit else None
        worklist = None
        if (folder := page.worklist) is not None:
            worklist = Worklist(
                folder,
                pipeline,
                audit=audit,
                calibrated=settings.drafting.calibration is not None,
                fetch=dicomweb_fetcher(page.worklist_from, folder) if page.worklist_from else None,
            )
            worklist.scan()  # a missing folder is an error now, not in the background
            worklist.start()
            cleanup.callback(worklist.close)
        controller = Controller(pipeline, file_store=file_store, audit=audit)
        server = build_app(controller, settings, worklist)
        file_store.start_cleanup()
        with run_server(server, host=page.host, port=page.port) as address:
            say(f"the reading room is open at {address} (Ctrl-C stops it)")
            threading.Event().wait()
