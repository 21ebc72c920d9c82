"""The retriever beside a bare Chroma query and plain numpy: time, recall, disk, memory.

    python benchmarks/retrieval.py --cache FOLDER [--sizes 20000 227835] [--queries 200] [-k 10]

Indexes are built once into ``--cache``. Systems take turns, and each query goes once to every
system but never twice in a row, so that other load and CPU caches affect all alike. ``ratio`` is
of median wall times, to the system named beside it; brackets are 95 % bootstrap intervals over
queries. ``cpu ms`` is the median CPU time of this process, least affected by other load. Recall@k
is against exact search with the same exclusions, ties counted as hits; Chroma stores each text
once, so its recall is of distinct texts. Memory is of a fresh process: anonymous, and of mapped
files.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import interval, p95
from numpy.typing import NDArray
from synthetic_index import (
    INDEXED_IMAGES,
    STUDIES_PER_PATIENT,
    SyntheticData,
    SyntheticEncoder,
    SyntheticReports,
    build_index,
    distinct_text_rows,
    make_data,
    patient_id,
    print_index_costs,
    row_of,
)

from rag.corpus.records import text_hash
from rag.index import Exclusions, ReportIndex
from rag.retriever import ReportRetriever
from rag.settings import RetrievalSettings

BARE, BARE_POOL, NUMPY = "Chroma, bare query", "Chroma, bare query, k = 50", "numpy, exact"
POOL = 50  # the product's fetch_k
TIE = 1e-6
Answer = Sequence[int]


@dataclass(frozen=True, slots=True)
class System:
    """A retrieval system under test.

    Attributes:
        search: index of a query -> rows, nearest first.
        k: number of rows.
        baseline: the system its time is compared with.
        excludes: whether reports of the query's patient are excluded.
        distinct: whether equal texts count once.
    """

    search: Callable[[int], Answer]
    k: int
    baseline: str = ""
    excludes: bool = False
    distinct: bool = False


class ExactSearch:
    """Recall of a system against exact search with the same k and exclusions."""

    def __init__(self, data: SyntheticData) -> None:
        self._data = data
        self._kth_similarities: dict[tuple[int, int, bool, bool], float] = {}

    def recall(self, system: System, queries: Iterable[int]) -> float:
        """Share of the exact neighbours that a system finds; equally near ones count."""
        hits = total = 0
        for query in queries:
            found = np.array(system.search(query), np.intp)
            similarities = self._data.vectors[found] @ self._data.images[query]
            is_hit = similarities >= self._kth_similarity(system, query) - TIE
            hits += min(system.k, int(is_hit.sum()))
            total += system.k
        return hits / total

    def _kth_similarity(self, system: System, query: int) -> float:
        """Similarity of the k-th exact neighbour."""
        key = (query, system.k, system.excludes, system.distinct)
        if key not in self._kth_similarities:
            similarities = self._data.vectors @ self._data.images[query]
            if system.excludes:
                patients = np.arange(len(similarities)) // STUDIES_PER_PATIENT
                similarities[patients == self._data.patient_of[query]] = -np.inf
            if system.distinct:  # the best remaining report of each text
                best = np.full(len(similarities), -np.inf, np.float32)
                np.maximum.at(best, self._data.text_of, similarities)
                similarities = best
            self._kth_similarities[key] = float(np.partition(similarities, -system.k)[-system.k])
        return self._kth_similarities[key]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000, 227_835])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("-k", type=int, default=10)
    options = parser.parse_args()
    for size in options.sizes:
        data = make_data(size, dim=options.dim, queries=options.queries + INDEXED_IMAGES)
        folder = options.cache / f"{size}x{options.dim}"
        built = build_index(folder, data)
        print(f"\n### {size} reports, {options.dim} dimensions\n", flush=True)
        with ReportIndex(folder / "index") as index:
            systems = systems_of(data, index, k=options.k)
            compare(systems, ExactSearch(data), queries=options.queries)
        print_index_costs(folder, built, data.images[:8])


def systems_of(data: SyntheticData, index: ReportIndex, *, k: int) -> dict[str, System]:
    """numpy, Chroma and the retriever, by name."""
    collection = index._version.texts._collection  # there is no public access
    reports = SyntheticReports(data.text_of)
    rows = {text_hash(reports[row].text): row for row in distinct_text_rows(data).tolist()}

    def ours(baseline: str, *, k: int = k, excludes: bool = False) -> System:
        search = retriever_search(index, data, k=k, excludes=excludes)
        return System(search, k, baseline, excludes, distinct=True)

    return {
        NUMPY: System(plain_numpy(data, k), k),
        BARE: System(bare_chroma(collection, rows, data, k), k, distinct=True),
        "retriever": ours(BARE),
        "retriever, patient left out": ours(BARE, excludes=True),
        BARE_POOL: System(bare_chroma(collection, rows, data, POOL), POOL, distinct=True),
        "retriever, pool of 50, patient left out": ours(BARE_POOL, k=POOL, excludes=True),
    }


def retriever_search(
    index: ReportIndex, data: SyntheticData, *, k: int, excludes: bool
) -> Callable[[int], Answer]:
    """The retriever as the pipeline calls it, without predicted labels."""
    settings = RetrievalSettings(by="text", k=k, fetch_k=k)
    encoder = SyntheticEncoder(data.vectors.shape[1])
    retriever = ReportRetriever(index=index, encoder=encoder, settings=settings)

    def search(query: int) -> Answer:
        patients = [patient_id(data.patient_of[query])] if excludes else []
        excluded = Exclusions(patients=frozenset(patients))
        found = retriever.retrieve(data.images[query], exclude=excluded)
        return [row_of(hit.record.report_id) for hit in found.hits]

    return search


def plain_numpy(data: SyntheticData, k: int) -> Callable[[int], Answer]:
    """A matrix product and a partition."""

    def search(query: int) -> Answer:
        similarities = data.vectors @ data.images[query]
        near = np.argpartition(similarities, -k)[-k:]
        found: Answer = near[np.argsort(-similarities[near])].tolist()
        return found

    return search


def bare_chroma(
    collection: Any, rows: dict[str, int], data: SyntheticData, k: int
) -> Callable[[int], Answer]:
    """The collection's own query, with its defaults: ids, distances, metadata."""

    def search(query: int) -> Answer:
        found = collection.query(query_embeddings=data.images[query][None], n_results=k)
        return [rows[name] for name in found["ids"][0]]

    return search


