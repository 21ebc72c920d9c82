"""The commands as a user types them: output, exit codes, no partial files, fast help."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.made_up_studies import drafts, reports, write_jsonl

pytestmark = pytest.mark.slow

PROGRAM = "from rag.cli.main import main; main()"
REFERENCES = reports(12)


def run(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, "eval", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "ours.jsonl", drafts(REFERENCES))
    write_jsonl(tmp_path / "references.jsonl", REFERENCES)
    return tmp_path


def score(files: Path, predictions: str, *more: object, code: int = 0) -> str:
    options = ["--references", files / "references.jsonl", "--out", files / "out"]
    options += [
        "--cache",
        files / "c.sqlite",
        "--samples",
        200,
        "--measures",
        "bleu,labels,diversity",
    ]
    done = run("score", files / predictions, *options, *more, code=code)
    return done.stdout + done.stderr


def test_csv_references_and_plain_reports_give_the_full_table(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["study_id,report"]
    lines += [f'{r["study_id"]},"{r["findings"]} {r["impression"]}"' for r in REFERENCES]
    (files / "references.csv").write_text("\n".join(lines))
    rows = [{"study_id": r["study_id"], "report": r["findings"]} for r in REFERENCES]
    write_jsonl(files / "theirs.jsonl", rows)
    monkeypatch.setenv("CXR_RAG_HOME", str(files / "home"))
    done = run(
        "score",
        files / "theirs.jsonl",
        *("--references", files / "references.csv", "--out", files / "out"),
        *("--samples", 200),
    )
    assert (files / "home" / "scores.sqlite").is_file()
    for words in (
        "theirs",
        "constant",
        "random",
        "oracle top-1",
        "BLEU-4",
        "micro F1-14",
        "CIDEr-D",
    ):
        assert words in done.stdout
    assert "grounding: not available" in done.stdout
    assert "names no patients" in done.stdout
    table = (files / "out" / "table.md").read_text()
    assert all(f"## {name}" in table for name in ("All", "Normal", "Abnormal", "Cards"))
    page = run("report", files / "out")
    assert "report.html" in page.stderr
    assert (files / "out" / "report.html").stat().st_size > 20_000
    assert {path.name for path in (files / "out").iterdir()} == {
        "report.html",
        "result.json",
        "scores.jsonl",
        "stats.npz",
        "studies.jsonl",
        "table.csv",
        "table.md",
    }


def test_compare_prints_a_table_or_json_and_refuses_other_studies(files: Path) -> None:
    score(files, "ours.jsonl")
    (files / "out").rename(files / "first")
    score(files, "ours.jsonl", "--scope", "findings")
    assert "| BLEU-4 ↑ |" in run("compare", files / "first", files / "first").stdout
    found = json.loads(run("compare", files / "first", files / "first", "--json").stdout)
    assert found["studies"] == 12
    refused = run("compare", files / "first", files / "out", code=3)
    assert "different studies" in refused.stderr
    assert "reference texts differ" in refused.stderr


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 2: not JSON"),
        ('{"study_id": "S000", "report": "x"}', "line 2: the id S000 was on line 1 already"),
        ('{"study_id": "S9", "report": "x"}', "line 2: the study S9 is not in the references"),
        ('{"study_id": "S001", "report": NaN}', "line 2: holds NaN"),
        ('{"study_id": "S001", "report": ""}', "line 2: the draft is empty"),
        ('{"study_id": "S001", "report": "%s"}' % ("word " * 50_000), "50000 words"),
    ],
)
def test_bad_data_exits_3_naming_the_line_and_writes_nothing(
    files: Path, line: str, reason: str
) -> None:
    (files / "bad.jsonl").write_text('{"study_id": "S000", "report": "Clear."}\n' + line + "\n")
    assert reason in score(files, "bad.jsonl", code=3)
    assert not list(files.glob("*out*"))
    assert not list(files.glob(".*"))


def test_bad_encoding_exits_3(files: Path) -> None:
    (files / "bad.jsonl").write_bytes(b'{"study_id": "S000", "report": "caf\xe9"}\n')
    assert "line 1: not UTF-8" in score(files, "bad.jsonl", code=3)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--measures", "bleu,accuracy"], "unknown measure 'accuracy'"),
        (["--split", "test"], "no study of split 'test'"),
        (["--train", "absent.csv"], "there is no file absent.csv"),
        (["--scope", "lungs"], "Invalid value for '--scope'"),
        (["--measures", "chexbert", "--models", "absent"], "chexbert: put chexbert.pth"),
        (["--name", "random"], "'random' is the name of a baseline: choose another --name"),
        (["--samples", "5"], "greater than or equal to 100"),
    ],
)
def test_a_wrong_option_exits_2(files: Path, more: list[str], reason: str) -> None:
    found = " ".join(score(files, "ours.jsonl", *more, code=2).split())
    assert reason in found.replace("│ ", "")


def test_a_leak_exits_3(files: Path) -> None:
    found = score(files, "ours.jsonl", "--train", files / "references.jsonl", code=3)
    assert "12 studies are scored and also in the training data" in found


def test_label_prints_one_line_per_text(files: Path) -> None:
    write_jsonl(files / "texts.jsonl", [{"text": "No pneumothorax."}, {"text": "Cardiomegaly."}])
    done = run("label", files / "texts.jsonl")
    assert [json.loads(line)["labels"] for line in done.stdout.splitlines()] == [
        {"No Finding": "positive", "Pneumothorax": "negative"},
        {"Cardiomegaly": "positive"},
    ]
    (files / "texts.jsonl").write_text('{"text": "Clear."}\n{"txt": 1}\n')
    refused = run("label", files / "texts.jsonl", code=3)
    assert refused.stdout == ""
    assert "line 2: text Field required" in refused.stderr


def test_prompts_are_printed_in_order(files: Path) -> None:
    lines = [json.loads(line) for line in run("prompts", "--layout", "rsna").stdout.splitlines()]
    assert {line["label"] for line in lines} == {"Pneumonia"}
    assert [line["present"] for line in lines] == sorted(
        (line["present"] for line in lines), reverse=True
    )


def test_nothing_heavy_is_imported_before_a_command_runs() -> None:
    code = (
        "import sys, eval.cli; "
        "print(sorted({'torch', 'numpy', 'scipy', 'sklearn', 'transformers', 'jinja2', 'pydicom'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
