"""Queries: the same true neighbours in every mode, nothing that is excluded, ties by id."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fake_encoder import FakeEncoder
from hypothesis import given, settings
from hypothesis import strategies as st
from small_corpus import small_corpus

from rag.errors import StoreInUseError, StoreMismatchError, StoreMissingError
from rag.index import build_index, delete_from_index
from rag.schema import Hit
from rag.store import ReportStore, SearchMode, open_store
from rag.store.ranking import unit_rows


class OtherPreprocessing(FakeEncoder):
    preprocess_hash = "other"


ENCODER = FakeEncoder()
CORPUS = small_corpus(120)
VECTORS = unit_rows(FakeEncoder().embed_texts([record.text for record in CORPUS.records]), 16)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    build_index(CORPUS, ENCODER, folder)
    return folder


@pytest.fixture(scope="module")
def exact(directory: Path) -> Iterator[ReportStore]:
    with open_store(directory, encoder=ENCODER, search=SearchMode.EXACT) as store:
        yield store


@pytest.fixture(scope="module")
def hnsw(directory: Path) -> Iterator[ReportStore]:
    with open_store(directory, encoder=ENCODER) as store:
        yield store


def ids(hits: list[Hit]) -> list[str]:
    return [hit.record.report_id for hit in hits]


def brute_force(
    query: np.ndarray, k: int, out: set[int] | frozenset[int] = frozenset()
) -> list[tuple[str, float]]:
    """The definition, as plainly as can be."""
    wide = unit_rows(query[np.newaxis], len(query))[0].astype(np.float64)
    scored = [
        (-float(vector.astype(np.float64) @ wide), record.report_id)
        for row, (vector, record) in enumerate(zip(VECTORS, CORPUS.records, strict=True))
        if row not in out
    ]
    return [(report_id, -similarity) for similarity, report_id in sorted(scored)[:k]]


def random_query(seed: int) -> np.ndarray:
    query = np.random.default_rng(seed).normal(size=ENCODER.dim)
    return np.asarray(query / np.linalg.norm(query), np.float32)


SEEDS = st.integers(0, 10**6)
IDS = st.lists(st.integers(0, 119), max_size=60)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 130), st.tuples(IDS, IDS, IDS))
def test_both_modes_are_the_definition_without_what_is_excluded(
    exact: ReportStore, hnsw: ReportStore, seed: int, k: int, left_out: tuple[list[int], ...]
) -> None:
    studies, patients, reports = left_out
    query = random_query(seed)
    out_patients = {number // 3 for number in studies} | {number // 3 for number in patients}
    out = {row for row in range(120) if row // 3 in out_patients} | set(reports)
    expected = brute_force(query, k, out)
    for store in (exact, hnsw):
        (hits,) = store.query(
            query[np.newaxis],
            k,
            exclude_studies=frozenset(f"s{number:03d}" for number in studies) | {"unknown"},
            exclude_patients=frozenset(f"p{number // 3:03d}" for number in patients),
            exclude_reports=frozenset(f"r{number:03d}" for number in reports),
        )
        assert ids(hits) == [report_id for report_id, _ in expected]
        similarities = [similarity for _, similarity in expected]
        assert [hit.similarity for hit in hits] == pytest.approx(similarities, abs=1e-6)
        assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))


@settings(max_examples=30, deadline=None)
@given(st.lists(SEEDS, min_size=1, max_size=5), st.integers(1, 12))
def test_modes_agree_to_the_last_bit_alone_and_in_a_batch(
    exact: ReportStore, hnsw: ReportStore, seeds: list[int], k: int
) -> None:
    queries = np.stack([random_query(seed) for seed in seeds])
    together = exact.query(queries, k)
    assert hnsw.query(queries, k) == together
    assert [exact.query(query[np.newaxis], k)[0] for query in queries] == together


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(1, 40))
def test_distinct_gives_each_text_once_with_its_count(
    exact: ReportStore, hnsw: ReportStore, seed: int, k: int
) -> None:
    query = random_query(seed)
    texts: dict[str, str] = {}
    for report_id, _ in brute_force(query, 120):
        texts.setdefault(CORPUS.records[int(report_id[1:])].text, report_id)
    expected = list(texts.values())[:k]
    for store in (exact, hnsw):
        (hits,) = store.query(query[np.newaxis], k, distinct=True)
        assert ids(hits) == expected
        for hit in hits:
            assert hit.copies == sum(r.text == hit.record.text for r in CORPUS.records)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(1, 40), st.frozensets(st.integers(0, 119), max_size=60))
def test_where_a_text_is_left_out_its_next_report_stands_in(
    exact: ReportStore, hnsw: ReportStore, seed: int, k: int, out: frozenset[int]
) -> None:
    query = random_query(seed)
    left_out = frozenset(CORPUS.records[row].report_id for row in out)
    texts: dict[str, str] = {}
    for report_id, _ in brute_force(query, 120):
        if report_id not in left_out:
            texts.setdefault(CORPUS.records[int(report_id[1:])].text, report_id)
    for store in (exact, hnsw):
        (found,) = store.retrieve(query[np.newaxis], k, exclude_reports=left_out, distinct=True)
        assert ids(found.hits) == list(texts.values())[:k]


def test_the_record_comes_back_whole(exact: ReportStore) -> None:
    (hits,) = exact.query(VECTORS[5:6], 120)
    assert {hit.record for hit in hits} == set(CORPUS.records)
    assert exact.get("r007") == CORPUS.records[7]
    assert exact.get("nobody") is None


def test_what_was_near_but_left_out_is_said_with_the_reason(
    exact: ReportStore, hnsw: ReportStore
) -> None:
    for store in (exact, hnsw):
        (found,) = store.retrieve(
            VECTORS[5:6],
            120,
            exclude_studies=frozenset({"s005"}),
            exclude_reports=frozenset({"r010"}),
        )
        assert dict(found.excluded) == {
            "r005": "same study",
            "r003": "same patient",
            "r004": "same patient",
            "r010": "left out by the reader",
        }
        assert found.excluded[0][0] == "r005"  # nearest first
        (found,) = store.retrieve(VECTORS[5:6], 1, exclude_studies=frozenset({"s005"}))
        assert ("r005", "same study") in found.excluded


def test_a_image_named_after_its_study_or_patient_finds_its_studies(exact: ReportStore) -> None:
    assert exact.studies_named_in("s007_view-1.png") == {"s007"}
    assert exact.studies_named_in("x/p002/image.dcm") == {"s006", "s007", "s008"}
    assert exact.studies_named_in("image.dcm") == frozenset()
    assert "s007" in exact.study_ids


@pytest.mark.parametrize(
    ("vectors", "k", "message"),
    [
        (np.zeros((1, 16), np.float32), 5, "zero or not finite"),
        (np.full((1, 16), np.nan, np.float32), 5, "zero or not finite"),
        (np.ones((1, 15), np.float32), 5, r"\(1, 15\), this index wants \(N, 16\)"),
        (np.ones(16, np.float32), 5, r"\(16,\), this index wants"),
        (np.ones((1, 16), np.float32), 0, "k is 0"),
    ],
)
def test_queries_that_make_no_sense(
    exact: ReportStore, vectors: np.ndarray, k: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        exact.query(vectors, k)


def test_no_query_no_answer(exact: ReportStore, hnsw: ReportStore) -> None:
    for store in (exact, hnsw):
        assert store.query(np.empty((0, 16), np.float32), 5) == []


def test_queries_from_several_threads_agree(hnsw: ReportStore) -> None:
    queries = [random_query(seed)[np.newaxis] for seed in range(40)]
    alone = [hnsw.query(query, 5) for query in queries]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda query: hnsw.query(query, 5), queries)) == alone


def test_the_start_up_test_measures_recall(hnsw: ReportStore, exact: ReportStore) -> None:
    assert hnsw.self_test is not None
    assert hnsw.self_test.passed
    assert hnsw.self_test.queries == 32
    assert exact.self_test is None
    assert exact.check_recall().recall == 1.0
    assert hnsw.check_recall(VECTORS[:7], k=3).queries == 7


def test_what_the_store_says_of_itself(exact: ReportStore, hnsw: ReportStore) -> None:
    assert len(exact) == 120
    assert exact.index_id == hnsw.index_id
    assert len(exact.index_id) == 12
    assert exact.attribution == "The authors."
    assert (exact.mode, hnsw.mode) == ("exact", "hnsw (embedded)")


def test_one_process_owns_the_directory_and_readers_do_not_mind(
    directory: Path, hnsw: ReportStore
) -> None:
    with pytest.raises(StoreInUseError, match=r"is in use by .*process \d+, since .*wait until"):
        open_store(directory)
    with open_store(directory, search=SearchMode.EXACT) as other:
        assert other.query(VECTORS[:1], 3) == hnsw.query(VECTORS[:1], 3)


@pytest.mark.parametrize("search", SearchMode)
@pytest.mark.parametrize("other", [FakeEncoder("fake@2"), FakeEncoder(dim=8), OtherPreprocessing()])
def test_another_encoder_is_refused_with_both_names(
    tmp_path: Path, search: SearchMode, other: FakeEncoder
) -> None:
    build_index(small_corpus(5), ENCODER, tmp_path)
    with pytest.raises(StoreMismatchError) as refused:
        open_store(tmp_path, encoder=other, search=search)
    assert "fake@1 (16 dimensions, preprocessing none)" in str(refused.value)
    assert f"{other.encoder_id} ({other.dim} dimensions, preprocessing" in str(refused.value)
    assert "cxr-rag index --replace" in str(refused.value)
    open_store(tmp_path, search=search).close()  # and the directory is free again


@pytest.mark.parametrize("search", SearchMode)
def test_nothing_indexed(tmp_path: Path, search: SearchMode) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(StoreMissingError, match="make one with `cxr-rag index`"):
            open_store(folder, search=search)
    assert list(tmp_path.iterdir()) == []


def test_an_exact_reader_takes_up_a_new_edition_and_forgets_the_removed(tmp_path: Path) -> None:
    build_index(small_corpus(9), ENCODER, tmp_path)
    with open_store(tmp_path, encoder=ENCODER, search=SearchMode.EXACT) as reader:
        before = reader.index_id
        assert "r004" in ids(reader.query(VECTORS[:1], 9)[0])
        delete_from_index(tmp_path, studies=frozenset({"s004"}))
        assert "r004" not in ids(reader.query(VECTORS[:1], 9)[0])
        assert reader.index_id != before
        build_index(small_corpus(9), FakeEncoder("fake@2"), tmp_path, replace=True)
        with pytest.raises(StoreMismatchError, match="fake@2"):
            reader.query(VECTORS[:1], 9)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("search", SearchMode)
def test_very_small_stores(tmp_path: Path, count: int, search: SearchMode) -> None:
    build_index(small_corpus(count), ENCODER, tmp_path)
    with open_store(tmp_path, encoder=ENCODER, search=search) as store:
        (hits,) = store.query(VECTORS[:1], 5)
        assert len(hits) == min(count, 5)
        assert len(store) == count
