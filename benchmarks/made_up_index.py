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
from made_up_collection import Drawn, Reports
from numpy.typing import NDArray

from rag.corpus.records import text_hash
from rag.index import ReportIndex, read_info
from rag.index.chroma import open_collections
from rag.index.client import place_of
from rag.index.content import Content
from rag.index.embedding import EmbeddingCache
from rag.index.info import write_lock
from rag.index.writer import write_version

KEPT = 32  # images kept in the index, which `verify` asks with: the last ones drawn
Ask = Callable[[NDArray[np.float32]], Any]


@dataclass(frozen=True, slots=True)
class MadeUpEncoder:
    """Says who made the vectors; embeds nothing."""

    dim: int
    encoder_id: str = "made-up"
    preprocess_hash: str = "0"


def texts_of(drawn: Drawn) -> NDArray[np.int64]:
    """The first report of each text, ascending."""
    return np.unique(drawn.text_of)


def build(folder: Path, drawn: Drawn) -> list[float]:
    """Make the index if it is not there; seconds it took, of the clock and of the processor."""
    note = folder / "built.json"
    if not note.exists():
        started, busy = time.perf_counter(), time.process_time()
        _build_index(folder, drawn)
        note.write_text(json.dumps([time.perf_counter() - started, time.process_time() - busy]))
    seconds: list[float] = json.loads(note.read_text())
    return seconds


def _build_index(folder: Path, drawn: Drawn) -> None:
    encoder, directory = MadeUpEncoder(drawn.vectors.shape[1]), folder / "index"
    directory.mkdir(parents=True, exist_ok=True)
    reports = Reports(drawn.text_of)
    images = {f"{number:032x}": (reports[number].report_id,) for number in range(KEPT)}
    with write_lock(directory):
        cache = EmbeddingCache(directory, encoder)
        rows = texts_of(drawn)
        for start in range(0, len(rows), 10_000):
            part = rows[start : start + 10_000]
            keys = [text_hash(reports[int(row)].text) for row in part]
            cache.append(keys, drawn.vectors[part])
        cache.append(list(images), drawn.images[-KEPT:])
        content = Content(reports, (), (), store_id="made-up", encoder=encoder, images=images)
        write_version(directory, content, cache, url="", progress=lambda *_: None)


def print_costs(folder: Path, built: list[float], images: NDArray[np.float32]) -> None:
    """Print what building, opening and holding each index costs."""
    directory = folder / "index"
    info = read_info(directory)
    chroma = place_of(directory, info, "").folder
    disk = {
        "retriever": _bytes(chroma.parent),
        "Chroma alone": _bytes(chroma),
    }
    print(f"\nBuilding took {built[0]:.0f} s, {built[1]:.0f} s of the processor.")
    print("\n| system | disk MB | memory MB | mapped MB | open s | first query s |")
    print(f"{'|---' * 6}|")
    for name, size in disk.items():
        with multiprocessing.get_context("spawn").Pool(1) as fresh:
            found = fresh.apply(_weigh, (name, folder, images))
        print(
            f"| {name} | {size / 1e6:.0f} | {found['own']:.0f} | {found['mapped']:.0f} "
            f"| {found['open']:.2f} | {found['first']:.2f} |"
        )
    cache = (directory / "embeddings.cache").stat().st_size
    print(f"\nEmbedding cache beside it: {cache / 1e6:.0f} MB")


def _weigh(kind: str, folder: Path, images: NDArray[np.float32]) -> dict[str, float]:
    """Open one index and ask it a few times; seconds and megabytes that took."""
    import chromadb  # noqa: F401, PLC0415 - its own size is not the index's

    before, started = _memory(), time.perf_counter()
    with contextlib.ExitStack() as opened:
        ask = _OPENERS[kind](folder, opened)
        result = {"open": time.perf_counter() - started}
        for image in images:
            ask(image[np.newaxis])
            result.setdefault("first", time.perf_counter() - started - result["open"])
        return result | {name: size - before[name] for name, size in _memory().items()}


def _open_ours(folder: Path, opened: contextlib.ExitStack) -> Ask:
    index: ReportIndex = opened.enter_context(ReportIndex(folder / "index"))
    return lambda image: index.query(image, 10)


def _open_chroma(folder: Path, opened: contextlib.ExitStack) -> Ask:
    directory = folder / "index"
    place = place_of(directory, read_info(directory), "")
    texts, _ = opened.enter_context(open_collections(place))
    return lambda image: texts.nearest(image, 10)


_OPENERS: dict[str, Callable[[Path, contextlib.ExitStack], Ask]] = {
    "retriever": _open_ours,
    "Chroma alone": _open_chroma,
}


def _memory() -> dict[str, float]:
    """Megabytes of this process: its own, and the pages of mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    return {"own": int(found["RssAnon"]) / 1e3, "mapped": int(found["RssFile"]) / 1e3}


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
