"""A damaged index is found, named, and made again from what is sound."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_encoder import FakeEncoder
from small_corpus import small_corpus

from rag.corpus import make_corpus
from rag.errors import StoreError, StoreMismatchError
from rag.index import build_index, delete_from_index, rebuild_index
from rag.index.check import index_info, verify_index
from rag.schema import ReportRecord
from rag.store import SearchMode, open_store
from rag.store.chroma import ChromaIndex, chroma_facts
from rag.store.files import current_edition


def damage_chroma(edition: Path) -> None:
    (edition / "chroma" / "chroma.sqlite3").write_bytes(b"rubbish" * 1000)


def delete_chroma(edition: Path) -> None:
    shutil.rmtree(edition / "chroma")


def half_delete_chroma(edition: Path) -> None:
    (edition / "chroma" / "chroma.sqlite3").unlink()


def empty_chroma(edition: Path) -> None:
    with ChromaIndex.open(edition) as index:
        index._collection.delete(ids=index.ids()[:7])


def foreign_chroma(edition: Path) -> None:
    with ChromaIndex.open(edition) as index:
        index.describe({**index.facts, "store_id": "another"})


def graph_files(edition: Path) -> list[Path]:
    return [path for path in (edition / "chroma").glob("*/*") if path.is_file()]


def cut_graph(edition: Path) -> None:
    for path in graph_files(edition):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_graph(edition: Path) -> None:
    for path in graph_files(edition):
        path.write_bytes(b"\xff" * path.stat().st_size)


def delete_graph(edition: Path) -> None:
    for path in graph_files(edition):
        path.unlink()


CHROMA_DAMAGE = [damage_chroma, delete_chroma, half_delete_chroma, empty_chroma, foreign_chroma]
GRAPH_DAMAGE = [cut_graph, damage_graph, delete_graph]


@pytest.mark.slow
@pytest.mark.parametrize("damage", CHROMA_DAMAGE)
def test_damaged_chroma_is_found_named_and_rebuilt_without_embedding(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    encoder = FakeEncoder()
    first = build_index(small_corpus(30), encoder, tmp_path)
    damage(current_edition(tmp_path))
    with pytest.raises(StoreError, match="cxr-rag index rebuild"):
        open_store(tmp_path, encoder=encoder)
    report = verify_index(tmp_path)
    assert not report.passed
    assert [check.name for check in report.checks if not check.passed] == ["Chroma"]
    with open_store(tmp_path, search=SearchMode.EXACT) as store:
        assert len(store) == 30  # exact search needs no Chroma
    encoder.embedded.clear()
    assert rebuild_index(tmp_path).index_id == first.index_id
    assert encoder.embedded == []
    assert verify_index(tmp_path).passed
    open_store(tmp_path, encoder=encoder).close()


@pytest.mark.slow
@pytest.mark.parametrize("damage", GRAPH_DAMAGE)
def test_a_damaged_graph_is_found_when_it_is_asked(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    encoder = FakeEncoder()
    build_index(small_corpus(600), encoder, tmp_path)
    assert graph_files(current_edition(tmp_path))
    damage(current_edition(tmp_path))
    with pytest.raises(StoreError, match="cxr-rag index rebuild"):
        open_store(tmp_path, encoder=encoder)
    failed = [check.name for check in verify_index(tmp_path).checks if not check.passed]
    assert failed in (["Chroma"], ["neighbours"])
    rebuild_index(tmp_path)
    assert verify_index(tmp_path).passed


@pytest.mark.parametrize("damage", [delete_chroma, half_delete_chroma])
def test_indexing_again_mends_a_deleted_chroma(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    encoder = FakeEncoder()
    build_index(small_corpus(30), encoder, tmp_path)
    damage(current_edition(tmp_path))
    assert build_index(small_corpus(30), encoder, tmp_path).embedded == 0
    assert verify_index(tmp_path).passed


def test_an_index_of_other_graph_settings_is_made_anew_without_embedding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = FakeEncoder()
    with monkeypatch.context() as before:
        older = {**chroma_facts(), "records": "reports"}
        before.setattr("rag.index.writer.chroma_facts", lambda: older)
        before.setattr("rag.index.build.chroma_facts", lambda: older)
        build_index(small_corpus(30), encoder, tmp_path)
    report = build_index(small_corpus(30), encoder, tmp_path)
    assert (report.embedded, report.kept) == (0, 30)
    assert verify_index(tmp_path).passed
    manifest = json.loads((current_edition(tmp_path) / "manifest.json").read_text())
    assert manifest["chroma"] == chroma_facts()


def test_reports_of_one_text_are_one_record_of_chroma_whoever_came_first(tmp_path: Path) -> None:
    corpus, encoder = small_corpus(60), FakeEncoder()
    later = make_corpus(corpus.name, records=corpus.records[30:], licence=corpus.licence)
    build_index(later, encoder, tmp_path)
    build_index(corpus, encoder, tmp_path)  # the earlier ids are added to what is there
    first_of: dict[str, ReportRecord] = {}
    for record in corpus.records:
        first_of.setdefault(record.text, record)
    with ChromaIndex.open(current_edition(tmp_path)) as index:
        held = index.ids()
    assert len(held) == len(first_of) < len(corpus.records)
    assert set(held) != {record.report_id for record in first_of.values()}
    assert verify_index(tmp_path).passed
    holder = next(record for record in corpus.records if record.report_id in held)
    delete_from_index(tmp_path, studies=frozenset({holder.study_id}))
    assert verify_index(tmp_path).passed  # another report of the text has taken its place


def test_a_wrong_text_in_chroma_is_found(tmp_path: Path) -> None:
    build_index(small_corpus(30), FakeEncoder(), tmp_path)
    with ChromaIndex.open(current_edition(tmp_path)) as index:
        index._collection.update(ids=["r000"], metadatas=[{"findings": "Forged."}])
    assert [c.name for c in verify_index(tmp_path).checks if not c.passed] == ["Chroma's records"]


def test_a_foreign_report_in_chroma_is_found_and_not_built_upon(tmp_path: Path) -> None:
    corpus, encoder = small_corpus(30), FakeEncoder()
    build_index(corpus, encoder, tmp_path)
    with ChromaIndex.open(current_edition(tmp_path)) as index:
        index._collection.delete(ids=["r000"])
        index._collection.add(ids=["foreign"], embeddings=np.ones((1, 16), np.float32))
    failed = [check.name for check in verify_index(tmp_path).checks if not check.passed]
    assert failed[:2] == ["Chroma", "Chroma's records"]
    more = small_corpus(40)
    assert build_index(more, encoder, tmp_path).added == 10
    assert verify_index(tmp_path).passed


def test_wrong_vectors_in_chroma_are_found(tmp_path: Path) -> None:
    build_index(small_corpus(300), FakeEncoder(), tmp_path)
    with ChromaIndex.open(current_edition(tmp_path)) as index:
        ids = index.ids()
        rng = np.random.default_rng(0)
        index._collection.update(ids=ids, embeddings=rng.normal(size=(len(ids), 16)))
    assert [c.name for c in verify_index(tmp_path).checks if not c.passed] == ["neighbours"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("manifest.json", b"", "manifest.json is damaged"),
        ("manifest.json", b"{}", "manifest.json is damaged"),
        ("manifest.json", b"[]", "manifest.json is damaged"),
        ("manifest.json", b"\xff", "manifest.json is damaged"),
        ("manifest.json", None, "manifest.json is damaged"),
        ("vectors.npy", b"", "vectors.npy cannot be read"),
        ("vectors.npy", b"\x93NUMPY", "vectors.npy cannot be read"),
        ("vectors.npy", None, "vectors.npy cannot be read"),
        ("records.jsonl", b"", "does not hold 10 reports"),
        ("records.jsonl", b"{}\n", "records.jsonl is damaged"),
        ("records.jsonl", b"\xff\n", "records.jsonl is damaged"),
        ("records.jsonl", None, "records.jsonl is damaged"),
    ],
)
def test_our_own_files_damaged(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    build_index(small_corpus(10), FakeEncoder(), tmp_path)
    path = current_edition(tmp_path) / name
    path.unlink() if content is None else path.write_bytes(content)
    for attempt in (
        lambda: open_store(tmp_path),
        lambda: open_store(tmp_path, search=SearchMode.EXACT),
        lambda: build_index(small_corpus(10), FakeEncoder(), tmp_path),
        lambda: rebuild_index(tmp_path),
        lambda: verify_index(tmp_path),
        lambda: delete_from_index(tmp_path, studies=frozenset({"s001"})),
        lambda: index_info(tmp_path),
    ):
        with pytest.raises(StoreError, match=message) as error:
            attempt()
        assert "index again" in str(error.value)
    build_index(small_corpus(10), FakeEncoder(), tmp_path, replace=True)
    assert verify_index(tmp_path).passed


def test_a_changed_byte_is_found_and_never_built_upon(tmp_path: Path) -> None:
    build_index(small_corpus(10), FakeEncoder(), tmp_path)
    delete_from_index(tmp_path, studies=frozenset({"s003"}))
    path = current_edition(tmp_path) / "vectors.npy"
    data = bytearray(path.read_bytes())
    data[-4] ^= 1  # the last bit of the last number
    path.write_bytes(data)
    report = verify_index(tmp_path)
    assert [check.name for check in report.checks if not check.passed] == ["files"]
    for attempt in (
        lambda: rebuild_index(tmp_path),
        lambda: delete_from_index(tmp_path, studies=frozenset({"s004"})),
        lambda: build_index(small_corpus(12), FakeEncoder(), tmp_path),
    ):
        with pytest.raises(StoreError, match=r"has changed since it was written: index again"):
            attempt()
    again = build_index(small_corpus(10), FakeEncoder(), tmp_path, replace=True)
    assert again.withheld == 1  # who was removed stays out even so
    assert again.embedded > 0
    assert verify_index(tmp_path).passed


def test_another_format_is_a_mismatch(tmp_path: Path) -> None:
    build_index(small_corpus(3), FakeEncoder(), tmp_path)
    path = current_edition(tmp_path) / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(StoreMismatchError, match="format 99, this program reads 1"):
        open_store(tmp_path)


@pytest.mark.parametrize("content", [b"", b"edition-000009", b"../..", b"\xff"])
def test_a_damaged_pointer(tmp_path: Path, content: bytes) -> None:
    build_index(small_corpus(3), FakeEncoder(), tmp_path)
    (tmp_path / "current").write_bytes(content)
    with pytest.raises(StoreError, match="which is not there"):
        open_store(tmp_path)
