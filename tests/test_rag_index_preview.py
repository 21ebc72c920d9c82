"""`cxr-rag index --dry-run` shows what would be masked; `index delete` names unknown ids.

All names are invented.
"""

from pathlib import Path

import pytest
from support.fake_encoder import FakeEncoder
from support.small_corpus import small_corpus
from typer.testing import CliRunner

from rag.cli.main import app
from rag.config_file import load_settings
from rag.errors import StoreError
from rag.index import build_index
from rag.privacy.reports import mask_identifiers, preview_masking
from rag.schema import ReportRecord

pytestmark = pytest.mark.slow

RECORD = ReportRecord(
    "r1",
    "s1",
    "p1",
    findings="Lungs are clear. Discussed with Dr. Hollister at 10:45 a.m.",
    impression="Normal.",
)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CXR_RAG_HOME", str(tmp_path / "home"))
    return load_settings("cpu").index_dir


def test_every_masked_place_is_shown_with_its_context() -> None:
    name, time = preview_masking(RECORD)
    shown = "r1 findings (name): …lear. Discussed with Dr. [Hollister] at 10:45 a.m.…"
    assert name == ("name", shown)
    assert time[0] == "date"
    masked, (found,) = mask_identifiers(RECORD)
    assert masked is not None
    assert "Hollister" not in masked.findings
    assert "masked" in found


def test_a_dry_run_shows_what_it_would_mask_and_writes_nothing(tmp_path: Path, store: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text(
        "report_id,patient_id,findings\n"
        "r1,77.0,Lungs are clear. Discussed with Dr. Hollister.\n"
        "r2,1.5E+11,Lungs are clear.\n"
        "r3,p3,Kein Erguss und das Herz ist nicht groß.\n"
    )
    run = CliRunner().invoke(app, ["index", "--collection", str(table), "--dry-run"])
    assert run.exit_code == 0, run.output
    assert "masked: r1 findings (name): …lear. Discussed with Dr. [Hollister]." in run.output
    assert "skipped or repaired: line 3 (r2): patient_id is 1.5E+11" in run.output
    assert "1 values of patient_id had become numbers" in run.output
    assert "would index 2 reports and mask 1 name in 1 of them; nothing was written" in run.output
    assert not store.exists()


def test_deleting_unknown_ids_is_an_error_that_names_them(store: Path) -> None:
    build_index(small_corpus(), FakeEncoder(), store)
    command = ["index", "delete"]
    run = CliRunner().invoke(app, [*command, "--study", "nosuch"])
    assert isinstance(run.exception, StoreError)
    assert "nosuch" in str(run.exception)
    both = CliRunner().invoke(app, [*command, "--study", "s001", "--patient", "nobody"])
    assert "1 removed" in both.output
    with pytest.raises(StoreError, match="the id nobody"):
        raise both.exception or AssertionError
