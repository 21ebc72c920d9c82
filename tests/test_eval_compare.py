"""Comparison of runs, and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.made_up_studies import drafts, reports, write_jsonl

from eval.compare import as_markdown, compare
from eval.errors import EvalDataError, EvalMismatchError, EvalUsageError
from eval.result_io import save_generation
from eval.tasks.generation import score_generation

pytestmark = pytest.mark.slow

REFERENCES = reports(30)


def scored(folder: Path, name: str, rows: list[dict], references: list[dict] = REFERENCES) -> Path:
    found = score_generation(
        write_jsonl(folder / f"{name}.jsonl", rows),
        references=write_jsonl(folder / f"{name}-references.jsonl", references),
        name=name,
        measures=("bleu", "rouge", "cider", "labels", "diversity"),
        samples=100,
    )
    save_generation(found, folder / name)
    return folder / name


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    scored(folder, "weak", drafts(REFERENCES, seed=1))
    perfect = [
        {"study_id": r["study_id"], "report": f"{r['findings']}\n{r['impression']}"}
        for r in REFERENCES
    ]
    scored(folder, "perfect", perfect)
    return folder


def test_the_better_run_wins_and_a_run_equals_itself(runs: Path) -> None:
    found = compare(runs / "weak", runs / "perfect", samples=2_000)
    assert (found.studies, found.patients) == (30, 15)
    by_name = {d.measure: d for d in found.differences}
    rouge = by_name["ROUGE-L"]
    assert rouge.better == "second"
    assert rouge.low > 0
    assert rouge.difference == pytest.approx(rouge.second - rouge.first)
    assert rouge.p <= rouge.p_holm
    assert by_name["words"].p_holm is None
    assert by_name["words"].better == ""
    back = {
        d.measure: d for d in compare(runs / "perfect", runs / "weak", samples=2_000).differences
    }
    assert back["ROUGE-L"].better == "first"
    assert back["ROUGE-L"].difference == pytest.approx(-rouge.difference)
    same = compare(runs / "weak", runs / "weak", samples=100)
    assert {d.p for d in same.differences} <= {1.0, None}
    assert all(d.difference in {0.0, None} and not d.better for d in same.differences)
    assert "weak (1)" in as_markdown(same)


def test_a_run_against_its_own_baseline(runs: Path) -> None:
    found = compare(runs / "perfect", runs / "perfect", second_system="constant", samples=500)
    assert found.second == "constant of perfect"
    assert next(d for d in found.differences if d.measure == "BLEU-4").better == "first"
    with pytest.raises(EvalUsageError, match="choose from perfect, constant, random, oracle top-1"):
        compare(runs / "perfect", runs / "perfect", second_system="oracle")


def test_other_studies_are_refused(runs: Path, tmp_path: Path) -> None:
    fewer = scored(tmp_path, "fewer", drafts(REFERENCES[:28]), REFERENCES[:28])
    with pytest.raises(EvalMismatchError, match=r"30 and 28; 2 studies are in one only"):
        compare(runs / "weak", fewer)
    changed = [REFERENCES[0] | {"findings": "Something else."}, *REFERENCES[1:]]
    other = scored(tmp_path, "other", drafts(REFERENCES), changed)
    with pytest.raises(EvalMismatchError, match="reference texts differ"):
        compare(runs / "weak", other)


def test_other_cleaning_and_other_versions_are_not_mixed(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = dict[str, Any](
        predictions=runs / "weak.jsonl",
        references=runs / "weak-references.jsonl",
        name="weak",
        measures=("rouge", "labels"),
        samples=100,
    )
    save_generation(score_generation(**options, cleaning="r2gen"), tmp_path / "r2gen")
    with pytest.raises(EvalMismatchError, match="coco-ptb, weak with r2gen"):
        compare(runs / "weak", tmp_path / "r2gen")
    monkeypatch.setattr("eval.metrics.findings.rules_id", lambda: "rules@older")
    save_generation(score_generation(**options), tmp_path / "older")
    found = compare(runs / "weak", tmp_path / "older", samples=100)
    assert "labels" in found.not_compared
    assert {d.measure for d in found.differences} == {"ROUGE-L", "ROUGE-L β1.2"}
    save_generation(score_generation(**options | {"measures": ("labels",)}), tmp_path / "older")
    with pytest.raises(EvalMismatchError, match="scored alike in both"):
        compare(runs / "weak", tmp_path / "older")


def test_damaged_statistics_are_refused(runs: Path, tmp_path: Path) -> None:
    folder = scored(tmp_path, "torn", drafts(REFERENCES))
    path = folder / "stats.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(EvalDataError, match="score again"):
        compare(folder, runs / "weak")
    np.savez(path, study_id=np.array(["x"], dtype=object), allow_pickle=True)
    with pytest.raises(EvalDataError, match="score again"):
        compare(folder, runs / "weak")
