"""Vectors beside the reports' own: made once, proved, mended, forgotten; and what they find."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_encoder import FakeEncoder
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from small_corpus import small_corpus

from encoders.base import CxrImage
from rag.corpus import Corpus, make_corpus
from rag.errors import StoreError
from rag.index import build_index, delete_from_index, rebuild_index
from rag.index.check import index_info, verify_index
from rag.index.embedding import sentences_of
from rag.report_nlp.sentences import with_sentences
from rag.retriever import ImageQuery, ReportRetriever
from rag.schema import ReportRecord
from rag.settings import RetrievalSettings
from rag.store import SearchMode, open_store
from rag.store.catalogue import open_edition
from rag.store.files import current_edition
from rag.store.side import Kind, SideVectors, read_side


class CountingEncoder(FakeEncoder):
    """A fake encoder that counts the images it was asked for."""

    images = 0

    def embed_images(self, images: Sequence[CxrImage]) -> NDArray[np.float32]:
        self.images += len(images)
        return super().embed_images(images)


def image(path: Path, *, seed: int, constant: bool = False) -> Path:
    """A small PNG: noise, or one grey."""
    rng = np.random.default_rng(seed)
    pixels = np.full((64, 64), 90) if constant else rng.integers(0, 255, (64, 64))
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def images_of(folder: Path, corpus: Corpus) -> dict[str, list[Path]]:
    folder.mkdir(exist_ok=True)
    return {
        record.study_id: [image(folder / f"{record.study_id}.png", seed=number)]
        for number, record in enumerate(corpus.records)
    }


def side_of(directory: Path, kind: Kind) -> SideVectors | None:
    return read_side(open_edition(directory), kind)


def holding(directory: Path, trace: bytes) -> list[str]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return [path.name for path in files if trace in path.read_bytes()]


def test_sentences_are_embedded_once_and_their_reports_are_known(tmp_path: Path) -> None:
    corpus, encoder = small_corpus(30), FakeEncoder()
    build_index(corpus, encoder, tmp_path, sentences=True)
    texts, reports = sentences_of(corpus.records)
    found = side_of(tmp_path, Kind.SENTENCES)
    assert found is not None
    assert found.reports == {key: tuple(names) for key, names in sorted(reports.items())}
    expected = FakeEncoder().embed_texts([texts[key] for key in found.reports])
    np.testing.assert_allclose(found.vectors, expected, atol=1e-6)
    assert len(encoder.embedded) == len(set(encoder.embedded))
    again = build_index(corpus, encoder, tmp_path, sentences=True)
    assert (again.embedded, again.kept) == (0, 30)
    assert index_info(tmp_path).beside == {Kind.SENTENCES: len(texts)}
    assert verify_index(tmp_path).passed


def test_an_index_without_them_is_the_one_it_always_was(tmp_path: Path) -> None:
    corpus, encoder = small_corpus(20), FakeEncoder()
    plain = build_index(corpus, encoder, tmp_path)
    assert side_of(tmp_path, Kind.SENTENCES) is None
    assert set(index_info(tmp_path).manifest.sha256) == {"vectors.npy", "records.jsonl"}
    richer = build_index(corpus, encoder, tmp_path, sentences=True)
    assert richer.index_id != plain.index_id
    assert build_index(corpus, encoder, tmp_path).index_id == plain.index_id


def test_images_are_read_again_but_embedded_once_and_stay(tmp_path: Path) -> None:
    corpus, encoder = small_corpus(12), CountingEncoder()
    images = images_of(tmp_path / "images", corpus)
    images["elsewhere"] = images["s000"]  # a study that has no report here
    images["s001"] = [*images["s001"], image(tmp_path / "grey.png", seed=0, constant=True)]
    images["s002"] = [*images["s002"], tmp_path / "missing.png"]
    store = tmp_path / "store"
    report = build_index(corpus, encoder, store, images=images)
    assert (report.images, encoder.images) == (12, 12)
    assert [(p.where, p.report_id) for p in report.problems] == [
        ("grey.png", "r001"),
        ("missing.png", "r002"),
    ]
    again = build_index(corpus, encoder, store, images=images)
    assert (again.images, again.index_id) == (0, report.index_id)
    fewer = make_corpus("made-up", records=corpus.records[:9], attribution="The authors.")
    build_index(fewer, encoder, store)
    assert index_info(store).beside == {Kind.IMAGES: 9}
    assert encoder.images == 12
    assert verify_index(store).passed


@pytest.mark.parametrize("who", ["study", "patient"])
def test_a_removed_person_is_gone_from_sentences_and_images(tmp_path: Path, who: str) -> None:
    secret = with_sentences(ReportRecord("x", "s-x", "p-x", findings="Zebra stripes. Heart size."))
    corpus = make_corpus("made-up", records=[*small_corpus(12).records, secret])
    encoder, store = FakeEncoder(), tmp_path / "store"
    build_index(
        corpus, encoder, store, sentences=True, images=images_of(tmp_path / "images", corpus)
    )
    before = side_of(store, Kind.IMAGES)
    assert before is not None
    (row,) = (row for row, names in enumerate(before.reports.values()) if names == ("x",))
    traces = [before.vectors[row].tobytes(), encoder.embed_texts(["Zebra stripes."]).tobytes()]
    assert all(holding(store, trace) for trace in traces)
    ids = frozenset({f"{who[0]}-x"})
    if who == "study":
        delete_from_index(store, studies=ids)
    else:
        delete_from_index(store, patients=ids)
    assert [holding(store, trace) for trace in traces] == [[], []]
    assert index_info(store).beside[Kind.IMAGES] == 12
    assert verify_index(store).passed


def test_rebuilding_keeps_what_stands_beside(tmp_path: Path) -> None:
    corpus = small_corpus(12)
    images = images_of(tmp_path / "images", corpus)
    built = build_index(corpus, FakeEncoder(), tmp_path / "s", sentences=True, images=images)
    assert rebuild_index(tmp_path / "s").index_id == built.index_id


def test_a_killed_indexing_need_not_embed_its_images_again(tmp_path: Path) -> None:
    corpus, encoder = small_corpus(40), CountingEncoder()
    images = images_of(tmp_path / "images", corpus)

    def pulled(stage: str, done: int, total: int) -> None:
        if stage == "images" and done > 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(corpus, encoder, tmp_path / "s", images=images, progress=pulled)
    assert encoder.images == 32
    assert build_index(corpus, encoder, tmp_path / "s", images=images).images == 8


@pytest.mark.parametrize("name", ["images.npy", "images.jsonl", "sentences.npy", "sentences.jsonl"])
def test_damage_is_seen(tmp_path: Path, name: str) -> None:
    corpus = small_corpus(6)
    images = images_of(tmp_path / "images", corpus)
    build_index(corpus, FakeEncoder(), tmp_path / "s", sentences=True, images=images)
    path = current_edition(tmp_path / "s") / name
    path.write_bytes(path.read_bytes()[:-7])
    checks = {check.name: check.passed for check in verify_index(tmp_path / "s").checks}
    assert not checks["files"]
    assert not checks["beside the reports"]


def test_the_nearest_image_brings_its_report_and_the_left_out_never_come(tmp_path: Path) -> None:
    corpus, encoder = small_corpus(24), FakeEncoder()
    images = images_of(tmp_path / "images", corpus)
    build_index(corpus, encoder, tmp_path / "s", images=images)
    side = side_of(tmp_path / "s", Kind.IMAGES)
    assert side is not None
    with open_store(tmp_path / "s", search=SearchMode.EXACT) as store:
        for vector, (report_id,) in zip(side.vectors, side.reports.values(), strict=True):
            (nearest,) = store.near_beside(Kind.IMAGES, vector, 1)
            record, found = store.get(report_id), store.get(nearest)
            assert record is not None
            assert found is not None
            assert found.text == record.text
            others = store.near_beside(
                Kind.IMAGES, vector, 24, exclude_patients=frozenset({record.patient_id})
            )
            records = [store.get(name) for name in others]
            assert record.patient_id not in {r.patient_id for r in records if r}
            assert len({r.text for r in records if r}) == len(others)
        with pytest.raises(StoreError, match=r"no vectors of sentences.*cxr-rag index"):
            store.near_beside(Kind.SENTENCES, side.vectors[0], 1)
    with open_store(tmp_path / "s") as store:  # which asks itself
        assert str(store.self_test) == "recall@10 1.000 on 24 image queries"


@pytest.fixture(scope="module")
def with_sentences_indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sentences")
    build_index(small_corpus(18), FakeEncoder(), directory, sentences=True)
    return directory


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), k=st.integers(1, 12))
def test_nearest_by_sentences_is_what_the_definition_says(
    with_sentences_indexed: Path, seed: int, k: int
) -> None:
    corpus, encoder = small_corpus(18), FakeEncoder()
    query = np.random.default_rng(seed).standard_normal(16).astype(np.float32)
    query /= np.linalg.norm(query)
    texts, reports = sentences_of(corpus.records)

    def nearness(record: ReportRecord) -> float:
        own = [texts[key] for key, names in reports.items() if record.report_id in names]
        return float(np.sort(encoder.embed_texts(own) @ query)[-3:].mean())

    best: dict[str, tuple[float, str]] = {}
    for record in corpus.records:
        near = (-nearness(record), record.report_id)
        best[record.text] = min(best.get(record.text, near), near)
    ordered = sorted(best.items(), key=lambda item: item[1])
    with open_store(with_sentences_indexed, search=SearchMode.EXACT) as opened:
        found = [opened.get(name) for name in opened.near_beside(Kind.SENTENCES, query, k)]
    values = [best[record.text][0] for record in found if record]
    np.testing.assert_allclose(values, [near for _, (near, _) in ordered[:k]], atol=1e-5)


def test_each_step_of_the_retriever_can_be_switched_and_keeps_similarities(tmp_path: Path) -> None:
    corpus, encoder = small_corpus(40), FakeEncoder()
    images = images_of(tmp_path / "images", corpus)
    build_index(corpus, encoder, tmp_path / "s", sentences=True, images=images)
    side = side_of(tmp_path / "s", Kind.IMAGES)
    assert side is not None
    query = ImageQuery(side.vectors[3], indication="Small left pleural effusion.")
    found = {}
    steps: dict[str, dict[str, object]] = {
        "off": {},
        "images": {"images": 1.0},
        "indication": {"indication": 1.0},
        "sentence": {"unit": "sentence"},
        "all": {"images": 1.0, "indication": 1.0, "unit": "sentence"},
    }
    with open_store(tmp_path / "s", search=SearchMode.EXACT) as store:
        for name, values in steps.items():
            switched = RetrievalSettings.model_validate({"k": 8, "pool": 20, **values})
            retriever = ReportRetriever(store=store, encoder=encoder, settings=switched)
            hits = retriever.retrieve(query).hits
            found[name] = [hit.record.report_id for hit in hits]
            assert len(set(found[name])) == 8
            assert [hit.rank for hit in hits] == list(range(1, 9))
            for hit in hits:
                own = encoder.embed_texts([hit.record.text])[0]
                assert hit.similarity == pytest.approx(float(own @ query.vector), abs=1e-5)
            unasked = retriever.retrieve(replace(query, indication=" "))
            if name == "indication":
                assert [h.record.report_id for h in unasked.hits] == found["off"]
    assert len(set(map(tuple, found.values()))) == 5
