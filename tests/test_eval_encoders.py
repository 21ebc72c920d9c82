"""Comparison of encoders within and across sites: measures, drafts, leaks."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support.fake_encoder import FakeEncoder
from support.made_up_studies import write_jsonl

from encoders.base import CxrImage, ImageEncoder
from eval.errors import EvalLeakError, EvalUsageError
from eval.results import Result
from eval.sites import SiteImages, read_comparison, read_site
from eval.tables import as_terminal
from eval.tasks.encoders import COST, compare_encoders
from rag.cli.encoder import draft_from
from rag.index import ReportIndex
from rag.settings import LlmSettings, Settings

pytestmark = pytest.mark.slow

BRIGHT, DARK = "Cardiomegaly", "Edema"


class SeesBrightness(FakeEncoder):
    """Embeds images by their brightness, so a probe separates the two classes."""

    def embed_images(self, images: Sequence[CxrImage]) -> NDArray[np.float32]:
        noise = super().embed_images(images)
        noise[:, 0] = [10 * (image.pixels.mean() - 0.5) for image in images]
        return np.asarray(noise / np.linalg.norm(noise, axis=1, keepdims=True))


class ImagesAlone:
    """The same as an image-only encoder."""

    encoder_id, preprocess_hash, dim = "images-alone@1", "none", 16

    def embed_images(self, images: Sequence[CxrImage]) -> NDArray[np.float32]:
        return SeesBrightness().embed_images(images)


def load(name: str) -> ImageEncoder:
    known = {"blind": FakeEncoder("blind@1"), "sees": SeesBrightness("sees@1")}
    return known.get(name, ImagesAlone())


Row = dict[str, Any]
SOURCE = '[[site]]\nname = "source"\ntable = "source.jsonl"\n'
TARGET = '[[site]]\nname = "target"\ntable = "target.jsonl"\ntrain_split = ""\ntest_split = ""\n'


def draw(folder: Path, prefix: str, *, count: int, seed: int) -> list[Row]:
    """Bright and dark images with their reports; the last 24 are the validation split."""
    rng, rows = np.random.default_rng(seed), []
    for number in range(count):
        bright, name = number % 2 == 0, f"{prefix}{number:02d}"
        pixels = rng.normal(170 if bright else 90, 20, (64, 64)).clip(0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{name}.png")
        sentence = "The heart is enlarged" if bright else "There is pulmonary edema"
        rows.append(
            {
                "id": f"i{name}",
                "patient_id": f"p{name}",
                "image": f"{name}.png",
                "labels": [BRIGHT if bright else DARK],
                "text": f"{sentence}. Image {number}.",
                "split": "val" if number >= count - 24 else "train",
            }
        )
    return rows


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    found = draw(tmp_path, "h", count=60, seed=0)
    write_jsonl(tmp_path / "source.jsonl", found)
    return found


@pytest.fixture
def config(tmp_path: Path, rows: list[Row]) -> Path:
    path = tmp_path / "compare.toml"
    path.write_text('encoders = ["blind", "sees", "image:any"]\n' + SOURCE)
    return path


def no_draft(*_: object) -> Path:
    raise AssertionError("there is no collection to draft from")


def compared(config: Path, draft: Any = no_draft) -> Result:
    return compare_encoders(read_comparison(config), load=load, draft=draft, samples=200, seed=0)


def measures(result: Result, system: str) -> set[str]:
    return {n.measure for n in result.numbers if (n.system, n.subset) == (system, "all")}


def test_each_encoder_has_a_column_and_its_paired_difference(config: Path) -> None:
    result = compared(config)
    assert result.systems() == ["blind@1", "sees@1", "images-alone@1"]
    assert result.subsets() == ["all", "minus blind@1"]
    probe = "probe: macro AUROC"
    sees = result.number(system="sees@1", subset="all", measure=probe)
    blind = result.number(system="blind@1", subset="all", measure=probe)
    difference = result.number(system="sees@1", subset="minus blind@1", measure=probe)
    assert sees is not None
    assert blind is not None
    assert difference is not None
    assert (sees.value, sees.n) == (1.0, 24)
    assert difference.value == pytest.approx(sees.value - blind.value)
    assert difference.low <= difference.value <= difference.high
    assert difference.low > 0
    assert measures(result, "images-alone@1") == {probe, COST}
    for word in ("zero-shot", "image to text", "text to image", "alignment", "modality gap"):
        assert any(word in name for name in measures(result, "sees@1")), word
    assert all(n.value > 0 for n in result.numbers if n.measure == COST)
    table = as_terminal(result)
    assert "minus blind@1" in table
    assert probe in table


def test_an_invalid_comparison_is_refused_with_a_reason(config: Path) -> None:
    config.write_text('encoders = ["sees", "sees"]\n' + SOURCE)
    with pytest.raises(EvalUsageError, match="names an encoder or site twice: sees, sees"):
        read_comparison(config)
    config.write_text('encoders = ["image:a", "image:b"]\n' + SOURCE)
    with pytest.raises(EvalUsageError, match="twice: images-alone@1"):
        compared(config)
    config.write_text('encoder = "sees"\n')
    with pytest.raises(EvalUsageError, match="encoders"):
        read_comparison(config)
    config.write_text('encoders = ["sees"]\n' + SOURCE + 'test_split = "dev"\n')
    with pytest.raises(EvalUsageError, match=r"source has 36 images in 'train' .* and 0 in 'dev'"):
        compared(config)


def drafts_of(folder: Path, *, cites: str = "other") -> Any:
    """Drafts that are right for bright images and state nothing for dark ones."""

    def draft(name: str, encoder: ImageEncoder, source: SiteImages, target: SiteImages) -> Path:
        assert encoder.encoder_id.startswith(name.removeprefix("image:").replace("any", "images"))
        assert source.config.collection
        lines = [
            {
                "study_id": image.image_id,
                "findings": "The heart is enlarged." if BRIGHT in image.labels else "No effusion.",
                "evidence": [{"report_id": cites, "text": "The heart\u2028is enlarged."}],
                "labels": {BRIGHT: 0.9 if BRIGHT in image.labels else 0.1, DARK: 0.5},
            }
            for image in target.test
        ]
        path = folder / f"{encoder.encoder_id}-{target.config.name}.jsonl"
        # as the product writes it: U+2028 ends no line
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        path.write_text(text, encoding="utf-8")
        return path

    return draft


def test_drafts_are_scored_in_the_same_table_with_paired_differences(
    config: Path, tmp_path: Path
) -> None:
    config.write_text(config.read_text() + 'collection = "reports.csv"\n')
    result = compared(config, drafts_of(tmp_path))
    for name in ("micro F1-14 (u=1)", "micro F1-5 (u=1)", "ROUGE-L", "false-finding drafts"):
        number = result.number(system="sees@1", subset="all", measure=f"drafts: {name}")
        assert number is not None, name
        assert (number.n, number.low <= number.value <= number.high) == (24, True)
        difference = result.number(
            system="images-alone@1", subset="minus blind@1", measure=f"drafts: {name}"
        )
        assert difference is not None
        assert (difference.low, difference.high) == (0, 0)

    def by_labels(name: str) -> float | None:
        measure = f"drafts: {name} by the labels"
        return result.number(system="sees@1", subset="all", measure=measure).value

    assert (by_labels("precision"), by_labels("recall")) == (1.0, 0.5)
    head = result.number(system="sees@1", subset="all", measure="finding head: macro AUROC")
    assert head.value == pytest.approx(0.75)
    with pytest.raises(EvalLeakError, match="was drafted from the report of ih36"):
        compared(config, drafts_of(tmp_path, cites="ih36"))


def two_sites(config: Path, target: list[Row]) -> None:
    """Another site, with other label names and without reports."""
    for row in target:
        row |= {"text": "", "labels": ["big" if BRIGHT in row["labels"] else "wet", "thing"]}
    write_jsonl(config.parent / "target.jsonl", target)
    classes = f'[site.classes]\n"{BRIGHT}" = ["big"]\n"{DARK}" = ["wet", "fluid"]\n'
    config.write_text(
        'encoders = ["blind", "sees"]\n' + SOURCE + 'collection = "r.csv"\n' + TARGET + classes
    )


def test_within_and_across_sites_are_scored_on_the_same_classes(
    config: Path, tmp_path: Path
) -> None:
    two_sites(config, draw(tmp_path, "a", count=30, seed=1))
    result = compared(config, drafts_of(tmp_path))
    source, target = "sees@1: source → source", "sees@1: source → target"
    assert {source, target} < set(result.systems())
    shared = {"probe: macro AUROC", "zero-shot: macro AUROC", "drafts: micro F1 by the labels"}
    assert shared <= measures(result, source) & measures(result, target)
    assert "drafts: ROUGE-L" in measures(result, source) - measures(result, target)
    probe = result.number(system=target, subset="all", measure="probe: macro AUROC")
    assert probe.n == 30
    assert probe.value > 0.9
    assert result.number(system=target, subset="minus blind@1", measure="probe: macro AUROC")
    assert result.dataset["target studies"] == 30


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"patient_id": "ph00"}, "1 patients of source"),
        ({"id": "ih00"}, "1 studies of source"),
        ({"image": "h00.png"}, "1 images, by their pixels, of source"),
    ],
)
def test_training_data_of_one_site_in_the_test_split_of_another_is_refused(
    config: Path, tmp_path: Path, change: dict[str, str], reason: str
) -> None:
    target = draw(tmp_path, "a", count=30, seed=1)
    target[0] |= change
    two_sites(config, target)
    with pytest.raises(EvalLeakError, match=reason):
        compared(config, drafts_of(tmp_path))


def write_collection(path: Path, rows: list[Row]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["report_id", "study_id", "patient_id", "findings"])
        writer.writerows([f"r{r['id']}", r["id"], r["patient_id"], r["text"]] for r in rows)


@pytest.mark.parametrize("encoder", [SeesBrightness("sees@1"), ImagesAlone()])
def test_drafting_excludes_the_test_split_from_the_index_and_resumes(
    config: Path, rows: list[Row], tmp_path: Path, encoder: ImageEncoder
) -> None:
    again = rows[40] | {"id": "later", "text": "The same patient at another time."}
    write_collection(tmp_path / "r.csv", [*rows, again])
    config.write_text(config.read_text() + 'collection = "r.csv"\n')
    site = read_site(read_comparison(config).site[0])
    settings = Settings(
        encoder="image:timm:none",
        home=tmp_path / "home",
        index_dir=tmp_path / "index",
        llm=LlmSettings(enabled=False),
    )
    path = draft_from(settings, encoder, site, site, tmp_path / "out")
    predictions = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(p["study_id"] for p in predictions) == [r["id"] for r in rows[36:]]
    with ReportIndex(settings.index_dir, encoder=encoder) as index:
        assert len(index) == 36
        assert index.get("rih00") is not None
        assert all(index.get(f"r{row['id']}") is None for row in [*rows[36:], again])
    evidence = {e["report_id"] for p in predictions for e in p["evidence"]}
    assert evidence
    assert evidence <= {f"r{row['id']}" for row in rows[:36]}
    before = path.read_bytes()
    assert draft_from(settings, encoder, site, site, tmp_path / "out").read_bytes() == before


def test_a_collection_with_the_other_sites_patients_is_refused(
    config: Path, rows: list[Row], tmp_path: Path
) -> None:
    target = draw(tmp_path, "a", count=30, seed=1)
    two_sites(config, target)
    write_collection(tmp_path / "r.csv", [*rows, target[3] | {"id": "x", "text": "Clear."}])
    source, other = map(read_site, read_comparison(config).site)
    with pytest.raises(EvalLeakError, match=r"1 studies that are drafted in target(.|\n)*x"):
        draft_from(Settings(home=tmp_path), FakeEncoder(), source, other, tmp_path / "out")
