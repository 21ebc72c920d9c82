"""Queries return the true neighbours, nothing excluded, ties by id."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fake_encoder import FakeEncoder
from support.small_corpus import small_corpus

from rag.errors import StoreMismatchError, StoreMissingError
from rag.index import Exclusions, ReportIndex, build_index, delete_from_index
from rag.index.client import close_idle_clients
from rag.index.store import unit_vector
from rag.schema import Hit

pytestmark = pytest.mark.slow


class OtherPreprocessing(FakeEncoder):
    preprocess_hash = "other"


ENCODER = FakeEncoder()
CORPUS = small_corpus(120)
VECTORS = FakeEncoder().embed_texts([record.text for record in CORPUS.records])


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index")
    build_index(CORPUS, ENCODER, folder)
    return folder


@pytest.fixture(scope="module")
def graph(directory: Path) -> Iterator[ReportIndex]:
    with ReportIndex(directory, encoder=ENCODER) as index:
        yield index


def ids(hits: list[Hit] | tuple[Hit, ...]) -> list[str]:
    return [hit.record.report_id for hit in hits]


def brute_force(
    query: np.ndarray, k: int, excluded: set[int] | frozenset[int] = frozenset()
) -> list[tuple[str, float]]:
    """The first report of each text, nearest first."""
    wide = unit_vector(query, len(query)).astype(np.float64)
    texts: dict[str, tuple[str, float]] = {}
    for row, (vector, record) in enumerate(zip(VECTORS, CORPUS.records, strict=True)):
        if row not in excluded:
            similarity = round(float(vector.astype(np.float64) @ wide), 5)
            texts.setdefault(record.text, (record.report_id, similarity))
    return sorted(texts.values(), key=lambda item: (-item[1], item[0]))[:k]


def random_query(seed: int) -> np.ndarray:
    query = np.random.default_rng(seed).normal(size=ENCODER.dim)
    return np.asarray(query / np.linalg.norm(query), np.float32)


SEEDS = st.integers(0, 10**6)
IDS = st.lists(st.integers(0, 119), max_size=60)


@settings(max_examples=60)
@given(SEEDS, st.integers(1, 130), st.tuples(IDS, IDS, IDS))
def test_queries_equal_brute_force_with_exclusions(
    graph: ReportIndex, seed: int, k: int, exclusions: tuple[list[int], ...]
) -> None:
    studies, patients, reports = exclusions
    query = random_query(seed)
    excluded_patients = {number // 3 for number in studies} | {number // 3 for number in patients}
    excluded = {row for row in range(120) if row // 3 in excluded_patients} | set(reports)
    expected = brute_force(query, k, excluded)
    exclude = Exclusions(
        frozenset(f"s{number:03d}" for number in studies) | {"unknown"},
        frozenset(f"p{number // 3:03d}" for number in patients),
        frozenset(f"r{number:03d}" for number in reports),
    )
    found = graph.query(query, k, exclude=exclude)
    similarities = [similarity for _, similarity in expected]
    assert [hit.similarity for hit in found] == pytest.approx(similarities, abs=2e-5)
    if all(one - other > 4e-5 for one, other in pairwise(similarities)):
        assert ids(found) == [report_id for report_id, _ in expected]
    assert not {int(name[1:]) for name in ids(found)} & excluded


def test_a_text_is_returned_once_with_the_count_of_its_reports(graph: ReportIndex) -> None:
    hits = graph.query(VECTORS[5], 120)
    assert {hit.record.text for hit in hits} == {record.text for record in CORPUS.records}
    assert len(hits) < 120
    for hit in hits:
        assert hit.copies == sum(r.text == hit.record.text for r in CORPUS.records)


def test_every_report_is_returned_by_its_id(graph: ReportIndex) -> None:
    assert [graph.get(record.report_id) for record in CORPUS.records] == list(CORPUS.records)
    assert graph.get("nobody") is None


def test_an_image_named_after_its_study_or_patient_finds_its_studies(graph: ReportIndex) -> None:
    assert graph.studies_named_in("s007_view-1.png") == {"s007"}
    assert graph.studies_named_in("x/p002/image.dcm") == {"s006", "s007", "s008"}
    assert graph.studies_named_in("image.dcm") == graph.studies_named_in("\udcff") == frozenset()


def test_excluding_everybody_returns_nothing(graph: ReportIndex) -> None:
    everybody = frozenset(record.patient_id for record in CORPUS.records)
    assert graph.query(VECTORS[0], 5, exclude=Exclusions(patients=everybody)) == []


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (np.zeros(16, np.float32), "zero or not finite"),
        (np.full(16, np.nan, np.float32), "zero or not finite"),
        (np.ones(15, np.float32), r"\(15,\), this index needs \(16,\)"),
        (np.ones((1, 16), np.float32), r"\(1, 16\), this index needs"),
    ],
)
def test_invalid_query_vectors_are_refused(
    graph: ReportIndex, vector: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        graph.query(vector, 5)


def test_queries_from_several_threads_agree(graph: ReportIndex) -> None:
    queries = [random_query(seed) for seed in range(40)]
    alone = [graph.query(query, 5) for query in queries]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda query: graph.query(query, 5), queries)) == alone


def test_size_id_and_attribution(graph: ReportIndex) -> None:
    assert len(graph) == 120
    assert len(graph.index_id) == 12
    assert graph.attribution == "The authors."


@pytest.mark.parametrize("other", [FakeEncoder("fake@2"), FakeEncoder(dim=8), OtherPreprocessing()])
def test_another_encoder_is_refused_with_both_names(directory: Path, other: FakeEncoder) -> None:
    with pytest.raises(StoreMismatchError) as refused:
        ReportIndex(directory, encoder=other)
    assert "fake@1 (16 dimensions, preprocessing none)" in str(refused.value)
    assert f"{other.encoder_id} ({other.dim} dimensions, preprocessing" in str(refused.value)
    assert "cxr-rag index --replace" in str(refused.value)


def test_a_missing_index_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(StoreMissingError, match="make one with `cxr-rag index`"):
            ReportIndex(folder)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_uses_a_new_version_without_deleted_reports(tmp_path: Path) -> None:
    build_index(small_corpus(9), ENCODER, tmp_path)
    with ReportIndex(tmp_path, encoder=ENCODER) as reader:
        before = reader.index_id
        assert "r004" in ids(reader.query(VECTORS[0], 9))
        delete_from_index(tmp_path, studies=frozenset({"s004"}))
        assert "r004" not in ids(reader.query(VECTORS[0], 9))
        assert reader.index_id != before
        build_index(small_corpus(9), FakeEncoder("fake@2"), tmp_path, replace=True)
        with pytest.raises(StoreMismatchError, match="fake@2"):
            reader.query(VECTORS[0], 9)


def test_a_reader_knows_the_studies_of_a_new_version_before_any_query(tmp_path: Path) -> None:
    build_index(small_corpus(9), ENCODER, tmp_path)
    with ReportIndex(tmp_path, encoder=ENCODER) as reader:
        before = reader.index_id
        build_index(small_corpus(12), ENCODER, tmp_path)
        assert reader.studies_named_in("s010.png") == {"s010"}
        build_index(small_corpus(15), ENCODER, tmp_path)
        assert len(reader) == 15
        assert reader.index_id != before
        (tmp_path / "index.json").rename(tmp_path / "aside")
        assert len(reader) == 15  # the last that could be opened


def open_files(folder: Path) -> list[str]:
    """Files below a folder that this process has open."""
    files = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    return [file for file in files if file.startswith(str(folder))]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_old_versions_are_closed_after_their_last_query(tmp_path: Path) -> None:
    build_index(small_corpus(9), ENCODER, tmp_path)
    done = threading.Event()

    def ask(reader: ReportIndex) -> None:
        while not done.wait(0.01):
            assert reader.query(VECTORS[0], 3)

    with ReportIndex(tmp_path, encoder=ENCODER) as reader, ThreadPoolExecutor(4) as pool:
        try:
            asking = [pool.submit(ask, reader) for _ in range(4)]
            for number in range(10, 14):
                build_index(small_corpus(number), ENCODER, tmp_path)
        finally:
            done.set()
        for future in asking:
            future.result()
        assert len(reader) == 13
        close_idle_clients()
        assert open_files(tmp_path)
        deadline = time.monotonic() + 20  # SQLite's threads close their files a little later
        while deleted := [file for file in open_files(tmp_path) if file.endswith("(deleted)")]:
            assert time.monotonic() < deadline, deleted
            time.sleep(0.05)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_very_small_indexes(tmp_path: Path, count: int) -> None:
    build_index(small_corpus(count), ENCODER, tmp_path)
    with ReportIndex(tmp_path, encoder=ENCODER) as index:
        hits = index.query(VECTORS[0], 5)
        assert len(hits) == min(count, 5)
        assert len(index) == count
