"""Encoders compared on one data set: what each can be measured by, and paired differences."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fake_encoder import FakeEncoder
from made_up_studies import write_jsonl
from numpy.typing import NDArray
from PIL import Image

from encoders.base import CxrImage, ImageEncoder
from eval.errors import EvalUsageError
from eval.report.tables import as_terminal
from eval.tasks.encoders import COST, compare_encoders, read_comparison

pytestmark = pytest.mark.slow

BRIGHT, DARK = "Cardiomegaly", "Edema"


class SeesBrightness(FakeEncoder):
    """Its images lie by how bright they are: a probe tells the two classes."""

    def embed_images(self, images: Sequence[CxrImage]) -> NDArray[np.float32]:
        noise = super().embed_images(images)
        noise[:, 0] = [10 * (image.pixels.mean() - 0.5) for image in images]
        return np.asarray(noise / np.linalg.norm(noise, axis=1, keepdims=True))


class ImagesAlone:
    """The same without a text side."""

    encoder_id, preprocess_hash, dim = "images-alone@1", "none", 16

    def embed_images(self, images: Sequence[CxrImage]) -> NDArray[np.float32]:
        return SeesBrightness().embed_images(images)


def load(name: str) -> ImageEncoder:
    known = {"blind": FakeEncoder("blind@1"), "sees": SeesBrightness("sees@1")}
    return known.get(name, ImagesAlone())


@pytest.fixture
def config(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(60):
        bright = number % 2 == 0
        pixels = rng.normal(170 if bright else 90, 20, (64, 64)).clip(0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{number}.png")
        rows.append(
            {
                "id": f"i{number:02d}",
                "patient_id": f"p{number:02d}",
                "image": f"{number}.png",
                "labels": [BRIGHT if bright else DARK],
                "text": f"Report {number}: {'large heart' if bright else 'edema'}.",
                "split": "train" if number < 36 else "val",
            }
        )
    write_jsonl(tmp_path / "table.jsonl", rows)
    path = tmp_path / "compare.toml"
    path.write_text('encoders = ["blind", "sees", "image:any"]\ntable = "table.jsonl"\n')
    return path


def test_each_encoder_has_a_column_and_its_paired_difference(config: Path) -> None:
    result = compare_encoders(read_comparison(config), load=load, samples=200, seed=0)
    assert result.systems() == ["blind@1", "sees@1", "images-alone@1"]
    assert result.subsets() == ["all", "minus blind@1"]
    probe = "probe: macro AUROC"
    sees = result.number(system="sees@1", subset="all", measure=probe)
    blind = result.number(system="blind@1", subset="all", measure=probe)
    apart = result.number(system="sees@1", subset="minus blind@1", measure=probe)
    assert sees is not None
    assert blind is not None
    assert apart is not None
    assert (sees.value, sees.n) == (1.0, 24)
    assert apart.value == pytest.approx(sees.value - blind.value)
    assert apart.low <= apart.value <= apart.high
    assert apart.low > 0
    measured = {
        system: {n.measure for n in result.numbers if (n.system, n.subset) == (system, "all")}
        for system in result.systems()
    }
    assert measured["images-alone@1"] == {probe, COST}
    for word in ("zero-shot", "image to text", "text to image", "alignment", "modality gap"):
        assert any(word in name for name in measured["sees@1"]), word
    assert all(n.value > 0 for n in result.numbers if n.measure == COST)
    table = as_terminal(result)
    assert "minus blind@1" in table
    assert probe in table


def test_what_cannot_be_compared_says_why(config: Path) -> None:
    config.write_text('encoders = ["sees", "sees"]\ntable = "table.jsonl"\n')
    with pytest.raises(EvalUsageError, match=r"twice: sees@1"):
        compare_encoders(read_comparison(config), load=load, samples=100, seed=0)
    config.write_text('encoder = "sees"\n')
    with pytest.raises(EvalUsageError, match="encoders"):
        read_comparison(config)
