"""Indexing: idempotent, incremental, nobody removed comes back, every disk fault one sentence."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_encoder import FakeEncoder
from small_corpus import small_corpus

from rag.corpus import Corpus, make_corpus
from rag.corpus.exclude import read_exclude_file
from rag.errors import CxrRagError, StoreError, StoreInUseError, StoreMismatchError
from rag.index import build_index, delete_from_index, rebuild_index
from rag.index import writer as index_writer
from rag.index.check import index_info, verify_index
from rag.language.sentences import with_sentences
from rag.schema import ReportRecord
from rag.store import SearchMode, open_store
from rag.store.chroma import ChromaIndex, chroma_facts
from rag.store.files import current_edition


def report_ids(directory: Path) -> list[str]:
    with open_store(directory, search=SearchMode.EXACT) as store:
        return store._edition.catalogue.report_ids


def files_with(directory: Path, trace: bytes) -> list[str]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return [str(path.relative_to(directory)) for path in files if trace in path.read_bytes()]


def changed(corpus: Corpus, *records: ReportRecord, drop: str = "") -> Corpus:
    by_id = {record.report_id: record for record in [*corpus.records, *records]}
    kept = [record for record in by_id.values() if record.report_id != drop]
    return make_corpus(corpus.name, records=kept, licence=corpus.licence)


def test_indexing_again_adds_and_embeds_nothing(tmp_path: Path) -> None:
    corpus, encoder = small_corpus(60), FakeEncoder()
    first = build_index(corpus, encoder, tmp_path)
    assert (first.added, first.kept, first.removed) == (60, 0, 0)
    texts = {record.text for record in corpus.records}
    assert sorted(encoder.embedded) == sorted(texts)  # equal texts once
    assert first.embedded == len(texts)
    edition = current_edition(tmp_path)
    again = build_index(corpus, encoder, tmp_path)
    assert (again.added, again.changed, again.kept, again.embedded) == (0, 0, 60, 0)
    assert again.index_id == first.index_id
    assert current_edition(tmp_path) == edition  # nothing was written
    assert len(encoder.embedded) == len(texts)
    assert verify_index(tmp_path).passed


def test_only_what_changed_is_embedded(tmp_path: Path) -> None:
    corpus, encoder = small_corpus(30), FakeEncoder()
    build_index(corpus, encoder, tmp_path)
    encoder.embedded.clear()
    new_text = with_sentences(replace(corpus.records[4], findings="Quite another text."))
    new_labels = replace(corpus.records[5], labels=("other",))
    newcomer = ReportRecord("z1", "z1", "z1", findings="A new report.")
    report = build_index(
        changed(corpus, new_text, new_labels, newcomer, drop="r007"), encoder, tmp_path
    )
    assert (report.added, report.changed, report.kept, report.removed) == (1, 2, 27, 1)
    assert sorted(encoder.embedded) == ["A new report.", new_text.text]
    with open_store(tmp_path, encoder=encoder, search=SearchMode.EXACT) as store:
        assert store.get("r007") is None
        assert store.get("r005") == replace(new_labels, collection="made-up")
        (hits,) = store.query(encoder.embed_texts(["A new report."]), 1)
        assert hits[0].record.report_id == "z1"
    assert verify_index(tmp_path).passed


def test_additions_build_upon_the_graph_and_equal_a_fresh_index(tmp_path: Path) -> None:
    encoder = FakeEncoder()
    whole = small_corpus(80)
    part = make_corpus(whole.name, records=whole.records[:50], licence=whole.licence,
                       attribution=whole.attribution)  # fmt: skip
    build_index(part, encoder, tmp_path / "grown")
    grown = build_index(whole, encoder, tmp_path / "grown")
    fresh = build_index(whole, encoder, tmp_path / "fresh")
    assert (grown.added, grown.kept) == (30, 50)
    assert grown.index_id == fresh.index_id
    assert verify_index(tmp_path / "grown").passed
    manifests = [index_info(tmp_path / name).manifest for name in ("grown", "fresh")]
    assert manifests[0].fingerprint == manifests[1].fingerprint
    assert manifests[0].sha256 == manifests[1].sha256


def test_several_collections_share_a_store_and_do_not_touch_each_other(tmp_path: Path) -> None:
    encoder = FakeEncoder()
    ours, theirs = small_corpus(10), small_corpus(10, name="theirs", first=5)
    build_index(ours, encoder, tmp_path)
    report = build_index(theirs, encoder, tmp_path)
    assert (report.added, report.removed) == (5, 0)
    assert len(report.problems) == 5
    assert "made-up has a report of this id already" in str(report.problems[0])
    assert [(info.name, info.count) for info in index_info(tmp_path).manifest.collections] == [
        ("made-up", 10),
        ("theirs", 5),
    ]
    build_index(make_corpus("theirs", records=[]), encoder, tmp_path)
    assert report_ids(tmp_path) == [record.report_id for record in ours.records]


def test_excluded_studies_are_not_in_the_index_even_if_they_were(tmp_path: Path) -> None:
    corpus, encoder = small_corpus(12), FakeEncoder()
    build_index(corpus, encoder, tmp_path)
    report = build_index(corpus, encoder, tmp_path, exclude=frozenset({"s003", "s004", "nope"}))
    assert (report.excluded, report.removed, report.unknown_excludes) == (2, 2, ("nope",))
    assert not {"r003", "r004"} & set(report_ids(tmp_path))
    assert verify_index(tmp_path).passed


def test_screens_may_change_a_report_or_keep_it_out_and_their_findings_are_listed(
    tmp_path: Path,
) -> None:
    def no_opacity(record: ReportRecord) -> tuple[ReportRecord | None, tuple[str, ...]]:
        found = "opacity" in record.text
        return (None, ("mentions an opacity",)) if found else (record, ())

    def no_labels(record: ReportRecord) -> tuple[ReportRecord | None, tuple[str, ...]]:
        return replace(record, labels=()), ()

    corpus, encoder = small_corpus(30), FakeEncoder()
    with_opacity = [record.report_id for record in corpus.records if "opacity" in record.text]
    report = build_index(corpus, encoder, tmp_path, screens=(no_opacity, no_labels))
    assert [problem.report_id for problem in report.problems] == with_opacity != []
    assert len(report_ids(tmp_path)) == 30 - len(with_opacity)
    with open_store(tmp_path, search=SearchMode.EXACT) as store:
        assert {record.labels for record in store._edition.catalogue.records()} == {()}


@pytest.mark.parametrize("who", ["study", "patient"])
def test_a_removed_person_is_gone_from_every_file_and_stays_out(tmp_path: Path, who: str) -> None:
    encoder = FakeEncoder()
    secret = ReportRecord(
        "r-secret", "s-secret", "p-secret", findings="Unmistakable zebra stripes in the lung."
    )
    corpus = changed(small_corpus(40), with_sentences(secret))
    build_index(corpus, encoder, tmp_path)
    vector = encoder.embed_texts([secret.text])[0].tobytes()
    for trace in (b"zebra", b"secret", vector):
        assert files_with(tmp_path, trace)
    ids = frozenset({f"{who[0]}-secret", "unknown"})
    if who == "study":
        report = delete_from_index(tmp_path, studies=ids)
    else:
        report = delete_from_index(tmp_path, patients=ids)
    assert (report.removed, report.kept, report.unknown_excludes) == (1, 40, ("unknown",))
    for trace in (b"zebra", b"secret", vector):
        assert files_with(tmp_path, trace) == []
    assert verify_index(tmp_path).passed
    again = build_index(corpus, encoder, tmp_path)
    assert (again.withheld, again.added, again.kept) == (1, 0, 40)
    rebuild_index(tmp_path)
    assert "r-secret" not in report_ids(tmp_path)
    replaced = build_index(corpus, FakeEncoder("fake@2"), tmp_path, replace=True)
    assert replaced.withheld == 1


def test_another_encoder_needs_replace_and_then_embeds_every_collection(tmp_path: Path) -> None:
    build_index(small_corpus(10), FakeEncoder(), tmp_path)
    build_index(small_corpus(5, name="theirs", first=50), FakeEncoder(), tmp_path)
    other = FakeEncoder("fake@2", dim=8)
    with pytest.raises(StoreMismatchError, match=r"fake@1 .* fake@2 .* --replace"):
        build_index(small_corpus(10), other, tmp_path)
    report = build_index(small_corpus(10), other, tmp_path, replace=True)
    assert report.kept == 10
    manifest = index_info(tmp_path).manifest
    assert (manifest.encoder_id, manifest.dim, manifest.count) == ("fake@2", 8, 15)
    assert verify_index(tmp_path).passed


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    build_index(small_corpus(60), FakeEncoder(), tmp_path, progress=lambda *step: told.append(step))
    assert {stage for stage, _, _ in told} == {"read", "embed", "index"}
    for stage in ("read", "embed", "index"):
        done = [(done, total) for name, done, total in told if name == stage]
        assert done == sorted(done)
        assert done[-1][0] == done[-1][1]


@pytest.mark.parametrize(
    "rows",
    [
        lambda n: np.zeros((n, 16), np.float32),
        lambda n: np.full((n, 16), np.nan, np.float32),
        lambda n: np.ones((n, 16), np.float32),
        lambda n: np.ones((n, 4), np.float32) / 2,
        lambda n: np.ones((n + 1, 16), np.float32) / 4,
    ],
)
def test_an_encoder_that_breaks_its_promise_is_named(
    tmp_path: Path, rows: Callable[[int], np.ndarray]
) -> None:
    encoder = FakeEncoder()
    encoder.embed_texts = lambda texts: rows(len(texts))  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="encoder fake@1 gave"):
        build_index(small_corpus(10), encoder, tmp_path)


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


def test_a_folder_with_other_things_is_never_written_into(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(StoreError, match="not empty and not a store"):
        build_index(small_corpus(3), FakeEncoder(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(StoreError, match="a file stands where a folder should be"):
        build_index(small_corpus(3), FakeEncoder(), tmp_path / "thesis.txt")


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "read-only"), (errno.EDQUOT, "quota")],
)
def test_a_disk_fault_is_one_sentence_and_the_old_index_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    first = build_index(small_corpus(10), FakeEncoder(), tmp_path)

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(index_writer, "write_records", fail)
        with pytest.raises(StoreError, match=words):
            build_index(small_corpus(20), FakeEncoder(), tmp_path)
    assert not (tmp_path / "building").exists()
    assert index_info(tmp_path).manifest.index_id == first.index_id
    assert verify_index(tmp_path).passed


def test_too_little_room_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))
    with pytest.raises(StoreError, match=r"needs about 2 MB in .*, 0 MB are free"):
        build_index(small_corpus(300), FakeEncoder(), tmp_path)


LIMITED = """
import resource, sys
from pathlib import Path
from fake_encoder import FakeEncoder
from small_corpus import small_corpus
from rag.errors import StoreError
from rag.index import build_index
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    build_index(small_corpus(900), FakeEncoder(dim=64), Path(sys.argv[1]))
except StoreError as error:
    print("StoreError:", error)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="file size limits as on Linux")
