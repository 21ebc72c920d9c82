"""Builds, opens and weighs the indexes that `retrieval.py` compares.

Knows the folders of ``--cache``; does not know what is asked of an index.
"""

import contextlib
import json
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from made_up_collection import Drawn, Reports, row_of
from numpy.typing import NDArray
from rag.store import ReportStore, SearchMode, open_store
from rag.store.chroma import GRAPH, ChromaIndex
from rag.store.files import CHROMA, current_edition
from rag.store.opening import own_store
from rag.store.side import Kind, SideVectors

from rag.index.writer import Content, write_edition

FAISS = "faiss.index"
KEPT = 32  # images kept in the store, which its self-test asks with: the last ones drawn
Opened = tuple[Callable[[NDArray[np.float32]], Any], ReportStore | None]


@dataclass(frozen=True, slots=True)
class MadeUpEncoder:
    """Says who made the vectors; embeds nothing."""

    dim: int
    encoder_id: str = "made-up"
    preprocess_hash: str = "0"


def texts_of(drawn: Drawn) -> NDArray[np.int64]:
    """The first report of each text, ascending."""
    return np.unique(drawn.text_of)


def build(folder: Path, drawn: Drawn, *, with_faiss: bool) -> dict[str, list[float]]:
    """Make what is not there yet; seconds each index took, of the clock and of the processor."""
    notes = folder / "built.json"
    folder.mkdir(parents=True, exist_ok=True)
    built: dict[str, list[float]] = json.loads(notes.read_text()) if notes.exists() else {}
    for name, make in (("retriever, hnsw", _build_store), ("FAISS", _build_faiss)):
        if name not in built and (with_faiss or name != "FAISS"):
            started, busy = time.perf_counter(), time.process_time()
            make(folder, drawn)
            built[name] = [time.perf_counter() - started, time.process_time() - busy]
            notes.write_text(json.dumps(built))
    return built


def _build_store(folder: Path, drawn: Drawn) -> None:
    encoder, store = MadeUpEncoder(drawn.vectors.shape[1]), folder / "store"
    store.mkdir(exist_ok=True)
    reports = Reports(drawn.text_of)
    images = {f"image {number:02d}": (reports[number].report_id,) for number in range(KEPT)}
    with own_store(store):
        write_edition(
            store,
            Content(
                reports,
                (),
                (),
                store_id="made-up",
                encoder=encoder,
                sides={Kind.IMAGES: SideVectors(images, drawn.images[-KEPT:])},
            ),
            lambda record: drawn.vectors[row_of(record.report_id)],
            base=None,
            apart=False,
            progress=lambda *_: None,
        )


def _build_faiss(folder: Path, drawn: Drawn) -> None:
    import faiss  # noqa: PLC0415 - only for this comparison, and not always wanted

    dim, neighbours = drawn.vectors.shape[1], GRAPH["max_neighbors"]
    index = faiss.IndexHNSWFlat(dim, neighbours, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = GRAPH["ef_construction"]
    index.add(drawn.vectors[texts_of(drawn)])
    faiss.write_index(index, str(folder / FAISS))


def read_faiss(folder: Path) -> Any:
    """FAISS's index, to be asked by one thread."""
    import faiss  # noqa: PLC0415

    faiss.omp_set_num_threads(1)
    return faiss.read_index(str(folder / FAISS))


def print_costs(folder: Path, built: dict[str, list[float]], images: NDArray[np.float32]) -> None:
    """Print what building, opening and holding each index costs."""
    edition = current_edition(folder / "store")
    disk = {
        "retriever, exact": _bytes(edition) - _bytes(edition / CHROMA),
        "retriever, hnsw": _bytes(edition),
        "Chroma alone": _bytes(edition / CHROMA),
    }
    if "FAISS" in built:
        disk["FAISS"] = (folder / FAISS).stat().st_size
    print(
        f"\n| system | build s | cpu s | disk MB | memory MB | mapped MB | open s |\n{'|---' * 7}|"
    )
    for name, size in disk.items():
        with multiprocessing.get_context("spawn").Pool(1) as fresh:
            found = fresh.apply(_weigh, (name, folder, images))
        made = " | ".join(f"{taken:.0f}" for taken in built[name]) if name in built else "- | -"
        print(
            f"| {name} | {made} | {size / 1e6:.0f} | {found['own']:.0f} "
            f"| {found['mapped']:.0f} | {found['open']:.2f} |"
        )
        if "test" in found:
            test = f"Self-test at the start: {found['test_seconds']:.2f} s, {found['test']}."
    print(f"\n{test}")


def _weigh(kind: str, folder: Path, images: NDArray[np.float32]) -> dict[str, Any]:
    """Open one index and ask it a few times; seconds and megabytes that took."""
    import chromadb  # noqa: F401, PLC0415 - its own size is not the index's

    before, started = _memory(), time.perf_counter()
    with contextlib.ExitStack() as opened:
        ask, store = _OPENERS[kind](folder, opened)
        result: dict[str, Any] = {"open": time.perf_counter() - started}
        for image in images:
            ask(image[np.newaxis])
        result |= {name: size - before[name] for name, size in _memory().items()}
        if store is not None and store.mode != SearchMode.EXACT:
            started = time.perf_counter()
            result["test"] = str(store.check_recall())
            result["test_seconds"] = time.perf_counter() - started
    return result


def _open_ours(folder: Path, opened: contextlib.ExitStack, search: SearchMode) -> Opened:
    store = opened.enter_context(open_store(folder / "store", search=search, self_test=False))
    return lambda image: store.retrieve(image, 10, distinct=True), store


def _open_chroma(folder: Path, opened: contextlib.ExitStack) -> Opened:
    index = opened.enter_context(ChromaIndex.open(current_edition(folder / "store")))
    return lambda image: index.nearest(image, 10), None


def _open_faiss(folder: Path, _: contextlib.ExitStack) -> Opened:
    index = read_faiss(folder)
    return lambda image: index.search(image, 10), None


_OPENERS: dict[str, Callable[[Path, contextlib.ExitStack], Opened]] = {
    "retriever, exact": lambda folder, opened: _open_ours(folder, opened, SearchMode.EXACT),
    "retriever, hnsw": lambda folder, opened: _open_ours(folder, opened, SearchMode.HNSW),
    "Chroma alone": _open_chroma,
    "FAISS": _open_faiss,
}


def _memory() -> dict[str, float]:
    """Megabytes of this process: its own, and the pages of mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    return {"own": int(found["RssAnon"]) / 1e3, "mapped": int(found["RssFile"]) / 1e3}


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
