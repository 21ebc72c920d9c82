"""`cxr-rag fit-heads`: from images and reports to fitted parts that drafting uses."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from encoders.base import CxrImage
from encoders.eclip.encoder import ImageOutput
from rag.errors import CalibrationError
from rag.factory import NO_FINDING_HEAD, NO_OOD_DETECTOR, encoder_folder, fitted_folder
from rag.fitting.fit_heads import fit_parts, write_parts
from rag.screening.finding_head import load_finding_predictor
from rag.screening.out_of_distribution import load_ood_detector
from rag.settings import DraftingSettings, Settings

pytestmark = pytest.mark.slow

COUNT = 400
LARGE, CLEAR = "The heart is enlarged.", "The lungs are clear. Heart size is normal."


class BrightnessEncoder:
    """Encodes mean and standard deviation of each quarter of an image."""

    encoder_id, preprocess_hash, dim = "brightness@1", "none", 9

    def embed_images(self, images: Sequence[CxrImage]) -> NDArray[np.float32]:
        return np.concatenate([self.outputs(image).vectors for image in images])

    def outputs(self, image: CxrImage) -> ImageOutput:
        half = len(image.pixels) // 2
        quarters = image.pixels.reshape(2, half, 2, half).swapaxes(1, 2).reshape(4, -1)
        row = np.float32([[1.0, *(10 * quarters.mean(1)), *quarters.std(1)]])
        return ImageOutput(row / np.linalg.norm(row), row, np.empty((1, 0, 1, 1), np.float32))


def write_site(folder: Path, count: int) -> tuple[Path, Path]:
    """Images whose lower half is bright where the report states a large heart."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    with (folder / "reports.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["report_id", "study_id", "patient_id", "findings"])
        for number in range(count):
            large = number % 3 == 0
            pixels = rng.normal(90, 12, (64, 64))
            pixels[32:] += 60 if large else 10
            picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            picture.save(folder / "images" / f"s{number:04d}.png")
            writer.writerow(
                [f"r{number}", f"s{number:04d}", f"p{number}", LARGE if large else CLEAR]
            )
    return folder / "images", folder / "reports.csv"


def test_fitted_parts_are_found_and_predict(tmp_path: Path) -> None:
    encoder, settings = BrightnessEncoder(), Settings(home=tmp_path / "home", encoder="hf:x/y")
    parts = fit_parts(*write_site(tmp_path, COUNT), encoder=encoder)
    assert 100 <= parts.calibration.studies < COUNT / 2, "a third of the patients is held back"
    assert parts.calibration.aucs["Cardiomegaly"].low > 0.9
    write_parts(fitted_folder(settings, encoder), parts)
    folder = encoder_folder(settings, encoder)
    predictor = load_finding_predictor(folder, encoder.encoder_id, DraftingSettings())
    detector = load_ood_detector(folder, encoder)
    assert predictor is not None
    assert detector is not None
    large, small = np.full((64, 64), 90 / 255, np.float32), np.full((64, 64), 95 / 255, np.float32)
    large[32:] += 60 / 255
    outputs = [encoder.outputs(CxrImage(pixels, "")) for pixels in (large, small)]
    large_heart, normal = (
        predictor.predict(output.vectors[0]).probabilities["Cardiomegaly"] for output in outputs
    )
    assert large_heart > 0.9
    assert normal < 0.1
    assert detector.lateral_probabilities(outputs[0].features)[0] < 1e-9, "no lateral was seen"


def test_too_few_studies_are_counted_in_the_error(tmp_path: Path) -> None:
    images, reports = write_site(tmp_path, 30)
    (images / "unknown.png").write_bytes((images / "s0000.png").read_bytes())
    with pytest.raises(CalibrationError, match=r"30 studies.*360 are needed.*1 without a report"):
        fit_parts(images, reports, encoder=BrightnessEncoder())


def test_notes_about_missing_parts_name_the_command() -> None:
    for note in (NO_FINDING_HEAD, NO_OOD_DETECTOR):
        assert "cxr-rag fit-heads" in note