@pytest.mark.parametrize("limit", [20_000, 100_000, 300_000, 400_000, 700_000])
def test_a_write_that_the_kernel_refuses_at_any_size(tmp_path: Path, limit: int) -> None:
    build_index(small_corpus(10), FakeEncoder(dim=64), tmp_path)
    first = index_info(tmp_path).manifest.index_id
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), str(limit)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert run.stdout.startswith("StoreError: "), run.stderr[-2000:]
    assert "Traceback" not in run.stderr
    assert index_info(tmp_path).manifest.index_id == first
    assert verify_index(tmp_path).passed


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody who may not write")
def test_permission_denied(tmp_path: Path) -> None:
    build_index(small_corpus(10), FakeEncoder(), tmp_path)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and "pytest" in str(folder):
            folder.chmod(0o755)
    os.seteuid(65534)
    try:
        with open_store(tmp_path, search=SearchMode.EXACT) as store:  # reading needs no rights
            assert len(store) == 10
        for attempt in (
            lambda: open_store(tmp_path),
            lambda: build_index(small_corpus(20), FakeEncoder(), tmp_path),
            lambda: build_index(small_corpus(20), FakeEncoder(), tmp_path / "new"),
            lambda: rebuild_index(tmp_path),
        ):
            with pytest.raises(StoreError, match="permission denied"):
                attempt()
    finally:
        os.seteuid(0)


