"""Peaks of finding maps against boxes of held-back patients, beside controls."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoders.annotations import box_outline
from encoders.base import CxrImage
from encoders.eclip.encoder import ImageOutput
from encoders.training.dataset import LabelledExample, Split
from experiments.pointing import Pointing, measure, resample_means


class PointsAtBright:
    """An encoder with one finding map, high where the image is bright."""

    findings = ("Nodule",)

    def outputs(self, image: CxrImage) -> ImageOutput:
        cells = image.pixels.reshape(8, 8, 8, 8).mean((1, 3))
        maps = np.where(cells > 0.5, 4, -4).astype(np.float32)[None, None]
        return ImageOutput(np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32), maps)


def example(
    folder: Path, number: int, *, place: tuple[int, int], split: Split, patient: str = ""
) -> LabelledExample:
    """An image that is bright in one of 8 x 8 cells (column, row), which is boxed."""
    pixels = np.zeros((64, 64), np.uint8)
    column, row = place
    pixels[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 255
    path = folder / f"{number}.png"
    Image.fromarray(pixels).save(path)
    box = box_outline(column / 8, row / 8, (column + 1) / 8, (row + 1) / 8)
    outlines = {"Nodule": (box,)}
    return LabelledExample(path.stem, patient or f"p{number}", path, {}, outlines, split)


def test_a_correct_map_beats_the_usual_place_and_other_maps(tmp_path: Path) -> None:
    places = [(1, 1), (2, 6), (5, 3), (6, 6)]
    examples = [
        example(tmp_path, number, place=place, split=Split.VAL)
        for number, place in enumerate(places)
    ]
    examples.append(example(tmp_path, 9, place=(1, 1), split=Split.TRAIN))
    found = measure(PointsAtBright(), examples, min_images=1)  # type: ignore[arg-type]
    peak, usual, other, chance, overlap = found["Nodule"].scores.mean(0)
    assert (peak, usual, other) == (1, 0.25, 0)
    assert chance == pytest.approx(1 / 64, abs=0.005)
    assert overlap > 0.4


def test_other_maps_are_of_other_patients(tmp_path: Path) -> None:
    places = {"p": (1, 1), "q": (6, 6)}
    examples = [
        example(tmp_path, number, place=places[patient], split=Split.VAL, patient=patient)
        for number, patient in enumerate("pppq")
    ]
    examples.append(example(tmp_path, 9, place=(1, 1), split=Split.TRAIN))
    found = measure(PointsAtBright(), examples, min_images=1)["Nodule"]  # type: ignore[arg-type]
    assert found.scores[:, 2].tolist() == [0] * 4


def test_findings_share_the_resamples_of_patients() -> None:
    half = np.array([[1.0] * 5, [0.0] * 5])
    patients = np.array(["p", "q"])
    found = {"Mass": Pointing(half, patients), "Nodule": Pointing(1 - half, patients)}
    drawn = resample_means(found, samples=200, seed=0)
    assert np.allclose(drawn["Mass"] + drawn["Nodule"], 1)


def test_a_finding_with_too_few_images_is_left_out(tmp_path: Path) -> None:
    examples = [example(tmp_path, 1, place=(1, 1), split=split) for split in Split]
    assert measure(PointsAtBright(), examples, min_images=2) == {}  # type: ignore[arg-type]


def test_the_interval_resamples_patients(tmp_path: Path) -> None:
    examples = [
        example(tmp_path, number, place=(2, number), split=Split.VAL) for number in range(4)
    ]
    examples.append(example(tmp_path, 9, place=(2, 0), split=Split.TRAIN))
    found = measure(PointsAtBright(), examples, min_images=1)  # type: ignore[arg-type]
    means = resample_means(found, samples=200, seed=0)["Nodule"]
    assert means.shape == (200, 5)
    assert np.allclose(means[:, 0], 1)
    assert np.std(means[:, 1]) > 0
