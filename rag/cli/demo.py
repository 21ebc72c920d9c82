"""`cxr-rag demo`: everything between a fresh install and an open page, and its orderly end.

The language model loads in its own process while the store is built or opened; the page opens when
both are ready. Whatever ends the demo (Ctrl-C, a signal, an error) ends what it started.
"""

from collections.abc import Callable
from contextlib import ExitStack

from encoders.base import ImageTextEncoder
from rag.cli.progress import progress_bars
from rag.corpus.openi import NAME as OPENI
from rag.corpus.openi import read_openi
from rag.errors import ServerError, StoreMissingError
from rag.factory import load_encoder, open_pipeline
from rag.finding_labels import annotate_labels
from rag.grounding.prompt_injection import screen_report
from rag.index import build_index, read_info
from rag.index.chroma import chroma_facts
from rag.llm.vllm_server import LlmServer
from rag.processes import port_is_free
from rag.schema import NOTICE
from rag.settings import Settings

Say = Callable[[str], None]


def run_demo(settings: Settings, *, open_page: Callable[..., None], say: Say) -> None:
    """Run until interrupted.

    Args:
        settings: where the page, the model and the store are.
        open_page: called with the pipeline and the settings; returns when the page closes.
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
        pipeline = running.enter_context(open_pipeline(settings, encoder))
        llm.wait()
        open_page(pipeline, settings, say=say)


def ensure_index(settings: Settings, encoder: ImageTextEncoder, *, say: Say) -> None:
    """Index Open-I where nothing is indexed; a store that is there is left as it is.

    A store of Open-I alone that was made by another encoder or another version is made again, and
    nothing is embedded that need not be; one that holds a user's own reports is not touched, and
    the error says what to do.
    """
    try:
        info = read_info(settings.index_dir)
    except StoreMissingError:
        pass
    else:
        ours = [collection.name for collection in info.collections] == [OPENI]
        same = info.encoder_id == encoder.encoder_id
        if not ours or (same and info.chroma == chroma_facts()):
            return
        say(f"{'this program' if same else 'the encoder'} has changed since the store was made")
    corpus = read_openi()
    say(f"indexing {len(corpus.records)} reports, once, two to five minutes. {corpus.attribution}")
    with progress_bars() as progress:
        build_index(
            corpus,
            encoder,
            settings.index_dir,
            url=settings.chroma_url,
            screens=(screen_report, annotate_labels),
            replace=True,
            progress=progress,
        )
