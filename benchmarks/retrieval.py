"""Our retriever beside a bare Chroma query and plain numpy: time, recall, disk, memory.

    python benchmarks/retrieval.py --cache FOLDER [--sizes 20000 227835] [--queries 200] [-k 10]

Indexes are built once into ``--cache`` and only opened in later runs. Each query goes once to every
system; the systems take turns, and none is asked what another was asked just before, so that what
else the machine does, and what lies in the processor's cache, falls on all of them. ``ratio`` is
the quotient of the medians of wall time to the system named beside it; brackets are 95 % intervals,
bootstrap over queries. ``cpu ms`` is the median of the processor time of
this process, which other work on the machine changes least. Recall@k is measured against exact
search under the same exclusions, ties counted as found. Chroma holds each text once, so its recall
is of distinct texts. Memory is of a fresh process: what it holds by itself, and the pages of mapped
files beside it.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import interval, ninety_fifth
from made_up_index import (
    KEPT,
    STUDIES_A_PATIENT,
    Drawn,
    MadeUpEncoder,
    Reports,
    build,
    draw,
    patient_id,
    print_costs,
    row_of,
    texts_of,
)
from numpy.typing import NDArray

from rag.corpus.records import text_hash
from rag.index import Exclusions, ReportIndex
from rag.retriever import ReportRetriever
from rag.settings import RetrievalSettings

BARE, BARE_POOL, NUMPY = "Chroma, bare query", "Chroma, bare query, k = 50", "numpy, exact"
POOL = 50  # what the product looks at before it chooses
SAME = 1e-6
Answer = Sequence[int]


@dataclass(frozen=True, slots=True)
class System:
    """Something that can be asked.

    Attributes:
        ask: the number of a query -> rows, nearest first.
        k: how many rows it gives.
        against: the system its time is compared with.
        excludes: whether reports of the image's patient stay out.
        distinct: whether equal texts count once.
    """

    ask: Callable[[int], Answer]
    k: int
    against: str = ""
    excludes: bool = False
    distinct: bool = False


class Truth:
    """Exact search under each system's conditions, with numpy over the drawn vectors."""

    def __init__(self, drawn: Drawn) -> None:
        self._drawn = drawn
        self._floors: dict[tuple[int, int, bool, bool], float] = {}

    def recall(self, system: System, queries: Iterable[int]) -> float:
        """Share of the true neighbours that a system finds, or others that are as near."""
        hits = asked = 0
        for query in queries:
            found = np.array(system.ask(query), np.intp)
            near = self._drawn.vectors[found] @ self._drawn.images[query]
            hits += min(system.k, int((near >= self._floor(system, query) - SAME).sum()))
            asked += system.k
        return hits / asked

    def _floor(self, system: System, query: int) -> float:
        """Similarity of the last of the true neighbours."""
        key = (query, system.k, system.excludes, system.distinct)
        if key not in self._floors:
            near = self._drawn.vectors @ self._drawn.images[query]
            if system.excludes:
                patients = np.arange(len(near)) // STUDIES_A_PATIENT
                near[patients == self._drawn.patient_of[query]] = -np.inf
            if system.distinct:  # equal texts have equal vectors: the best left of each
                best = np.full(len(near), -np.inf, np.float32)
                np.maximum.at(best, self._drawn.text_of, near)
                near = best
            self._floors[key] = float(np.partition(near, -system.k)[-system.k])
        return self._floors[key]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000, 227_835])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("-k", type=int, default=10)
    chosen = parser.parse_args()
    for size in chosen.sizes:
        drawn = draw(size, dim=chosen.dim, queries=chosen.queries + KEPT)
        folder = chosen.cache / f"{size}x{chosen.dim}"
        built = build(folder, drawn)
        print(f"\n### {size} reports, {chosen.dim} dimensions\n", flush=True)
        with ReportIndex(folder / "index") as index:
            systems = systems_of(drawn, index, k=chosen.k)
            compare(systems, Truth(drawn), queries=chosen.queries)
        print_costs(folder, built, drawn.images[:8])


