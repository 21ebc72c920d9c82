"""Parts of the index: recall, records, the embedding cache, workarounds for Chroma."""

import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fake_encoder import FakeEncoder
from support.small_corpus import small_corpus

from rag.errors import StoreError
from rag.index import ReportIndex, build_index
from rag.index.chroma import (
    Neighbour,
    VectorCollection,
    create_collections,
    plan_batches,
    split_into_batches,
)
from rag.index.client import ChromaLocation
from rag.index.content import group_by_text, reports_from_metadata, reports_to_metadata
from rag.index.embedding import CACHE_FILE, EmbeddingCache
from rag.index.verify import measure_recall


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


class ImperfectCollection:
    """A collection whose search misses some of the nearest."""

    def __init__(self, vectors: np.ndarray, misses: int) -> None:
        self._vectors, self._misses = vectors, misses

    def ids(self) -> list[str]:
        return [str(row) for row in range(len(self._vectors))]

    def vectors(self, ids: list[str]) -> np.ndarray:
        return self._vectors[[int(name) for name in ids]]

    def nearest(self, query: np.ndarray, n: int) -> list[Neighbour]:
        order = np.argsort(-(self._vectors @ query))[self._misses :][:n]
        return [(str(row), 0.0, {}) for row in order]


def test_recall_counts_missed_neighbours() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(300, 16)))
    for misses in (0, 1):
        texts = cast(VectorCollection, ImperfectCollection(vectors, misses))
        found = measure_recall(texts, vectors[:32], k=10)
        assert found == pytest.approx(1 - misses / 10)


def test_a_small_collection_is_searched_exhaustively(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(3_032, 64))
    rows[:, 0] += np.where(np.arange(len(rows)) < 3_000, 24, -24)  # as images lie far from texts
    vectors, queries = np.split(unit(rows), [3_000])
    names = [str(number) for number in range(len(vectors))]
    place = ChromaLocation(tmp_path, "", "v1", "a test")
    with create_collections(place, (len(names), 0)) as (texts, _):
        for ids in split_into_batches(names):
            texts.add(ids, vectors[[int(name) for name in ids]], [{"n": name} for name in ids])
        assert measure_recall(texts, queries, k=300) == 1.0


def test_reports_with_one_text_survive_as_one_record() -> None:
    corpus = small_corpus(60)
    groups = group_by_text(corpus.records)
    assert len(groups) < 60
    for reports in groups.values():
        metadata = reports_to_metadata(reports)
        assert list(reports_from_metadata(metadata)) == reports
        assert next(reports_from_metadata({**metadata, "others": "unread"})) == reports[0]
        assert metadata["copies"] == len(reports)


KEYS = [f"{number:032x}" for number in range(5)]
ROWS = np.arange(20, dtype=np.float32).reshape(5, 4)


def cache(directory: Path, encoder: FakeEncoder | None = None) -> EmbeddingCache:
    return EmbeddingCache(directory, encoder or FakeEncoder(dim=4))


@pytest.mark.parametrize("cut", [0, 1, 50, 4096, 5000, 8192, 10_000])
def test_a_damaged_cache_is_discarded_and_recreated(tmp_path: Path, cut: int) -> None:
    cache(tmp_path).append(KEYS[:4], ROWS[:4])
    path = tmp_path / CACHE_FILE
    path.write_bytes(path.read_bytes()[:cut])
    found = cache(tmp_path)
    assert len(found) == 0
    found.append(KEYS[4:], ROWS[4:])
    again = cache(tmp_path)
    assert len(again) == 1
    assert (again.vectors(KEYS[4:]) == ROWS[4:]).all()


@pytest.mark.parametrize("table", [False, True])
def test_a_cache_of_an_earlier_version_is_discarded(tmp_path: Path, *, table: bool) -> None:
    if table:
        with closing(sqlite3.connect(tmp_path / CACHE_FILE)) as file, file:
            file.execute("CREATE TABLE vectors (key TEXT, vector BLOB)")
    else:
        (tmp_path / CACHE_FILE).write_bytes(b'["fake@1", "none", 4]\n' + ROWS.tobytes())
    assert len(EmbeddingCache(tmp_path, FakeEncoder(dim=4), read_only=True)) == 0
    found = cache(tmp_path)
    found.append(KEYS, ROWS)
    assert (cache(tmp_path).vectors(KEYS[::-1]) == ROWS[::-1]).all()


def test_an_unreachable_cache_is_not_discarded(tmp_path: Path) -> None:
    disk, directory = tmp_path / "disk", tmp_path / "index"
    disk.mkdir()
    directory.mkdir()
    (directory / CACHE_FILE).symlink_to(disk / CACHE_FILE)
    cache(directory).append(KEYS, ROWS)
    disk.rename(tmp_path / "unmounted")
    with pytest.raises(StoreError, match="unable to open database file"):
        cache(directory)
    (tmp_path / "unmounted").rename(disk)
    assert len(cache(directory)) == len(KEYS)


