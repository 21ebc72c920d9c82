"""The reading room: an image in, a cited draft out. Puts the page together and serves it.

All state of a reader is in a session; nothing of a study is kept on an object that sessions share.
The server listens on the loopback address unless it is told otherwise, makes no outside request,
and deletes what readers bring after a while.
"""

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr

from demo.phantom import PhantomFinding, write_phantom_dicom
from rag.pipeline import ReportPipeline
from rag.review.audit import AuditLog
from rag.settings import Settings
from reading_room import strings
from reading_room.api import DraftService, add_client_api
from reading_room.controller import Controller
from reading_room.events import Events
from reading_room.file_store import FileStore
from reading_room.layout import PageParts
from reading_room.server import listening, make_server, readiness
from reading_room.worklist import Worklist, fetching


def build_app(
    controller: Controller,
    settings: Settings,
    *,
    file_store: FileStore,
    drafts: DraftService,
    worklist: Worklist | None = None,
) -> gr.Blocks:
    """The page around one pipeline."""
    page: gr.Blocks
    with gr.Blocks(title=strings.TITLE, fill_width=True) as page:
        parts = PageParts(settings.page, worklist)
        add_client_api(drafts, settings.page)  # first: the name "draft" is for programs
        events = Events(controller, parts, worklist)
        events.connect(settings.page, lambda: example_image(file_store))
    return page


def serve(pipeline: ReportPipeline, settings: Settings, *, say: Callable[[str], None]) -> None:
    """Serve the page until it is interrupted."""
    page = settings.page
    folder = settings.home / "page" / str(page.port)
    with ExitStack() as running:
        file_store = FileStore(folder, keep_seconds=page.delete_uploads_after_seconds)
        running.callback(file_store.close)
        os.environ["GRADIO_TEMP_DIR"] = str(file_store.folder / "uploads")
        audit = AuditLog(settings.audit_file) if page.audit else None
        worklist = None
        if page.worklist is not None:
            calibrated = settings.drafting.calibration is not None
            worklist = Worklist(page.worklist, pipeline, audit=audit, calibrated=calibrated)
            if page.worklist_from:
                page.worklist.mkdir(mode=0o700, parents=True, exist_ok=True)
                worklist.fetch = fetching(page.worklist_from, page.worklist)
            worklist.look()  # a folder that is not there is told at once
            worklist.start()
            running.callback(worklist.close)
        controller = Controller(pipeline, file_store=file_store, audit=audit)
        drafts = DraftService(
            pipeline,
            max_concurrent=page.drafts_at_once,
            audit=audit,
            max_bytes=page.max_upload_mb << 20,
        )
        blocks = build_app(
            controller, settings, file_store=file_store, drafts=drafts, worklist=worklist
        )
        server = make_server(
            blocks,
            page,
            file_store=file_store,
            drafts=drafts,
            ready=lambda: readiness(pipeline, settings.llm),
        )
        file_store.start_sweeping()
        with listening(server, host=page.host, port=page.port) as address:
            say(f"the reading room is open at {address} (Ctrl-C stops it)")
            threading.Event().wait()


def example_image(file_store: FileStore) -> Path:
    """The phantom as an upload of this reader's own; drawn once, which takes some seconds."""
    uploads = file_store.folder / "uploads"
    uploads.mkdir(exist_ok=True)
    path = Path(mkdtemp(prefix="phantom-", dir=uploads)) / "phantom.dcm"
    path.write_bytes(_phantom())
    return path


@lru_cache(maxsize=1)
def _phantom() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "phantom.dcm"
        write_phantom_dicom(path, seed=1, finding=PhantomFinding.LEFT_PLEURAL_EFFUSION)
        return path.read_bytes()