def systems_of(drawn: Drawn, index: ReportIndex, *, k: int) -> dict[str, System]:
    """Chroma, numpy and ours, by name."""
    collection = index._version.texts._collection  # no other way to it
    reports = Reports(drawn.text_of)
    rows = {text_hash(reports[row].text): row for row in texts_of(drawn).tolist()}

    def ours(against: str, *, k: int = k, excludes: bool = False) -> System:
        return System(product(index, drawn, k=k, excludes=excludes), k, against, excludes, True)

    return {
        NUMPY: System(plain_numpy(drawn, k), k),
        BARE: System(bare_chroma(collection, rows, drawn, k), k, distinct=True),
        "retriever": ours(BARE),
        "retriever, patient left out": ours(BARE, excludes=True),
        BARE_POOL: System(bare_chroma(collection, rows, drawn, POOL), POOL, distinct=True),
        "retriever, pool of 50, patient left out": ours(BARE_POOL, k=POOL, excludes=True),
    }


def product(store: ReportIndex, drawn: Drawn, *, k: int, excludes: bool) -> Callable[[int], Answer]:
    """The retriever as the pipeline asks it; without labels, which are another step's time."""
    settings = RetrievalSettings(by="text", k=k, fetch_k=k)
    encoder = MadeUpEncoder(drawn.vectors.shape[1])
    retriever = ReportRetriever(index=store, encoder=encoder, settings=settings)

    def ask(query: int) -> Answer:
        patients = [patient_id(drawn.patient_of[query])] if excludes else []
        excluded = Exclusions(patients=frozenset(patients))
        found = retriever.retrieve(drawn.images[query], exclude=excluded)
        return [row_of(hit.record.report_id) for hit in found.hits]

    return ask


def plain_numpy(drawn: Drawn, k: int) -> Callable[[int], Answer]:
    """What one would write."""

    def ask(query: int) -> Answer:
        similarities = drawn.vectors @ drawn.images[query]
        near = np.argpartition(similarities, -k)[-k:]
        found: Answer = near[np.argsort(-similarities[near])].tolist()
        return found

    return ask


def bare_chroma(
    collection: Any, rows: dict[str, int], drawn: Drawn, k: int
) -> Callable[[int], Answer]:
    """The collection itself, with what it gives by default: ids, distances, metadata."""

    def ask(query: int) -> Answer:
        found = collection.query(query_embeddings=drawn.images[query][None], n_results=k)
        return [rows[name] for name in found["ids"][0]]

    return ask


def compare(systems: dict[str, System], truth: Truth, *, queries: int) -> None:
    """Ask everything and print the table."""
    names = list(systems)
    wall = {name: np.full(queries, np.nan) for name in names}
    cpu = {name: np.full(queries, np.nan) for name in names}
    for query in range(3):
        for system in systems.values():
            system.ask(query)
    for turn in range(queries):
        for place in np.random.default_rng(turn).permutation(len(names)):
            name, query = names[place], (turn + place * queries // len(names)) % queries
            started, busy = time.perf_counter(), time.process_time()
            systems[name].ask(query)
            wall[name][query] = 1000 * (time.perf_counter() - started)
            cpu[name][query] = 1000 * (time.process_time() - busy)
    print(f"| system | p50 ms | p95 ms | ratio | to | cpu ms | recall |\n{'|---' * 7}|")
    for name, system in systems.items():
        asked = np.flatnonzero(np.isfinite(wall[name]))
        own, base = wall[name][asked], system.against
        ratio = interval(quotient, own, wall[base][asked]) if base else "-"
        cells = [
            f"{name} (n = {len(asked)})",
            interval(np.median, own),
            interval(ninety_fifth, own),
            ratio,
            base or "-",
            f"{np.median(cpu[name][asked]):.2f}",
            f"{truth.recall(system, asked.tolist()):.4f}",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


def quotient(own: NDArray[np.float64], base: NDArray[np.float64]) -> float:
    """Of the medians."""
    return float(np.median(own) / np.median(base))


if __name__ == "__main__":
    main()
