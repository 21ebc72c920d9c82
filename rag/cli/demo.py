"""`cxr-rag demo | doctor`: opens the page on a fresh install, or says what is missing.

The language model loads in its own process while the index is built or opened; the page opens when
both are ready. Whatever ends the demo (Ctrl-C, a signal, an error) ends what it started.
"""

import re
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rag.cli.options import EXIT_FAILED, Config, NoLlm, progress_bars, read_settings, say
from rag.errors import CxrRagError, ServerError, StoreMissingError
from rag.schema import NOTICE

if TYPE_CHECKING:
    from encoders.base import ImageEncoder
    from rag.settings import Settings

Say = Callable[[str], None]

_MIN_FREE_GB = 2.0


def demo(
    config: Config = "cpu",
    port: Annotated[
        int | None, typer.Option(help="Port of the page; 0 picks a free one.", min=0, max=65535)
    ] = None,
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
        from rag.factory import load_encoder

        ensure_index(settings, load_encoder(settings), say=say)
        return
    from app import serve

    options = {"port": port, "worklist": worklist}
    update = {name: value for name, value in options.items() if value is not None}
    page = settings.page.model_copy(update=update)
    settings = settings.model_copy(update={"page": page})
    run_demo(settings, open_page=serve, say=say)


def run_demo(settings: "Settings", *, open_page: Callable[..., None], say: Say) -> None:
    """Run until interrupted, or until ``open_page`` returns.

    Raises:
        ServerError: a port is in use, or a server did not start.
    """
    from rag.factory import load_encoder, open_pipeline
    from rag.llm.vllm_server import LlmServer
    from rag.processes import port_is_free

    page = settings.page
    if not port_is_free(page.host, page.port):
        raise ServerError(f"port {page.port} is in use; choose another with --port {page.port + 1}")
    say(f"{NOTICE}. Everything runs on this machine; nothing is sent anywhere.")
    with ExitStack() as resources:
        llm = resources.enter_context(LlmServer(settings, say=say))
        encoder = load_encoder(settings)
        ensure_index(settings, encoder, say=say)
        pipeline = resources.enter_context(open_pipeline(settings, encoder))
        llm.wait()
        open_page(pipeline, settings, say=say)


def ensure_index(settings: "Settings", encoder: "ImageEncoder", *, say: Say) -> None:
    """Index Open-I if there is no index.

    An index of Open-I alone that another encoder or Chroma configuration built is built again, with
    cached embeddings. One with a user's own reports is left alone; opening it says what to do.
    """
    from rag.corpus.openi import NAME as OPENI
    from rag.corpus.openi import read_openi_reports
    from rag.factory import index_reports
    from rag.index import read_info
    from rag.index.chroma import chroma_configuration

    try:
        info = read_info(settings.index_dir)
    except StoreMissingError:
        pass
    else:
        only_openi = [collection.name for collection in info.collections] == [OPENI]
        same_encoder = info.encoder_id == encoder.encoder_id
        if not only_openi or (same_encoder and info.chroma == chroma_configuration()):
            return
        changed = "this program" if same_encoder else "the encoder"
        say(f"{changed} has changed since the index was built")
    corpus = read_openi_reports()
    say(
        f"indexing {len(corpus.records)} reports (once; one to three minutes). {corpus.attribution}"
    )
    with progress_bars() as progress:
        index_reports(settings, corpus, encoder, replace=True, progress=progress)


CheckResult = tuple[str, str]
"""What was found, and how to fix it; the latter is empty if there is nothing to fix."""


def doctor(config: Config = "cpu") -> None:
    """Check versions, weights, index, language model and disk, and say what to fix."""
    settings = read_settings(config)
    failed = False
    for name, check in _CHECKS.items():
        try:
            found, hint = check(settings)
        except CxrRagError as error:
            found, hint = "failed", str(error)
        mark = typer.style("fix ", fg="red") if hint else typer.style("ok  ", fg="green")
        typer.echo(f"{mark} {name}: {found}")
        if hint:
            failed = True
            typer.echo(f"     {hint}")
    if failed:
        sys.exit(EXIT_FAILED)


def _check_python(_: "Settings") -> CheckResult:
    version = ".".join(map(str, sys.version_info[:3]))
    supported = sys.version_info[:2] in ((3, 11), (3, 12))
    return version, "" if supported else "use Python 3.11 or 3.12"


def _check_packages(_: "Settings") -> CheckResult:
    """Whether all declared dependencies are installed."""
    declared = [line for line in metadata.requires("cxr-rag") or [] if "extra ==" not in line]
    names = [re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in declared]
    missing = [name for name in names if not list(metadata.distributions(name=name))]
    hint = f"install {', '.join(missing)}; `make setup` installs all of them" if missing else ""
    return f"{len(names) - len(missing)} of {len(names)} installed", hint


def _check_disk(settings: "Settings") -> CheckResult:
    folder = next(path for path in (settings.home, *settings.home.parents) if path.exists())
    free = shutil.disk_usage(folder).free / 1e9
    hint = "" if free > _MIN_FREE_GB else f"free some space: an index may need {_MIN_FREE_GB} GB"
    return f"{free:.1f} GB free for {settings.home}", hint


def _check_encoder(settings: "Settings") -> CheckResult:
    from rag.factory import load_encoder

    encoder = load_encoder(settings)
    return f"{encoder.encoder_id}, {encoder.dim} dimensions", ""


def _check_index(settings: "Settings") -> CheckResult:
    from rag.factory import load_encoder, open_retriever

    with open_retriever(settings, load_encoder(settings)) as retriever:
        return f"{len(retriever.index)} reports, index {retriever.index.index_id}", ""


def _check_template(settings: "Settings") -> CheckResult:
    from rag.factory import load_prompt_template

    return load_prompt_template(settings).name, ""


def _check_llm(settings: "Settings") -> CheckResult:
    from rag.llm.vllm_server import served_models

    llm, server = settings.llm, settings.llm.server
    if not llm.enabled:
        return "not used (llm.enabled is false)", ""
    models = served_models(llm)
    if models is None and server.enabled and not server.python.exists():
        return f"nothing answers at {llm.url}, and there is no {server.python}", "make llm"
    if models is None and server.enabled:
        hint = "`cxr-rag demo` starts it; `cxr-rag generate` starts it for one run"
        return f"nothing answers at {llm.url}", hint
    if models is None:
        return f"nothing answers at {llm.url}", "start the server that llm.url names"
    if llm.model not in models:
        served = ", ".join(models) or "no model"
        return f"{llm.url} serves {served}", "set llm.model to one of them"
    return f"{llm.model} at {llm.url}", ""


_CHECKS: dict[str, Callable[["Settings"], CheckResult]] = {
    "python": _check_python,
    "packages": _check_packages,
    "disk": _check_disk,
    "encoder": _check_encoder,
    "index": _check_index,
    "prompt template": _check_template,
    "language model": _check_llm,
}
