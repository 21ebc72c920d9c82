# ruff: noqa: F811 - `cli` is a fixture of another file
"""An encoder of images alone, from a published folder to a draft: image -> images -> reports."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_encoder import FakeEncoder
from support.published_models import CLIP_PROCESSOR, VISION, publish
from support.small_corpus import small_corpus
from support.tiny_models import tiny_bert
from test_rag_cli import Cli, cli  # noqa: F401
from test_rag_index_images import images_of
from transformers import Dinov2Config, Dinov2Model

from demo.phantom import write_phantom_dicom
from encoders.image_io import read_image
from rag.errors import UsageError
from rag.index import Exclusions, ReportIndex, build_index
from rag.retriever import ReportRetriever
from rag.settings import RetrievalSettings

pytestmark = pytest.mark.slow

CORPUS = small_corpus(24)
WITH_IMAGES = 20


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = tiny_bert(folder / "bert", with_weights=False)
    return publish(folder / "dino", Dinov2Model(Dinov2Config(**VISION)), CLIP_PROCESSOR, tokenizer)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path) -> Path:
    """A researcher's folder: reports, images of most of them, a configuration."""
    folder = tmp_path_factory.mktemp("site")
    with (folder / "reports.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["report_id", "study_id", "patient_id", "findings", "impression"])
        writer.writerows(
            [r.report_id, r.study_id, r.patient_id, r.findings, r.impression]
            for r in CORPUS.records
        )
    rows = ["study_id,image"]
    for seed, record in enumerate(CORPUS.records[:WITH_IMAGES]):
        write_phantom_dicom(folder / f"{record.study_id}.dcm", seed=seed, size=256)
        rows.append(f"{record.study_id},{record.study_id}.dcm")
    (folder / "images.csv").write_text("\n".join(rows) + "\n")
    (folder / "new").mkdir()
    write_phantom_dicom(folder / "new" / "query.dcm", seed=99, size=256)
    (folder / "site.toml").write_text(
        f'home = "{folder / "home"}"\nencoder = "image:hf:{encoder_folder}"\n'
        "[llm.server]\nenabled = false\n"
    )
    return folder


@pytest.fixture
def at_site(site: Path, cli: Cli) -> Iterator[Path]:
    """With the reports indexed, once."""
    if not (site / "home").exists():
        arguments = ["--collection", site / "reports.csv", "--config", site / "site.toml"]
        assert cli("index", *arguments) == 3
        assert "embeds images only" in cli.err
        assert "--images" in cli.err
        assert cli("index", *arguments, "--images", site / "images.csv") == 0, cli.err
        assert "4 reports without an image" in cli.out
    yield site


def test_the_index_is_whole_and_an_image_finds_its_own_report(
    at_site: Path,
    cli: Cli,
) -> None:
    config = ("--config", at_site / "site.toml")
    assert cli("index", *config, "verify") == 0, cli.out
    assert cli("query", at_site / "new" / "query.dcm", "-k", "3", "--json", *config) == 0, cli.err
    found = [json.loads(line) for line in cli.out.splitlines()]
    assert len(found) == 3
    assert found[0]["similarity"] >= found[-1]["similarity"] > 0
    assert cli("query", "enlarged heart", *config) == 2
    assert "embeds images only" in cli.err


def test_it_drafts_and_says_which_marks_are_missing(
    at_site: Path,
    cli: Cli,
    tmp_path: Path,
) -> None:
    config = ("--no-llm", "--config", at_site / "site.toml")
    assert cli("generate", at_site / "new" / "query.dcm", "--json", *config) == 0, cli.err
    prediction = json.loads(cli.out)
    assert prediction["status"] == "ok"
    missing = " ".join(prediction["warnings"])
    assert "no finding head" in missing
    assert "no refusal statistics" in missing
    assert "fit-heads" in missing
    assert cli("batch", at_site / "new", tmp_path / "out", *config) == 0, cli.err
    (line,) = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    assert json.loads(line)["votes"] == prediction["votes"]


def test_each_encoder_has_an_index_of_its_own_side_by_side(
    at_site: Path, cli: Cli, tmp_path: Path
) -> None:
    config = ("--config", at_site / "site.toml")
    shipped = {"CXR_RAG_ENCODER": "eclip", "CXR_RAG_INDEX_DIR": str(tmp_path / "eclip")}
    arguments = ("--collection", at_site / "reports.csv", *config)
    assert cli("index", *arguments, env=shipped) == 0, cli.err
    assert cli("query", "enlarged heart", "-k", "1", *config) == 0, cli.err
    first = {"CXR_RAG_INDEX_DIR": str(at_site / "home" / "index")}
    assert cli("query", "enlarged heart", *config, env=first) == 3
    assert "was built by dino@" in cli.err


class ImagesOnly:
    """The fake encoder without its text side."""

    def __init__(self) -> None:
        self._whole = FakeEncoder("images-only@1")
        self.encoder_id, self.dim = self._whole.encoder_id, self._whole.dim
        self.preprocess_hash = self._whole.preprocess_hash
        self.embed_images = self._whole.embed_images


def test_the_nearest_image_brings_its_report_and_its_own_stays_out(tmp_path: Path) -> None:
    encoder = ImagesOnly()
    images = images_of(tmp_path / "images", CORPUS)
    for record in CORPUS.records[WITH_IMAGES:]:
        del images[record.study_id]
    summary = build_index(CORPUS, encoder, tmp_path / "index", images=images)
    assert (summary.embedded, summary.images, summary.without_image) == (0, WITH_IMAGES, 4)
    with ReportIndex(tmp_path / "index", encoder=encoder) as index:
        for record in CORPUS.records[:WITH_IMAGES]:
            (vector,) = encoder.embed_images([read_image(images[record.study_id][0])])
            (found,) = index.query_by_images(vector, 1)
            assert found.record.text == record.text
            assert found.similarity == pytest.approx(1, abs=1e-5)
            studies = frozenset({record.study_id})
            others = index.query_by_images(vector, 24, exclude=Exclusions(studies))
            assert record.patient_id not in {hit.record.patient_id for hit in others}
        retriever = ReportRetriever(index=index, encoder=encoder)
        assert retriever.by == "image"
        with pytest.raises(UsageError, match="images only"):
            retriever.invoke("enlarged heart")
        with pytest.raises(UsageError, match=r"retrieval\.by"):
            ReportRetriever(index=index, encoder=encoder, settings=RetrievalSettings(by="both"))
