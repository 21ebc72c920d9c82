"""`cxr-rag calibrate`: a user's images and reports -> a calibration file for the settings."""

from pathlib import Path

import pytest
from support.small_batch import draw_images
from typer.testing import CliRunner, Result

from encoders.packaged_weights import SHIPPED_ENCODER
from rag.cli.main import app
from rag.screening.calibration import read_calibration
from rag.screening.finding_head import load_finding_predictor, read_finding_head
from rag.settings import DraftingSettings

pytestmark = pytest.mark.slow

LARGE = "The heart is enlarged. The lungs are clear."
NORMAL = "The heart is normal in size. The lungs are clear."


def run(folder: Path, *, studies: int) -> Result:
    """Calibrate on so many made-up studies; every third has a large heart."""
    images = draw_images(folder / "images", studies)
    rows = [f"r{n},f{n:03d},{LARGE if n % 3 == 0 else NORMAL}" for n in range(studies)]
    reports = folder / "reports.csv"
    reports.write_text("\n".join(["report_id,study_id,findings", *rows]) + "\n")
    out = str(folder / "own.json")
    return CliRunner().invoke(app, ["calibrate", str(images), str(reports), "--out", out])


def test_calibrate_prints_a_comparison_and_writes_what_drafting_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as in the settings of a site, also before the file is there
    monkeypatch.setenv("CXR_RAG_DRAFTING__CALIBRATION", str(tmp_path / "own.json"))
    result = run(tmp_path, studies=105)
    assert result.exit_code == 0, result.output
    assert "105 studies" in result.output
    assert "| promised | before ↓ [95 %] | after ↓ [95 %] |" in result.output
    assert sum(line.startswith("| 0.") for line in result.output.splitlines()) == 5
    assert [path.name for path in tmp_path.glob("*.json")] == ["own.json"]

    own = read_calibration(tmp_path / "own.json")
    assert own.studies == 105
    encoder_id = read_finding_head(SHIPPED_ENCODER / "finding_head.safetensors").encoder_id
    settings = DraftingSettings(calibration=tmp_path / "own.json")
    predictor = load_finding_predictor(SHIPPED_ENCODER, encoder_id, settings)
    assert predictor is not None
    assert predictor.calibration == own
    shipped = load_finding_predictor(SHIPPED_ENCODER, encoder_id, DraftingSettings())
    assert shipped is not None
    assert shipped.calibration.threshold(0.15) != own.threshold(0.15)


@pytest.mark.parametrize("studies", [1, 99])
def test_too_few_studies_are_refused_and_nothing_is_written(tmp_path: Path, studies: int) -> None:
    result = run(tmp_path, studies=studies)
    assert result.exit_code != 0
    assert "at least 100 are needed" in " ".join(str(result.exception or result.output).split())
    assert not (tmp_path / "own.json").exists()
