"""Images of the index: embedded once, deleted with their report, and what they find."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support.fake_encoder import FakeEncoder
from support.small_corpus import small_corpus

from encoders.base import CxrImage
from encoders.image_io import read_image
from rag.corpus.records import Corpus, make_corpus
from rag.errors import StoreError
from rag.index import (
    Exclusions,
    ReportIndex,
    build_index,
    delete_from_index,
    read_info,
    rebuild_index,
    verify_index,
)
from rag.index.chroma import VectorCollection
from rag.report_nlp.sentences import with_sentences
from rag.retriever import ReportRetriever
from rag.schema import ReportRecord
from rag.settings import RetrievalSettings

pytestmark = pytest.mark.slow


class CountingEncoder(FakeEncoder):
    """A fake encoder that counts the images it embedded."""

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


def vector_of(path: Path) -> NDArray[np.float32]:
    return FakeEncoder().embed_images([read_image(path)])[0]


def test_images_are_embedded_once_and_kept_with_their_reports(tmp_path: Path) -> None:
    corpus, encoder = small_corpus(12), CountingEncoder()
    images = images_of(tmp_path / "images", corpus)
    images["elsewhere"] = images["s000"]  # a study that has no report here
    images["s001"] = [*images["s001"], image(tmp_path / "grey.png", seed=0, constant=True)]
    images["s002"] = [*images["s002"], tmp_path / "missing.png"]
    index = tmp_path / "index"
    plain = build_index(corpus, encoder, index)
    report = build_index(corpus, encoder, index, images=images)
    assert report.index_id != plain.index_id
    assert (report.images, encoder.images) == (12, 12)
    assert [(p.where, p.report_id) for p in report.problems] == [
        ("grey.png", "r001"),
        ("missing.png", "r002"),
    ]
    again = build_index(corpus, encoder, index, images=images)
    assert (again.images, again.index_id) == (0, report.index_id)
    assert rebuild_index(index).index_id == report.index_id
    fewer = make_corpus("made-up", records=corpus.records[:9], attribution="The authors.")
    build_index(fewer, encoder, index)
    assert read_info(index).images == 9
    assert encoder.images == 12
    assert verify_index(index).passed


def test_a_version_whose_images_are_not_found_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, add = small_corpus(12), VectorCollection.add

    def add_negated(
        self: VectorCollection, ids: list[str], vectors: NDArray[np.float32], metadatas: list[Any]
    ) -> None:
        add(self, ids, -vectors if "reports" in metadatas[0] else vectors, metadatas)

    monkeypatch.setattr(VectorCollection, "add", add_negated)
    build_index(corpus, FakeEncoder(), tmp_path / "index")
    with pytest.raises(StoreError, match="does not find what was written"):
        build_index(
            corpus, FakeEncoder(), tmp_path / "index", images=images_of(tmp_path / "images", corpus)
        )


@pytest.mark.parametrize("who", ["study", "patient"])
def test_a_deleted_persons_image_is_erased_from_every_file(tmp_path: Path, who: str) -> None:
    secret = with_sentences(ReportRecord("x", "s-x", "p-x", findings="Zebra stripes. Heart size."))
    corpus = make_corpus("made-up", records=[*small_corpus(12).records, secret])
    index = tmp_path / "index"
    images = images_of(tmp_path / "images", corpus)
    build_index(corpus, FakeEncoder(), index, images=images)
    trace = vector_of(images["s-x"][0]).astype("<f4").tobytes()

    def files_with_trace() -> list[str]:
        files = (path for path in index.rglob("*") if path.is_file())
        return [path.name for path in files if trace in path.read_bytes()]

    assert files_with_trace()
    ids = frozenset({f"{who[0]}-x"})
    if who == "study":
        delete_from_index(index, studies=ids)
    else:
        delete_from_index(index, patients=ids)
    assert files_with_trace() == []
    assert read_info(index).images == 12
    assert verify_index(index).passed


def test_images_embedded_before_an_interruption_are_not_embedded_again(tmp_path: Path) -> None:
    corpus, encoder = small_corpus(40), CountingEncoder()
    images = images_of(tmp_path / "images", corpus)

    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "images" and done > 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(corpus, encoder, tmp_path / "index", images=images, progress=interrupt)
    assert encoder.images == 32
    assert build_index(corpus, encoder, tmp_path / "index", images=images).images == 8


def test_the_nearest_image_returns_its_report_and_never_an_excluded_one(tmp_path: Path) -> None:
    corpus = small_corpus(24)
    images = images_of(tmp_path / "images", corpus)
    build_index(corpus, FakeEncoder(), tmp_path / "index", images=images)
    with ReportIndex(tmp_path / "index") as index:
        for record in corpus.records:
            vector = vector_of(images[record.study_id][0])
            (nearest,) = index.query_by_images(vector, 1, similarity="text")
            assert nearest.record.text == record.text
            own = FakeEncoder().embed_texts([record.text])[0]
            assert nearest.similarity == pytest.approx(float(own @ vector), abs=1e-5)
            patient = Exclusions(patients=frozenset({record.patient_id}))
            others = index.query_by_images(vector, 24, exclude=patient)
            assert record.patient_id not in {hit.record.patient_id for hit in others}
            assert len({hit.record.text for hit in others}) == len(others)


def test_an_index_without_images_says_so(tmp_path: Path) -> None:
    build_index(small_corpus(5), FakeEncoder(), tmp_path)
    with (
        ReportIndex(tmp_path) as index,
        pytest.raises(StoreError, match="index` again with --image"),
    ):
        index.query_by_images(np.ones(16, np.float32), 3)


def test_images_change_the_order_but_not_the_similarities(tmp_path: Path) -> None:
    corpus, encoder = small_corpus(40), FakeEncoder()
    images = images_of(tmp_path / "images", corpus)
    build_index(corpus, encoder, tmp_path / "index", images=images)
    query = vector_of(images["s003"][0])
    found = []
    with ReportIndex(tmp_path / "index") as index:
        for by in ("text", "both"):
            settings = RetrievalSettings(k=8, fetch_k=20, by=by)
            retriever = ReportRetriever(index=index, encoder=encoder, settings=settings)
            hits = retriever.retrieve(query).hits
            found.append([hit.record.report_id for hit in hits])
            assert len(set(found[-1])) == 8
            for hit in hits:
                own = encoder.embed_texts([hit.record.text])[0]
                assert hit.similarity == pytest.approx(float(own @ query), abs=1e-5)
    assert found[0] != found[1]