def compare(systems: dict[str, System], exact: ExactSearch, *, queries: int) -> None:
    """Run all queries on all systems and print the table."""
    names = list(systems)
    wall = {name: np.full(queries, np.nan) for name in names}
    cpu = {name: np.full(queries, np.nan) for name in names}
    for query in range(3):
        for system in systems.values():
            system.search(query)
    for turn in range(queries):
        for place in np.random.default_rng(turn).permutation(len(names)):
            name, query = names[place], (turn + place * queries // len(names)) % queries
            started, cpu_started = time.perf_counter(), time.process_time()
            systems[name].search(query)
            wall[name][query] = 1000 * (time.perf_counter() - started)
            cpu[name][query] = 1000 * (time.process_time() - cpu_started)
    print(f"| system | p50 ms | p95 ms | ratio | to | cpu ms | recall |\n{'|---' * 7}|")
    for name, system in systems.items():
        answered = np.flatnonzero(np.isfinite(wall[name]))
        times, base = wall[name][answered], system.baseline
        ratio = interval(median_ratio, times, wall[base][answered]) if base else "-"
        cells = [
            f"{name} (n = {len(answered)})",
            interval(np.median, times),
            interval(p95, times),
            ratio,
            base or "-",
            f"{np.median(cpu[name][answered]):.2f}",
            f"{exact.recall(system, answered.tolist()):.4f}",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


def median_ratio(times: NDArray[np.float64], baseline: NDArray[np.float64]) -> float:
    """Ratio of the medians."""
    return float(np.median(times) / np.median(baseline))


if __name__ == "__main__":
    main()
