"""`cxr-rag demo`: everything between a fresh install and an open page, and its orderly end.

The language model loads in its own process while the store is built or opened; the page opens when
both are ready. Whatever ends the demo (Ctrl-C, a signal, an error) ends what it started.
"""

from collections.abc import Callable
from contextlib import ExitStack

from rag.assembly import load_encoder, open_pipeline
from rag.errors import ServerError
from rag.indexing import ensure_index
from rag.processes import port_is_free
from rag.schema import NOTICE
from rag.server import LlmServer
from rag.settings import Settings
from rag.store import serve_store

Say = Callable[[str], None]


def run_demo(settings: Settings, *, open_page: Callable[..., None], say: Say) -> None:
    """Run until interrupted.

    Args:
        settings: where the page, the model and the store are.
        open_page: called with the pipeline and the page's settings; returns when the page closes.
        say: told what happens, a line at a time.

    Raises:
        ServerError: a port is taken, or a server would not start.
    """
    page = settings.page
    if not port_is_free(page.host, page.port):
        raise ServerError(f"port {page.port} is in use; choose another with --port {page.port + 1}")
    say(f"{NOTICE}. Everything runs on this machine; nothing is sent anywhere.")
    with ExitStack() as running:
        llm = running.enter_context(LlmServer(settings, say=say))
        encoder = load_encoder(settings)
        ensure_index(settings, encoder, say=say)
        running.enter_context(serve_store(settings.index_dir))
        pipeline = running.enter_context(open_pipeline(settings, encoder))
        llm.wait()
        open_page(pipeline, page, say=say)
