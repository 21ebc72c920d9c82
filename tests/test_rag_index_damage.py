"""A damaged index is detected, named, and rebuilt without embedding."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support.fake_encoder import FakeEncoder
from support.small_corpus import small_corpus

from rag.errors import StoreError, StoreMismatchError
from rag.index import (
    ReportIndex,
    build_index,
    delete_from_index,
    read_info,
    rebuild_index,
    verify_index,
)
from rag.index.chroma import VectorCollection, open_collections
from rag.index.client import chroma_location, close_idle_clients

pytestmark = pytest.mark.slow

CORPUS = small_corpus(60)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("built") / "index"
    build_index(CORPUS, FakeEncoder(), directory)
    return directory


@pytest.fixture(autouse=True)
def _without_cached_clients() -> Iterator[None]:
    """As in a new process: no open client hides what a test does to the files."""
    close_idle_clients()
    yield
    close_idle_clients()


@pytest.fixture
def directory(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "index")
    return tmp_path / "index"


def chroma_of(directory: Path) -> Path:
    close_idle_clients()
    return chroma_location(directory, read_info(directory), "").folder


def edit_texts(directory: Path, edit: Callable[[VectorCollection], None]) -> None:
    with open_collections(chroma_location(directory, read_info(directory), "")) as (texts, _):
        edit(texts)


def failed_checks(directory: Path) -> set[str]:
    return {check.name for check in verify_index(directory).checks if not check.passed}


def execute_sql(directory: Path, statement: str) -> None:
    with sqlite3.connect(chroma_of(directory) / "chroma.sqlite3") as connection:
        connection.execute(statement)
    connection.close()


def garbage(directory: Path) -> None:
    (chroma_of(directory) / "chroma.sqlite3").write_bytes(b"rubbish" * 1000)


def gone(directory: Path) -> None:
    shutil.rmtree(chroma_of(directory))


def broken_configuration(directory: Path) -> None:
    execute_sql(directory, "UPDATE collections SET config_json_str = '{rubbish'")


def broken_schema(directory: Path) -> None:
    execute_sql(directory, "UPDATE collections SET schema_str = '{rubbish'")


def another_version(directory: Path) -> None:
    execute_sql(directory, "UPDATE migrations SET hash = 'of another version'")


def another_dimension(directory: Path) -> None:
    execute_sql(directory, "UPDATE collections SET dimension = 7")


@pytest.mark.parametrize(
    "damage",
    [garbage, gone, broken_configuration, broken_schema, another_version, another_dimension],
)
def test_a_broken_chroma_folder_is_one_error_and_indexing_again_repairs_it(
    directory: Path, damage: Callable[[Path], None]
) -> None:
    damage(directory)
    (query,) = FakeEncoder().embed_texts(["Lungs are clear."])
    with pytest.raises(StoreError, match="cxr-rag index rebuild") as error:
        ReportIndex(directory).query(query, 3)
    assert "\n" not in str(error.value)
    assert failed_checks(directory)
    encoder = FakeEncoder()
    report = build_index(CORPUS, encoder, directory, replace=damage is another_dimension)
    assert report.embedded == 0
    if damage is not another_dimension:  # its records are intact
        assert verify_index(directory).passed
    else:
        rebuild_index(directory)
        assert verify_index(directory).passed


def graph_files(directory: Path) -> list[Path]:
    return [path for path in chroma_of(directory).glob("*/*") if path.is_file()]


@pytest.mark.parametrize("damage", ["cut", "overwrite", "delete"])
def test_a_damaged_graph_is_detected_by_queries_and_rebuilt(tmp_path: Path, damage: str) -> None:
    encoder = FakeEncoder()
    first = build_index(small_corpus(600), encoder, tmp_path)
    assert graph_files(tmp_path)
    for path in graph_files(tmp_path):
        if damage == "delete":
            path.unlink()
        else:
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"\xff" * len(whole))
    (query,) = encoder.embed_texts(["Lungs are clear."])
    with pytest.raises(StoreError, match="cxr-rag index rebuild"):
        ReportIndex(tmp_path).query(query, 10)
    assert failed_checks(tmp_path) >= {"neighbours"}
    encoder.embedded.clear()
    assert rebuild_index(tmp_path).index_id == first.index_id
    assert encoder.embedded == []
    assert verify_index(tmp_path).passed


def test_a_removed_record_is_detected(directory: Path) -> None:
    edit_texts(directory, lambda texts: texts._collection.delete(ids=texts.ids()[:1]))
    assert "records" in failed_checks(directory)
    with pytest.raises(StoreError, match=r"holds \d+ texts, \d+ expected"):
        ReportIndex(directory)


def test_a_changed_record_is_detected(directory: Path) -> None:
    def forge(texts: VectorCollection) -> None:
        first = texts.ids()[0]
        report = json.loads(texts.metadatas([first])[first]["report"])
        forged = json.dumps({**report, "labels": ["forged"]})
        texts._collection.update(ids=[first], metadatas=[{"report": forged}])

    edit_texts(directory, forge)
    assert failed_checks(directory) == {"records"}
    with pytest.raises(StoreError, match="does not hold what was written"):
        delete_from_index(directory, studies=frozenset({"s003"}))  # does not carry damage over


def test_a_duplicate_record_is_detected(directory: Path) -> None:
    def duplicate(texts: VectorCollection) -> None:
        first = texts.ids()[0]
        texts.add(["0" * 32], texts.vectors([first]), [texts.metadatas([first])[first]])

    edit_texts(directory, duplicate)
    assert failed_checks(directory) >= {"records"}


def test_records_with_swapped_vectors_are_detected(directory: Path) -> None:
    def swap(texts: VectorCollection) -> None:
        one, other = texts.ids()[:2]
        of = texts.metadatas([one, other])
        texts._collection.update(ids=[one, other], metadatas=[dict(of[other]), dict(of[one])])

    edit_texts(directory, swap)
    assert failed_checks(directory) == {"records"}


def test_an_empty_collection_is_detected(directory: Path) -> None:
    edit_texts(directory, lambda texts: texts._collection.delete(ids=texts.ids()))
    assert failed_checks(directory) == {"records", "vectors", "neighbours"}


def test_a_changed_vector_is_detected_and_rebuilt(directory: Path) -> None:
    def rotate(texts: VectorCollection) -> None:
        first = texts.ids()[0]
        texts._collection.update(ids=[first], embeddings=np.eye(16, dtype=np.float32)[:1])

    edit_texts(directory, rotate)
    assert "vectors" in failed_checks(directory)
    rebuild_index(directory)
    assert verify_index(directory).passed


def test_a_damaged_list_of_ids_is_detected_and_rebuilt(directory: Path) -> None:
    path = chroma_of(directory).parent / "reports.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE reports SET patient_id = 'another' WHERE report_id = 'r000'")
    connection.close()
    assert failed_checks(directory) == {"records"}
    path.write_bytes(b"rubbish" * 100)
    with pytest.raises(StoreError, match=r"reports\.sqlite is missing or damaged"):
        ReportIndex(directory)
    rebuild_index(directory)
    assert verify_index(directory).passed


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff"])
def test_a_damaged_index_json_is_named_and_can_be_replaced(directory: Path, content: bytes) -> None:
    (directory / "index.json").write_bytes(content)
    for attempt in (ReportIndex, read_info, verify_index, rebuild_index):
        with pytest.raises(StoreError, match=r"index\.json is damaged .*index again"):
            attempt(directory)
    with pytest.raises(StoreError, match=r"index\.json is damaged"):
        build_index(CORPUS, FakeEncoder(), directory)
    assert build_index(CORPUS, FakeEncoder(), directory, replace=True).embedded == 0
    assert verify_index(directory).passed


def test_deleted_studies_stay_out_even_if_chroma_is_lost(directory: Path) -> None:
    delete_from_index(directory, studies=frozenset({"s003"}))
    gone(directory)
    again = build_index(CORPUS, FakeEncoder(), directory)
    assert again.withheld == 1
    assert verify_index(directory).passed


def test_other_collections_are_not_discarded_without_replace(directory: Path) -> None:
    other = small_corpus(5, name="theirs", first=500)
    build_index(other, FakeEncoder(), directory)
    garbage(directory)
    with pytest.raises(StoreError, match=r"cannot be read back .*--replace"):
        build_index(CORPUS, FakeEncoder(), directory)
    build_index(CORPUS, FakeEncoder(), directory, replace=True)
    assert build_index(other, FakeEncoder(), directory).embedded == 0
    assert verify_index(directory).passed


def test_another_format_or_chroma_is_a_mismatch(directory: Path) -> None:
    path = directory / "index.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "chroma": {**values["chroma"], "version": "1.3.9"}}))
    with pytest.raises(StoreMismatchError, match=r"written by Chroma 1\.3\.9, this is .*rebuild"):
        ReportIndex(directory)
    path.write_text(json.dumps({**values, "format": 99}))
    with pytest.raises(StoreMismatchError, match="format 99, this program reads 2"):
        ReportIndex(directory)
