"""Indexing is idempotent and incremental, and deleted people stay out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.fake_encoder import FakeEncoder
from support.small_corpus import small_corpus

from rag.corpus.records import Corpus, make_corpus
from rag.errors import StoreError, StoreMismatchError
from rag.index import (
    Exclusions,
    ReportIndex,
    build_index,
    delete_from_index,
    read_info,
    rebuild_index,
    verify_index,
)
from rag.index.version import read_content
from rag.report_nlp.sentences import with_sentences
from rag.schema import ReportRecord

pytestmark = pytest.mark.slow


def indexed_ids(directory: Path) -> list[str]:
    contents = read_content(directory, read_info(directory), "")
    return [record.report_id for record in contents.records]


def files_containing(directory: Path, trace: bytes) -> list[str]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return [str(path.relative_to(directory)) for path in files if trace in path.read_bytes()]


def modified(corpus: Corpus, *records: ReportRecord, drop: str = "") -> Corpus:
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
    version = read_info(tmp_path).version
    again = build_index(corpus, encoder, tmp_path)
    assert (again.added, again.changed, again.kept, again.embedded) == (0, 0, 60, 0)
    assert again.index_id == first.index_id
    assert read_info(tmp_path).version == version  # nothing was written
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
        modified(corpus, new_text, new_labels, newcomer, drop="r007"), encoder, tmp_path
    )
    assert (report.added, report.changed, report.kept, report.removed) == (1, 2, 27, 1)
    assert sorted(encoder.embedded) == ["A new report.", new_text.text]
    with ReportIndex(tmp_path, encoder=encoder) as store:
        assert store.get("r007") is None
        assert store.get("r005") == replace(new_labels, collection="made-up")
        (vector,) = encoder.embed_texts(["A new report."])
        assert store.query(vector, 1)[0].record.report_id == "z1"
    assert verify_index(tmp_path).passed


def test_an_index_built_in_two_steps_equals_one_built_at_once(tmp_path: Path) -> None:
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
    fingerprints = {read_info(tmp_path / name).fingerprint for name in ("grown", "fresh")}
    assert len(fingerprints) == 1


def test_several_collections_share_an_index_independently(tmp_path: Path) -> None:
    encoder = FakeEncoder()
    ours, theirs = small_corpus(10), small_corpus(10, name="theirs", first=5)
    build_index(ours, encoder, tmp_path)
    report = build_index(theirs, encoder, tmp_path)
    assert (report.added, report.removed) == (5, 0)
    assert len(report.problems) == 5
    assert "made-up has a report of this id already" in str(report.problems[0])
    assert [(info.name, info.count) for info in read_info(tmp_path).collections] == [
        ("made-up", 10),
        ("theirs", 5),
    ]
    build_index(make_corpus("theirs", records=[]), encoder, tmp_path)
    assert indexed_ids(tmp_path) == [record.report_id for record in ours.records]


def test_newly_excluded_studies_leave_the_index(tmp_path: Path) -> None:
    corpus, encoder = small_corpus(12), FakeEncoder()
    build_index(corpus, encoder, tmp_path)
    report = build_index(corpus, encoder, tmp_path, exclude=frozenset({"s003", "s004", "nope"}))
    assert (report.excluded, report.removed, report.unknown_ids) == (2, 2, ("nope",))
    assert not {"r003", "r004"} & set(indexed_ids(tmp_path))
    assert verify_index(tmp_path).passed


def test_screens_may_change_or_drop_a_report_and_their_reasons_are_listed(
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
    assert len(indexed_ids(tmp_path)) == 30 - len(with_opacity)
    contents = read_content(tmp_path, read_info(tmp_path), "")
    assert {record.labels for record in contents.records} == {()}


@pytest.mark.parametrize("who", ["study", "patient"])
def test_a_deleted_person_is_erased_from_every_file_and_stays_out(tmp_path: Path, who: str) -> None:
    encoder = FakeEncoder()
    secret = ReportRecord(
        "r-secret", "s-secret", "p-secret", findings="Unmistakable zebra stripes in the lung."
    )
    corpus = modified(small_corpus(40), with_sentences(secret))
    build_index(corpus, encoder, tmp_path)
    vector = encoder.embed_texts([secret.text])[0].tobytes()
    for trace in (b"zebra", b"secret", vector):
        assert files_containing(tmp_path, trace)
    ids = frozenset({f"{who[0]}-secret", "unknown"})
    if who == "study":
        report = delete_from_index(tmp_path, studies=ids)
    else:
        report = delete_from_index(tmp_path, patients=ids)
    assert (report.removed, report.kept, report.unknown_ids) == (1, 40, ("unknown",))
    for trace in (b"zebra", b"secret", vector):
        assert files_containing(tmp_path, trace) == []
    assert verify_index(tmp_path).passed
    again = build_index(corpus, encoder, tmp_path)
    assert (again.withheld, again.added, again.kept) == (1, 0, 40)
    rebuild_index(tmp_path)
    assert "r-secret" not in indexed_ids(tmp_path)
    replaced = build_index(corpus, FakeEncoder("fake@2"), tmp_path, replace=True)
    assert replaced.withheld == 1


def test_another_encoder_needs_replace_and_embeds_every_collection(tmp_path: Path) -> None:
    build_index(small_corpus(10), FakeEncoder(), tmp_path)
    build_index(small_corpus(5, name="theirs", first=50), FakeEncoder(), tmp_path)
    other = FakeEncoder("fake@2", dim=8)
    with pytest.raises(StoreMismatchError, match=r"fake@1 .* fake@2 .* --replace"):
        build_index(small_corpus(10), other, tmp_path)
    report = build_index(small_corpus(10), other, tmp_path, replace=True)
    assert report.kept == 10
    info = read_info(tmp_path)
    assert (info.encoder_id, info.dim, info.count) == ("fake@2", 8, 15)
    assert verify_index(tmp_path).passed


def test_progress_is_reported_for_each_stage(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    build_index(
        small_corpus(60), FakeEncoder(), tmp_path, progress=lambda *step: calls.append(step)
    )
    assert {stage for stage, _, _ in calls} == {"read", "embed", "index", "publish"}
    for stage in ("read", "embed", "index", "publish"):
        done = [(done, total) for name, done, total in calls if name == stage]
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
def test_an_encoder_that_returns_invalid_vectors_is_named(
    tmp_path: Path, rows: Callable[[int], np.ndarray]
) -> None:
    encoder = FakeEncoder()
    encoder.embed_texts = lambda texts: rows(len(texts))  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="encoder fake@1 returned"):
        build_index(small_corpus(10), encoder, tmp_path)


def test_a_rebuild_embeds_nothing_even_without_the_cache(tmp_path: Path) -> None:
    corpus, encoder = small_corpus(30), FakeEncoder()
    first = build_index(corpus, encoder, tmp_path)
    rebuilt = rebuild_index(tmp_path)
    assert (rebuilt.kept, rebuilt.index_id) == (30, first.index_id)
    (tmp_path / "embeddings.cache").unlink()
    rebuild_index(tmp_path)
    assert len(encoder.embedded) == first.embedded
    assert verify_index(tmp_path).passed
    # and the cache is full again: another Chroma folder needs no encoder either
    for path in tmp_path.glob("version-*/chroma/chroma.sqlite3"):
        path.unlink()
    assert build_index(corpus, encoder, tmp_path).embedded == 0
    assert verify_index(tmp_path).passed


def test_a_patient_with_more_reports_than_sqlite_allows_variables_is_removed(
    tmp_path: Path,
) -> None:
    one = [replace(r, patient_id="p-all") for r in small_corpus(900).records]
    texts = [
        replace(record, findings=f"{record.findings} Number {number}.", sentences=())
        for number, record in enumerate(one)
    ]
    other = ReportRecord("z", "z", "p-other", findings="Clear.")
    build_index(make_corpus("made-up", records=[*texts, other]), FakeEncoder(), tmp_path)
    with ReportIndex(tmp_path) as index:
        (vector,) = FakeEncoder().embed_texts(["Clear."])
        found = index.query(vector, 5, exclude=Exclusions(patients=frozenset({"p-all"})))
        assert [hit.record.report_id for hit in found] == ["z"]
    report = delete_from_index(tmp_path, patients=frozenset({"p-all"}))
    assert (report.removed, report.kept) == (900, 1)
    assert verify_index(tmp_path).passed