def test_vectors_that_are_not_kept_are_erased_from_the_file(tmp_path: Path) -> None:
    full = cache(tmp_path)
    full.append(KEYS, ROWS)
    full.keep([KEYS[3], KEYS[1], "f" * 32])
    for found in (full, cache(tmp_path)):
        assert len(found) == 2
        assert (found.vectors([KEYS[1], KEYS[3]]) == ROWS[[1, 3]]).all()
    assert ROWS[2].tobytes() not in (tmp_path / CACHE_FILE).read_bytes()


def test_each_encoder_has_its_own_vectors_until_keep_drops_the_others(tmp_path: Path) -> None:
    cache(tmp_path).append(KEYS, ROWS)
    other = cache(tmp_path, FakeEncoder("fake@2", dim=4))
    assert len(other) == 0
    other.append(KEYS[:1], ROWS[1:2])
    assert (other.vectors(KEYS[:1]) == ROWS[1:2]).all()
    assert (cache(tmp_path).vectors(KEYS) == ROWS).all()
    other.keep(KEYS)
    assert len(cache(tmp_path)) == 0
    assert len(cache(tmp_path, FakeEncoder("fake@2", dim=4))) == 1


@given(st.integers(0, 5000))
def test_batches_are_even_and_the_last_write_falls_on_the_last_record(total: int) -> None:
    sizes, threshold = plan_batches(total)
    assert sum(sizes) == total
    assert all(0 < size <= 400 for size in sizes)
    waiting = 0
    for size in sizes:
        waiting += size
        if waiting >= threshold:
            waiting = 0
    assert waiting <= max(4, total % 4 + 4)


def test_heavy_packages_are_imported_lazily() -> None:
    code = "import sys, rag.index, rag.corpus.openi\n"
    code += "print(sorted({'chromadb', 'torch', 'httpx', 'pydicom'} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment()
    )
    assert run.stdout.strip() == "[]"


READ = """
import sys
from pathlib import Path
from support.fake_encoder import FakeEncoder
from rag.errors import StoreError
from rag.index import ReportIndex
with ReportIndex(Path(sys.argv[1])) as index:
    vectors = FakeEncoder().embed_texts(sys.argv[2:])
    for _ in range(50):
        print([[hit.record.report_id for hit in index.query(vector, 5)] for vector in vectors])
"""


@pytest.mark.slow
def test_no_memory_of_the_writer_leaks_into_chromas_graph(tmp_path: Path) -> None:
    for number in range(4):  # without `scrub_memory` half of them hold words of reports
        build_index(small_corpus(23 + 49 * number), FakeEncoder(dim=64), tmp_path / f"{number}")
    graphs = [path.read_bytes() for path in tmp_path.glob("*/version-*/chroma/*/*.bin")]
    assert len(graphs) >= 16
    assert not [words for graph in graphs for words in re.findall(rb"[ -~]{12,}", graph)]
    lengths = [path.read_bytes() for path in tmp_path.glob("*/version-*/chroma/*/length.bin")]
    rooms = [np.trim_zeros(np.frombuffer(data, np.float32), "b") for data in lengths]
    assert min(map(len, rooms)) < 30  # of 100 allocated, glibc's small allocations
    np.testing.assert_allclose(np.concatenate(rooms), 1, atol=1e-5)


@pytest.mark.slow
def test_many_processes_read_concurrently_and_change_no_graph_file(
    tmp_path: Path,
) -> None:
    build_index(small_corpus(1500), FakeEncoder(), tmp_path)
    graph = {path: path.read_bytes() for path in tmp_path.glob("version-*/chroma/*/*")}
    assert graph
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READ, str(tmp_path), "Lungs are clear.", "Effusion."],
            stdout=subprocess.PIPE,
            env=environment(),
        )
        for _ in range(4)
    ]
    answers = {line for reader in readers for line in reader.communicate()[0].splitlines()}
    assert [reader.returncode for reader in readers] == [0] * 4
    assert len(answers) == 1
    assert {path: path.read_bytes() for path in graph} == graph


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="strace is Linux")
@pytest.mark.skipif(
    not any((Path(folder) / "strace").exists() for folder in os.environ["PATH"].split(":")),
    reason="strace is not installed",
)
def test_no_network_connection_is_attempted(tmp_path: Path) -> None:
    build_index(small_corpus(30), FakeEncoder(), tmp_path / "index")
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-e", "trace=connect,sendto,sendmsg", "-o", str(trace)]
    subprocess.run(
        [*command, sys.executable, "-c", READ, str(tmp_path / "index"), "Lungs are clear."],
        check=True,
        stdout=subprocess.DEVNULL,
        env=environment(),
    )
    lines = trace.read_text().splitlines()
    assert [line for line in lines if "sin_addr" in line or "AF_INET6" in line] == []


def test_the_old_version_answers_while_a_new_one_is_written(tmp_path: Path) -> None:
    build_index(small_corpus(30), FakeEncoder(), tmp_path)
    (query,) = FakeEncoder().embed_texts(["Lungs are clear."])
    with ReportIndex(tmp_path) as index:
        before = index.query(query, 5)
        during = []

        def progress(stage: str, done: int, total: int) -> None:
            if stage == "index" or (stage, done) == ("publish", 1):
                during.append(index.query(query, 5))

        build_index(small_corpus(40), FakeEncoder(), tmp_path, progress=progress)
        assert during
        assert all(answer == before for answer in during)
        assert len(index) == 40
