"""`cxr-rag demo`: everything between a fresh install and an open page, and its shutdown.

The language model loads in its own process while the store is built or opened; the page opens when
both are ready. Whatever ends the demo (Ctrl-C, a signal, an error) ends what it started.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rag.cli.options import Config, NoLlm, progress_bars, read_settings, say
from rag.errors import ServerError, StoreMissingError
from rag.schema import NOTICE

if TYPE_CHECKING:
    from encoders.base import ImageEncoder
    from rag.settings import Settings

Say = Callable[[str], None]


def demo(
    config: Config = "cpu",
    port: Annotated[int | None, typer.Option(help="Port of the page.")] = None,
    worklist: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Open on a worklist of its studies, drafted ahead."),
    ] = None,
    no_llm: NoLlm = False,
    index_only: Annotated[
        bool, typer.Option("--index-only", help="Build the index, then stop.")
    ] = False,
) -> None:
    """Build the index if needed, start the language model, and open the reading room."""
    settings = read_settings(config, no_llm=no_llm)
    if index_only:
        from rag.factory import load_encoder  # noqa: PLC0415 - torch takes seconds

        ensure_index(settings, load_encoder(settings), say=say)
        return
    from app import serve  # noqa: PLC0415 - gradio takes seconds

    given = {"port": port, "worklist": worklist}
    update = {name: value for name, value in given.items() if value is not None}
    page = settings.page.model_copy(update=update)
    settings = settings.model_copy(update={"page": page})
    run_demo(settings, open_page=serve, say=say)


def run_demo(settings: "Settings", *, open_page: Callable[..., None], say: Say) -> None:
    """Run until interrupted.

    Args:
        settings: where the page, the model and the store are.
        open_page: called with the pipeline and the settings; returns when the page closes.
        say: told what happens, a line at a time.

    Raises:
        ServerError: a port is taken, or a server would not start.
    """
    from rag.factory import load_encoder, open_pipeline  # noqa: PLC0415 - torch takes seconds
    from rag.llm.vllm_server import LlmServer  # noqa: PLC0415
    from rag.processes import port_is_free  # noqa: PLC0415

    page = settings.page
    if not port_is_free(page.host, page.port):
        raise ServerError(f"port {page.port} is in use; choose another with --port {page.port + 1}")
    say(f"{NOTICE}. Everything runs on this machine; nothing is sent anywhere.")
    with ExitStack() as running:
        llm = running.enter_context(LlmServer(settings, say=say))
        encoder = load_encoder(settings)
        ensure_index(settings, encoder, say=say)
        pipeline = running.enter_context(open_pipeline(settings, encoder))
        llm.wait()
        open_page(pipeline, settings, say=say)


def ensure_index(settings: "Settings", encoder: "ImageEncoder", *, say: Say) -> None:
    """Index Open-I where nothing is indexed; a store that is there is left as it is.

    A store of Open-I alone that was made by another encoder or another version is made again, and
    nothing is embedded that need not be; one that holds a user's own reports is not touched, and
    the error says what to do.
    """
    from rag.corpus.openi import NAME as OPENI  # noqa: PLC0415
    from rag.corpus.openi import read_openi  # noqa: PLC0415
    from rag.factory import index_reports  # noqa: PLC0415
    from rag.index import read_info  # noqa: PLC0415
    from rag.index.chroma import chroma_facts  # noqa: PLC0415

    try:
        info = read_info(settings.index_dir)
    except StoreMissingError:
        pass
    else:
        ours = [collection.name for collection in info.collections] == [OPENI]
        same = info.encoder_id == encoder.encoder_id
        if not ours or (same and info.chroma == chroma_facts()):
            return
        say(f"{'this program' if same else 'the encoder'} has changed since the index was built")
    corpus = read_openi()
    say(
        f"indexing {len(corpus.records)} reports (once; one to three minutes). {corpus.attribution}"
    )
    with progress_bars() as progress:
        index_reports(settings, corpus, encoder, replace=True, progress=progress)
