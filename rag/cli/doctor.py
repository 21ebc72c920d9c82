"""`cxr-rag doctor`: looks at everything a draft needs and says what to fix. Changes nothing."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from rag.errors import CxrRagError
from rag.llm.vllm_server import served_models
from rag.settings import REPOSITORY, Settings

LOW_DISK_GB = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. ``cure`` is empty if it is well."""

    name: str
    found: str
    cure: str = ""


def examine(settings: Settings) -> Iterator[Check]:
    """All checks, each as soon as it is done."""
    for look in (_python, _packages, _disk, _encoder, _store, _llm_server, _llm):
        try:
            yield from look(settings)
        except CxrRagError as error:
            yield Check(look.__name__.strip("_"), "failed", str(error))


def _python(_: Settings) -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    known = sys.version_info[:2] in ((3, 11), (3, 12))
    yield Check("python", version, "" if known else "use Python 3.11 or 3.12")


def _packages(_: Settings) -> Iterator[Check]:
    """Installed versions against the pins."""
    pins = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8").split()
    wrong = []
    for pin in pins:
        name, wanted = pin.split("==")
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = "missing"
        if found != wanted:
            wrong.append(f"{name} {found} instead of {wanted}")
    cure = f"make setup ({'; '.join(wrong[:5])})" if wrong else ""
    yield Check("packages", f"{len(pins) - len(wrong)} of {len(pins)} as pinned", cure)


def _disk(settings: Settings) -> Iterator[Check]:
    place = next(path for path in (settings.home, *settings.home.parents) if path.exists())
    free = shutil.disk_usage(place).free / 1e9
    cure = "" if free > LOW_DISK_GB else f"make room: below {LOW_DISK_GB} GB an index may not fit"
    yield Check("disk", f"{free:.1f} GB free for {settings.home}", cure)


def _encoder(settings: Settings) -> Iterator[Check]:
    from rag.factory import load_encoder  # noqa: PLC0415 - heavy

    encoder = load_encoder(settings)
    yield Check("encoder", f"{encoder.encoder_id}, {encoder.dim} dimensions")


def _store(settings: Settings) -> Iterator[Check]:
    from rag.factory import load_encoder, open_retriever  # noqa: PLC0415 - heavy

    with open_retriever(settings, load_encoder(settings)) as retriever:
        store = retriever.store
        yield Check("store", f"{len(store)} reports, index {store.index_id}, {store.mode}")


def _llm_server(settings: Settings) -> Iterator[Check]:
    server = settings.llm.server
    if server.enabled:
        found = server.python.exists()
        yield Check("vLLM", str(server.python), "" if found else "make llm")


def _llm(settings: Settings) -> Iterator[Check]:
    llm = settings.llm
    models = served_models(llm.url)
    if models is None:
        yield Check("language model", f"nothing answers at {llm.url}", _start_hint(settings))
    elif llm.model not in models:
        yield Check("language model", f"{llm.url} serves {models}", f"set llm.model to {models[0]}")
    else:
        yield Check("language model", f"{llm.model} at {llm.url}")


def _start_hint(settings: Settings) -> str:
    if settings.llm.server.enabled:
        return "`cxr-rag demo` starts it; `cxr-rag generate` starts it for one run"
    return "start the server that llm.url names"