def test_an_owned_store_is_not_written(tmp_path: Path) -> None:
    corpus, encoder = small_corpus(10), FakeEncoder()
    build_index(corpus, encoder, tmp_path)
    with open_store(tmp_path, encoder=encoder):
        for attempt in (
            lambda: build_index(corpus, encoder, tmp_path),
            lambda: delete_from_index(tmp_path, studies=frozenset({"s001"})),
            lambda: rebuild_index(tmp_path),
            lambda: verify_index(tmp_path),
        ):
            with pytest.raises(StoreInUseError, match=r"in use by `.*` \(process \d+"):
                attempt()
    build_index(corpus, encoder, tmp_path)


def test_info_and_verify_where_nothing_is(tmp_path: Path) -> None:
    for attempt in (index_info, verify_index, rebuild_index, delete_from_index):
        with pytest.raises(StoreError, match="make one with `cxr-rag index`"):
            attempt(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.txt", "s1\n\n# a comment\n s2 # because\r\ns1\n", {"s1", "s2"}),
        ("a", "\ufeffs1", {"s1"}),
        ("a.csv", "file,study_id\nx,s1\ny,s2\n", {"s1", "s2"}),
        ("a.jsonl", '{"study_id": "s1"}\n\n{"study_id": 2}\n', {"s1", "2"}),
    ],
)
def test_exclude_files(tmp_path: Path, name: str, text: str, expected: set[str]) -> None:
    (tmp_path / name).write_text(text)
    assert read_exclude_file(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"# nothing\n", "names no study"),
        ("a.txt", b"\xff", "cannot be read"),
        ("a.csv", b"id\n1\n", "line 2: no study_id"),
        ("a.csv", b"study_id\n1\n", None),
        ("a.csv", b"study_id,x\n1,2\n,3\n", "line 3: no study_id"),
        ("a.csv", b"study_id\n" + b"a" * 200_000, "cannot be read: field larger"),
        ("a.jsonl", b'{"study_id": "1"}\n{\n', "line 2: no study_id"),
        ("a.jsonl", b'{"study_id": ""}\n', "line 1: no study_id"),
    ],
)
def test_a_half_readable_exclude_file_is_refused(
    tmp_path: Path, name: str, data: bytes, message: str | None
) -> None:
    (tmp_path / name).write_bytes(data)
    if message is None:
        assert read_exclude_file(tmp_path / name) == {"1"}
        return
    with pytest.raises(CxrRagError, match=message):
        read_exclude_file(tmp_path / name)
    with pytest.raises(CxrRagError, match="cannot be read"):
        read_exclude_file(tmp_path / "none")
