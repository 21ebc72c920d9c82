"""`cxr-rag doctor`: checks everything a draft needs and says what to fix. Changes nothing."""

import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

import typer

from rag.cli.options import EXIT_FAILED, Config, read_settings
from rag.errors import CxrRagError

if TYPE_CHECKING:
    from rag.settings import Settings

LOW_DISK_GB = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """One check. ``hint`` says what to fix, and is empty if it passed."""

    name: str
    found: str
    hint: str = ""


def doctor(config: Config = "cpu") -> None:
    """Check versions, weights, index, language model and disk, and say what to fix."""
    ill = False
    for check in examine(read_settings(config)):
        mark = typer.style("fix ", fg="red") if check.hint else typer.style("ok  ", fg="green")
        typer.echo(f"{mark} {check.name}: {check.found}")
        if check.hint:
            ill = True
            typer.echo(f"     {check.hint}")
    if ill:
        sys.exit(EXIT_FAILED)


def examine(settings: "Settings") -> Iterator[Check]:
    """All checks, each as soon as it is done."""
    for look in (_python, _packages, _disk, _encoder, _store, _template, _llm_server, _llm):
        try:
            yield from look(settings)
        except CxrRagError as error:
            yield Check(look.__name__.strip("_").replace("_", " "), "failed", str(error))


def _python(_: "Settings") -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    known = sys.version_info[:2] in ((3, 11), (3, 12))
    yield Check("python", version, "" if known else "use Python 3.11 or 3.12")


def _packages(_: "Settings") -> Iterator[Check]:
    """Whether all packages that this one declares are installed."""
    declared = [line for line in metadata.requires("cxr-rag") or [] if "extra ==" not in line]
    names = [re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in declared]
    missing = [name for name in names if not _installed(name)]
    hint = f"install {', '.join(missing)}; `make setup` installs all of them" if missing else ""
    yield Check("packages", f"{len(names) - len(missing)} of {len(names)} installed", hint)


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _disk(settings: "Settings") -> Iterator[Check]:
    place = next(path for path in (settings.home, *settings.home.parents) if path.exists())
    free = shutil.disk_usage(place).free / 1e9
    hint = "" if free > LOW_DISK_GB else f"free some space: an index may need {LOW_DISK_GB} GB"
    yield Check("disk", f"{free:.1f} GB free for {settings.home}", hint)


def _encoder(settings: "Settings") -> Iterator[Check]:
    from rag.factory import load_encoder  # noqa: PLC0415 - heavy

    encoder = load_encoder(settings)
    yield Check("encoder", f"{encoder.encoder_id}, {encoder.dim} dimensions")


def _store(settings: "Settings") -> Iterator[Check]:
    from rag.factory import load_encoder, open_retriever  # noqa: PLC0415 - heavy

    with open_retriever(settings, load_encoder(settings)) as retriever:
        store = retriever.store
        yield Check("index", f"{len(store)} reports, index {store.index_id}")


def _template(settings: "Settings") -> Iterator[Check]:
    from rag.factory import template_of  # noqa: PLC0415 - heavy

    yield Check("prompt template", template_of(settings).name)


def _llm_server(settings: "Settings") -> Iterator[Check]:
    server = settings.llm.server
    if settings.llm.enabled and server.enabled:
        found = server.python.exists()
        yield Check("vLLM", str(server.python), "" if found else "make llm")


def _llm(settings: "Settings") -> Iterator[Check]:
    from rag.llm.vllm_server import served_models  # noqa: PLC0415

    llm = settings.llm
    if not llm.enabled:
        yield Check("language model", "not used (llm.enabled is false)")
        return
    models = served_models(llm)
    if models is None:
        yield Check("language model", f"nothing answers at {llm.url}", _start_hint(settings))
    elif llm.model not in models:
        known = ", ".join(models) or "no model"
        yield Check("language model", f"{llm.url} serves {known}", "set llm.model to one of them")
    else:
        yield Check("language model", f"{llm.model} at {llm.url}")


def _start_hint(settings: "Settings") -> str:
    if settings.llm.server.enabled:
        return "`cxr-rag demo` starts it; `cxr-rag generate` starts it for one run"
    return "start the server that llm.url names"
