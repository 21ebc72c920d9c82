"""The command line as a user types it: errors of wrong usage, and drafts without a model."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from support.rejections import note
from support.small_corpus import small_corpus

from demo.phantom import write_phantom_dicom
from encoders.eclip.encoder import load_encoder
from encoders.image_io import read_image
from rag.cli.main import main
from rag.drafting.drafter import WITHOUT_MODEL
from rag.index import build_index

pytestmark = pytest.mark.slow

EXIT_USAGE, EXIT_FAILED = 2, 3


class Cli:
    """Runs commands in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: object, env: dict[str, str] | None = None) -> int:
        """Exit code; `out` and `err` hold what was printed."""
        for name, value in (env or {}).items():
            self._monkeypatch.setenv(name, value)
        self._monkeypatch.setattr(sys, "argv", ["cxr-rag", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        self.out, self.err = self._capsys.readouterr()
        return int(ended.value.code or 0)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    for name in os.environ:
        if name.startswith("CXR_RAG_"):
            monkeypatch.delenv(name)
    before = signal.getsignal(signal.SIGTERM)
    yield Cli(capsys, monkeypatch)
    signal.signal(signal.SIGTERM, before)  # `main` handles it in its own way


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody's home: an index of made-up reports by the encoder that ships, and no model."""
    folder = tmp_path_factory.mktemp("home")
    build_index(small_corpus(), load_encoder(), folder / "index")
    (folder / "none.toml").write_text(
        f'home = "{folder}"\n[llm]\nurl = "http://127.0.0.1:9/v1"\n[llm.server]\nenabled = false\n'
        "[abstention]\nsimilarity = -1.0\n"
    )
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / f"{seed}.dcm" for seed in range(2)]
    for seed, path in enumerate(paths):
        write_phantom_dicom(path, seed=seed, size=256)
    return paths


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generate", "nofile.dcm"], "there is no file nofile.dcm"),
        (["query", "fillm.dcm"], "there is no file fillm.dcm"),
        (["query", "folder/image"], "there is no file folder/image"),
        (["batch", "nowhere", "out"], "no file or folder nowhere"),
        (["batch", "only-in"], "name IN and OUT"),
        (["batch", "in", "out", "--engine", "spark"], "spark"),
        (["index", "--collection", "nowhere.csv"], "there is no nowhere.csv"),
        (["index", "--exclude", "nowhere.txt"], "there is no nowhere.txt"),
        (["embed", "nowhere", "out"], "no file or folder nowhere"),
        (["train", "--config", "nowhere.toml", "--out", "out"], "nowhere.toml"),
        (["receive", "out", "--allow", "PACS@nowhere"], "TITLE@ADDRESS"),
        (["receive", "out", "--allow", "PACS"], "TITLE@ADDRESS"),
        (["demo", "--port", "99999"], "less than or equal to 65535"),
        (["generate", "--config", "nosuch", "x.dcm"], "presets are: cpu, gpu"),
        (["nosuch"], "No such command"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exits_with_2(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli(*arguments) == EXIT_USAGE
    assert words in cli.err
    assert "Traceback" not in cli.err


def test_a_collection_without_a_usable_row_leaves_the_index_unchanged(
    cli: Cli, home: Path, tmp_path: Path
) -> None:
    before = (home / "index" / "index.json").read_bytes()
    reports = tmp_path / "made.csv"
    reports.write_text("report_id,study_id,findings\nr1,####,The lungs are clear.\n")
    assert cli("index", "--collection", reports, "--config", home / "none.toml") == EXIT_FAILED
    assert "skipped or repaired: " in cli.out
    assert "no report can be indexed" in cli.err
    assert (home / "index" / "index.json").read_bytes() == before


def test_embedding_an_empty_folder_is_wrong_usage(cli: Cli, tmp_path: Path) -> None:
    assert cli("embed", tmp_path, tmp_path / "out") == EXIT_USAGE
    assert "no image" in cli.err


def test_an_unwritable_output_of_embed_is_one_sentence(
    cli: Cli, images: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert cli("embed", images[0], tmp_path / "file" / "vectors") == EXIT_FAILED
    assert "a file where a folder should be" in cli.err


def test_a_wrong_log_level_is_one_sentence(cli: Cli) -> None:
    assert cli("doctor", env={"CXR_RAG_LOG": "foo"}) == EXIT_USAGE
    assert "CXR_RAG_LOG is 'foo'" in cli.err


def test_a_misspelt_variable_is_an_error(cli: Cli) -> None:
    assert cli("doctor", env={"CXR_RAG_LMM__URL": "http://127.0.0.1:1/v1"}) == EXIT_USAGE
    assert "CXR_RAG_LMM__URL" in cli.err


def test_an_unknown_template_is_named_by_doctor_and_refused(
    cli: Cli, home: Path, images: list[Path]
) -> None:
    wrong = {"CXR_RAG_LLM__TEMPLATE": "nosuch"}
    config = home / "none.toml"
    assert cli("doctor", "--config", config, env=wrong) == EXIT_FAILED
    assert "no prompt template 'nosuch'" in cli.out
    assert cli("generate", images[0], "--no-llm", "--config", config, env=wrong) == EXIT_USAGE


def test_a_draft_without_a_model(cli: Cli, home: Path, images: list[Path]) -> None:
    config = ("--config", home / "none.toml")
    assert cli("generate", *images, "--json", *config) == EXIT_FAILED, "no model answers"
    assert "--no-llm" in cli.err
    assert cli("generate", *images, "--json", "--no-llm", *config) == 0
    for line, image in zip(map(json.loads, cli.out.splitlines()), images, strict=True):
        assert (line["file"], line["status"], line["llm"]) == (str(image), "ok", "none")
        assert line["study_id"].startswith("dcm-")
        assert line["findings"]
        assert WITHOUT_MODEL in line["warnings"]


def test_a_prior_of_the_patient_is_compared_and_one_of_another_refused(
    cli: Cli, home: Path, images: list[Path], tmp_path: Path
) -> None:
    config = ("--json", "--no-llm", "--config", home / "none.toml")
    report = tmp_path / "report.txt"
    report.write_text("FINDINGS: Pleural effusion.", encoding="utf-8")
    assert cli("generate", images[0], "--prior", report, *config) == 0
    line = json.loads(cli.out)
    assert line["prior"]["report"]
    assert line["prior"]["changes"][0]["finding"] == "Pleural Effusion"
    assert any("nobody has checked" in warning for warning in line["warnings"])
    assert cli("generate", images[0], "--prior", images[1], *config) == EXIT_FAILED
    assert json.loads(cli.out)["error"] == "PriorMismatchError"
    assert cli("generate", *images, "--prior", report, *config) == EXIT_USAGE
    assert cli("generate", images[0], "--prior", tmp_path / "none", *config) == EXIT_USAGE


def test_a_batch_without_a_model(cli: Cli, home: Path, images: list[Path], tmp_path: Path) -> None:
    arguments = ("batch", images[0].parent, tmp_path / "out", "--config", home / "none.toml")
    assert cli(*arguments, "--no-llm") == 0
    lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    assert {json.loads(line)["llm"] for line in lines} == {"none"}
    assert len(lines) == len(images)


def test_query_shows_the_nearest_reports(cli: Cli, home: Path, images: list[Path]) -> None:
    config = ("--config", home / "none.toml")
    for what in (images[0], "enlarged heart"):
        assert cli("query", what, "-k", 3, "--json", *config) == 0
        found = [json.loads(line) for line in cli.out.splitlines()]
        assert len(found) == 3
        assert found[0]["similarity"] >= found[2]["similarity"]
    assert cli("query", " ", *config) == EXIT_USAGE
    assert "the text to search for is empty" in cli.err


def test_a_bad_file_costs_only_its_own_report(
    cli: Cli, home: Path, images: list[Path], tmp_path: Path
) -> None:
    bad, odd = tmp_path / "bad.dcm", tmp_path / "odd.dcm"
    bad.write_bytes(images[0].read_bytes()[:3000])
    header = dcmread(images[1])
    header.StudyDate, header.PatientSex = "20260301", "O"
    header.save_as(odd)
    odd.write_bytes(odd.read_bytes().replace(b"20260301", b"2026.3.1"))
    asked = (images[0], bad, odd, images[1])
    config = ("--config", home / "none.toml")
    out = [part for name in ("sr", "fhir", "hl7") for part in (f"--{name}", tmp_path / name)]
    assert cli("generate", *asked, "--json", "--no-llm", *out, *config) == 3
    lines = [json.loads(line) for line in cli.out.splitlines()]
    assert [line["status"] for line in lines] == ["ok", "failed", "ok", "ok"]
    for folder, ending in (("sr", "sr.dcm"), ("fhir", "fhir.json"), ("hl7", "hl7")):
        written = sorted(path.name for path in (tmp_path / folder).iterdir())
        assert written == [f"{stem}.{ending}" for stem in ("0", "1", "odd")]
    assert cli("query", bad, *config) == EXIT_FAILED
    assert cli.err.count("bad.dcm") == 1
    assert "Traceback" not in cli.err


def test_a_document_that_cannot_be_written_is_a_failure(
    cli: Cli, home: Path, images: list[Path], tmp_path: Path
) -> None:
    picture = tmp_path / "picture.png"
    Image.fromarray((read_image(images[0]).pixels * 255).astype(np.uint8)).save(picture)
    config = ("--config", home / "none.toml")
    assert cli("generate", picture, "--no-llm", *config) == 0
    assert cli("generate", picture, "--no-llm", "--sr", tmp_path / "sr", *config) == EXIT_FAILED
    assert "no dicom report" in cli.err


def test_a_rejected_image_gets_no_draft(
    cli: Cli, home: Path, images: list[Path], tmp_path: Path
) -> None:
    kos = note(tmp_path / "kos.dcm", str(dcmread(images[0]).SOPInstanceUID))
    config = ("--config", home / "none.toml")
    assert cli("generate", *images, kos, "--json", "--no-llm", *config) == EXIT_FAILED
    (line,) = map(json.loads, cli.out.splitlines())
    assert line["file"] == str(images[1])
    assert "image 1 was not used: a rejection note names it" in cli.err
