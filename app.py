"""The reading room: one page, a film in, a cited draft out. Puts panels together; no model code.

All state of a reader is in ``gr.State``; nothing of a study is kept on an object that sessions
share. The server listens on the loopback address only, makes no outside request, and deletes
uploads after a while.
"""

import json
import os
import threading
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr

from encoders.image_io import ImageReadError, read_image
from encoders.phantom import Finding, write_phantom_dicom
from rag.export import as_text
from rag.pipeline import ReportPipeline
from rag.prediction import Prediction
from rag.schema import Status
from rag.settings import PageSettings
from rag.study import Study
from reading_room import strings
from reading_room.draft_panel import draft_html
from reading_room.evidence_panel import evidence_html
from reading_room.film_panel import film_picture
from reading_room.provenance_panel import provenance_html

STATIC = Path(__file__).parent / "reading_room" / "static"


def build_app(pipeline: ReportPipeline, settings: PageSettings) -> gr.Blocks:
    """The page around one pipeline."""
    attribution = pipeline.retriever.store.attribution
    seconds = settings.delete_uploads_after_seconds

    def show_film(upload: str | None) -> Any:
        return film_picture(_read(upload)) if upload else None

    def draft(upload: str | None, indication: str) -> Iterator[tuple[Any, ...]]:
        if not upload:
            raise gr.Error(strings.NO_FILM, print_exception=False)
        for prediction in pipeline.stream(_study(pipeline, Path(upload), indication)):
            yield _panels(prediction, attribution)

    page: gr.Blocks
    with gr.Blocks(title=strings.TITLE, delete_cache=(seconds, seconds)) as page:
        gr.HTML(f'<h1>{strings.TITLE}</h1><div class="banner">{strings.BANNER}</div>')
        with gr.Row():
            with gr.Column(scale=4):
                upload = gr.File(label=strings.UPLOAD, elem_id="upload", height=120)
                example = gr.Button(strings.EXAMPLE, size="sm", elem_id="example")
                film = gr.Image(
                    label=strings.FILM,
                    format="png",
                    interactive=False,
                    elem_id="film",
                    height=560,
                    buttons=["fullscreen"],
                )
                indication = gr.Textbox(label=strings.INDICATION, max_length=500)
                with gr.Row():
                    start = gr.Button(strings.DRAFT_BUTTON, variant="primary", elem_id="draft-it")
                    stop = gr.Button(strings.STOP_BUTTON)
            with gr.Column(scale=4):
                draft_panel = gr.HTML(draft_html(None), elem_id="draft")
                text = gr.Textbox(
                    label=strings.TEXT, lines=6, buttons=["copy"], elem_id="text", visible=False
                )
                with gr.Row():
                    as_text_file = gr.DownloadButton(strings.DOWNLOAD_TEXT, interactive=False)
                    as_json_file = gr.DownloadButton(strings.DOWNLOAD_JSON, interactive=False)
                with gr.Accordion(strings.PROVENANCE, open=False):
                    provenance = gr.HTML()
            with gr.Column(scale=5):
                gr.HTML(f"<h2>{strings.EVIDENCE}</h2>")
                evidence = gr.HTML(evidence_html(None, attribution=attribution), elem_id="evidence")

        outputs = [draft_panel, evidence, provenance, text, as_text_file, as_json_file]
        upload.change(show_film, upload, film, show_progress="minimal")
        example.click(_example_film, None, upload)
        run = start.click(draft, [upload, indication], outputs, concurrency_limit=2)
        stop.click(None, cancels=[run])
    return page


def serve(pipeline: ReportPipeline, settings: PageSettings, *, say: Callable[[str], None]) -> None:
    """Serve the page until it is interrupted."""
    page = build_app(pipeline, settings)
    _, address, _ = page.queue(max_size=32).launch(
        server_name=settings.host,
        server_port=settings.port,
        max_file_size=f"{settings.max_upload_mb}mb",
        allowed_paths=[],
        share=False,
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        quiet=True,
        footer_links=["api"],
        theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        css_paths=[STATIC / "page.css"],
        js="() => document.body.classList.add('dark')",
        prevent_thread_lock=True,
    )
    say(f"the reading room is open at {address} (Ctrl-C ends it)")
    try:
        threading.Event().wait()
    finally:
        page.close(verbose=False)


def _read(upload: str) -> Any:
    try:
        return read_image(Path(upload), name=Path(upload).name)
    except ImageReadError as error:
        raise gr.Error(str(error), print_exception=False) from error


def _study(pipeline: ReportPipeline, path: Path, indication: str) -> Study:
    studies = pipeline.retriever.store.studies_named_in(path)
    return Study(source=path, name=path.name, study_ids=studies, indication=indication.strip())


def _panels(prediction: Prediction, attribution: str) -> tuple[Any, ...]:
    """Values of the output components for one snapshot."""
    shown = (
        draft_html(prediction),
        evidence_html(prediction, attribution=attribution),
        provenance_html(prediction),
    )
    if prediction.status is Status.RUNNING:
        quiet = gr.DownloadButton(interactive=False)
        return (*shown, gr.Textbox(visible=False), quiet, quiet)
    text = as_text(prediction)
    folder = Path(mkdtemp(prefix="draft-", dir=_cache()))
    (folder / "draft.txt").write_text(text, encoding="utf-8")
    (folder / "draft.json").write_text(json.dumps(prediction.to_json(), indent=1), encoding="utf-8")
    return (
        *shown,
        gr.Textbox(value=text, visible=True),
        gr.DownloadButton(value=folder / "draft.txt", interactive=True),
        gr.DownloadButton(value=folder / "draft.json", interactive=True),
    )


def _cache() -> Path:
    from gradio.utils import get_upload_folder  # noqa: PLC0415

    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _example_film() -> str:
    """The phantom as an upload of this reader's own; drawn once, which takes some seconds."""
    folder = Path(mkdtemp(prefix="phantom-", dir=_cache()))
    path = folder / "phantom.dcm"
    path.write_bytes(_phantom())
    return str(path)


@lru_cache(maxsize=1)
def _phantom() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "phantom.dcm"
        write_phantom_dicom(path, seed=1, finding=Finding.LEFT_PLEURAL_EFFUSION)
        return path.read_bytes()
