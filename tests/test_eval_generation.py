"""The generation task from files to numbers: missing drafts, leaks, baselines, result folders."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.made_up_studies import NORMAL, drafts, reports, write_jsonl

from eval.errors import EvalDataError, EvalLeakError, EvalUsageError
from eval.result_io import read_result, save_generation
from eval.studies import Scope
from eval.tables import as_markdown
from eval.tasks.generation import GenerationScores, score_generation

RULES = ("bleu", "rouge", "cider", "labels", "diversity", "grounding")
REFERENCES = reports(24)
TRAIN = reports(30, first="T", seed=5)


Options = dict[str, Any]


@pytest.fixture
def options(tmp_path: Path) -> Options:
    return Options(
        predictions=write_jsonl(tmp_path / "p.jsonl", drafts(REFERENCES)),
        references=write_jsonl(tmp_path / "r.jsonl", REFERENCES),
        train=write_jsonl(tmp_path / "t.jsonl", TRAIN),
        name="system",
        measures=RULES,
        samples=200,
        cache=tmp_path / "cache.sqlite",
    )


def value(
    scored: GenerationScores, measure: str, *, system: str = "system", subset: str = "all"
) -> float:
    number = scored.result.number(system=system, subset=subset, measure=measure)
    assert number is not None
    assert number.value is not None
    return number.value


def test_every_number_has_n_a_direction_and_an_interval_around_it(options: Options) -> None:
    result = score_generation(**options).result
    assert result.subsets() == ["all", "normal", "abnormal", "text not in train"]
    assert result.systems() == ["system", "constant", "random", "top-1 copied", "oracle top-1"]
    for number in result.numbers:
        if number.value is None:  # normal studies mention none of the five labels
            assert ("F1-5" in number.measure, number.subset) == (True, "normal")
            continue
        assert number.low is not None
        assert number.high is not None
        assert number.low <= number.value + 1e-9
        assert "F1" in number.measure or number.value <= number.high + 1e-9
        assert 0 < number.n <= 24
        assert number.direction


def test_the_same_seed_gives_the_same_numbers(options: Options) -> None:
    first = score_generation(**options)
    again = score_generation(**options | {"cache": None})
    assert first.result.numbers == again.result.numbers
    other = score_generation(**options | {"seed": 1})
    assert other.result.numbers != first.result.numbers


def test_a_study_without_a_draft_scores_the_worst_and_is_counted(options: Options) -> None:
    rows = drafts(REFERENCES)
    rows[1] |= {"status": "failed", "findings": [], "impression": []}
    rows[2] |= {"status": "abstained", "findings": [], "impression": []}
    write_jsonl(options["predictions"], rows[:-1])
    scored = score_generation(**options)
    assert scored.result.dataset["missing_predictions"] == {
        "failed": 1,
        "abstained": 1,
        "not in the file": 1,
    }
    for key, metric in scored.metrics.items():
        for index in (1, 2, 23):
            row = scored.statistics["system", key][index]
            for measure in metric.measures:
                found = float(measure.combine(row))
                assert np.isnan(found) or found == measure.worst, measure.name
    assert scored.result.number(system="system", subset="all", measure="words").n == 21
    assert scored.result.number(system="system", subset="all", measure="BLEU-4").n == 24


def test_missing_drafts_lower_a_mean_in_proportion(options: Options) -> None:
    whole = value(score_generation(**options), "ROUGE-L")
    rows = drafts(REFERENCES)
    write_jsonl(options["predictions"], rows[::3])
    scored = score_generation(**options)
    scores = scored.metrics["rouge"].measures[0].combine(scored.statistics["system", "rouge"])
    assert value(scored, "ROUGE-L") == pytest.approx(scores[::3].sum() / 24)
    assert value(scored, "ROUGE-L") < whole / 2


def test_the_oracle_beats_copying_and_a_perfect_system_beats_all(options: Options) -> None:
    perfect = [
        {"study_id": r["study_id"], "report": f"{r['findings']}\n{r['impression']}"}
        for r in REFERENCES
    ]
    write_jsonl(options["predictions"], perfect)
    scored = score_generation(**options)
    assert value(scored, "BLEU-4") == pytest.approx(1)
    assert value(scored, "micro F1-14 (u=1)") == pytest.approx(1)
    oracle, random, constant = (
        value(scored, "ROUGE-L", system=name) for name in ("oracle top-1", "random", "constant")
    )
    assert 1 > oracle > max(random, constant)
    assert "top-1 copied" in scored.result.not_available
    assert "grounding" in scored.result.not_available


def test_constant_is_the_most_common_training_report(options: Options) -> None:
    scored = score_generation(**options)
    (constant,) = {pair.draft for run in scored.runs[1:2] for pair in run.pairs}
    assert constant == f"{NORMAL}\nNormal chest."
    assert value(scored, "most common report", system="constant") == 1


def test_without_training_data_baselines_come_from_other_patients(options: Options) -> None:
    scored = score_generation(**options | {"train": None})
    assert scored.result.dataset["baselines_from"] == "the references of the other patients"
    assert any("not checked" in note for note in scored.result.notes)
    texts = {s.study_id: (s.patient_id, s.text(Scope.REPORT)) for s in scored.study_set.studies}
    for run in scored.runs[1:]:
        if run.name in {"random", "oracle top-1"}:
            for pair in run.pairs:
                owners = {patient for patient, text in texts.values() if text == pair.draft}
                assert owners - {texts[pair.study_id][0]}, run.name


def test_overlap_with_training_data_or_evidence_is_refused(
    options: Options, tmp_path: Path
) -> None:
    def with_train(**changed: Any) -> Options:
        rows = [TRAIN[0] | changed, *TRAIN[1:]]
        return options | {"train": write_jsonl(tmp_path / "leak.jsonl", rows)}

    with pytest.raises(
        EvalLeakError, match=r"1 studies are scored and also in the training data(.|\n)*S001"
    ):
        score_generation(**with_train(study_id="S001"))
    with pytest.raises(EvalLeakError, match=r"1 patients(.|\n)*Sp003"):
        score_generation(**with_train(patient_id="Sp003"))
    rows = drafts(REFERENCES)
    rows[4]["evidence"][0]["report_id"] = "S004"
    write_jsonl(options["predictions"], rows)
    with pytest.raises(EvalLeakError, match="study S004 was drafted from the report of S004"):
        score_generation(**options)


def test_texts_in_train_are_counted_and_excluded_in_a_separate_subset(
    options: Options,
) -> None:
    scored = score_generation(**options)
    seen = scored.result.dataset["texts_in_train"]
    assert seen >= 8  # every third reference is the normal one, which is in train too
    number = scored.result.number(system="system", subset="text not in train", measure="BLEU-1")
    assert number.n == 24 - seen


def test_a_study_missing_from_the_references_is_named_by_its_line(options: Options) -> None:
    rows = drafts(REFERENCES)
    rows[3]["study_id"] = "S999"
    write_jsonl(options["predictions"], rows)
    with pytest.raises(EvalDataError, match="line 4: the study S999 is not in the references"):
        score_generation(**options)
    rows = [row | {"split": "val" if i < 20 else "train"} for i, row in enumerate(REFERENCES)]
    write_jsonl(options["references"], rows)
    write_jsonl(options["predictions"], drafts(REFERENCES))
    with pytest.raises(EvalDataError, match="line 21: the study S020 is in split 'train'"):
        score_generation(**options | {"split": "val"})


def test_a_missing_section_stays_missing(options: Options) -> None:
    rows = [row | ({"impression": None} if i < 5 else {}) for i, row in enumerate(REFERENCES)]
    write_jsonl(options["references"], rows)
    scored = score_generation(**options | {"scope": Scope.IMPRESSION})
    assert scored.result.dataset["without_section"] == 5
    assert len(scored.study_set) == 19
    assert not any("none" in text.lower() for text in scored.study_set.texts)
    assert score_generation(**options).result.dataset["without_section"] == 0


def test_missing_sections_cannot_be_scored(options: Options) -> None:
    write_jsonl(options["predictions"], [{"study_id": "S001", "report": "The lungs are clear."}])
    with pytest.raises(EvalUsageError, match="no prediction has a separate findings section"):
        score_generation(**options | {"scope": Scope.FINDINGS})
    write_jsonl(options["references"], [{"study_id": "S001", "report": "Clear."}])
    with pytest.raises(EvalUsageError, match="no findings in any study"):
        score_generation(**options | {"scope": Scope.FINDINGS})


def test_grounding_distinguishes_cited_and_uncited_support(options: Options) -> None:
    evidence = [
        {"report_id": "T001", "text": "Small left effusion. The heart is large."},
        {"report_id": "T002", "text": "No pneumothorax."},
    ]

    def rate(*sentences: tuple[str, list[str]]) -> list[float]:
        findings = [{"text": text, "sources": sources} for text, sources in sentences]
        row = {"study_id": "S001", "findings": findings, "evidence": evidence}
        write_jsonl(options["predictions"], [row])
        scored = score_generation(**options | {"measures": ("grounding",)})
        rows = scored.statistics["system", "grounding"][1]
        return [float(m.combine(rows)) for m in scored.metrics["grounding"].measures]

    assert rate(("The heart is large.", ["T001"])) == [0, 1, 1]
    assert rate(("The heart is large.", ["T002"])) == [0, 0, 0]
    assert rate(("The heart is large.", [])) == [0, 0, 0]
    assert rate(("The heart is large.", ["T001", "T002"])) == [0, 0.5, 1]
    assert rate(("The heart is large.", ["T001", "invented"])) == [0, 0.5, 1]
    assert rate(("There is a left pleural effusion.", ["T001"])) == [0, 1, 1]
    assert rate(("There is a right pleural effusion.", ["T001"])) == [1, 0, 0]
    assert rate(("There is no pleural effusion.", ["T001"])) == [1, 0, 0]
    assert rate(("There is pulmonary edema.", ["T001"]), ("No pneumothorax.", ["T002"])) == [
        0.5,
        0.5,
        0.5,
    ]
    mixed = "Left pleural effusion without pneumothorax."
    assert rate((mixed, ["T001"])) == [0, 1, 0]
    assert rate((mixed, ["T001", "T002"])) == [0, 1, 1]


def test_informative_confidence_lowers_risk(options: Options) -> None:
    curves = score_generation(**options).result.curves["risk_coverage"]
    rouge = next(curve for curve in curves if curve["measure"] == "ROUGE-L")
    assert rouge["aurc"] < rouge["aurc_random"]
    assert rouge["aurc_low"] <= rouge["aurc"] <= rouge["aurc_high"]
    assert rouge["score_at"] > rouge["score_all"]
    rows = [row | {"confidence": None} for row in drafts(REFERENCES)]
    write_jsonl(options["predictions"], rows)
    assert score_generation(**options).result.curves["risk_coverage"] == []


def test_a_saved_result_is_read_back(options: Options, tmp_path: Path) -> None:
    scored = score_generation(**options)
    out = tmp_path / "out"
    save_generation(scored, out)
    assert read_result(out).numbers == scored.result.numbers
    rows = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    assert len(rows) == 24
    assert set(rows[0]["scores"]) == set(scored.result.systems())
    kept = (out / "scores.jsonl").read_text()
    assert "pneumothorax" not in kept
    assert "clear" not in kept  # scores can be published: they contain no text
    assert not list(tmp_path.glob(".out*"))


def test_a_result_is_replaced_atomically_and_other_folders_are_refused(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored, out = score_generation(**options), tmp_path / "out"
    save_generation(scored, out)
    before = (out / "result.json").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(np, "savez_compressed", full)
        with pytest.raises(EvalDataError, match="disk is full"):
            save_generation(scored, out)
    assert (out / "result.json").read_bytes() == before
    assert not list(tmp_path.glob(".out*"))
    save_generation(scored, out)
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.tex").write_text("precious")
    with pytest.raises(EvalUsageError, match="is not a result folder"):
        save_generation(scored, other)
    assert (other / "chapter.tex").read_text() == "precious"


def test_a_damaged_result_or_another_schema_is_refused(options: Options, tmp_path: Path) -> None:
    out = tmp_path / "out"
    save_generation(score_generation(**options), out)
    path = out / "result.json"
    text = path.read_text()
    path.write_text(text.replace("cxr-rag-eval/1", "cxr-rag-eval/9"))
    with pytest.raises(EvalDataError, match="schema 'cxr-rag-eval/9'"):
        read_result(out)
    path.write_text(text[: len(text) // 2])
    with pytest.raises(EvalDataError, match="damaged"):
        read_result(out)
    path.write_text(json.dumps([]))
    with pytest.raises(EvalDataError, match="damaged"):
        read_result(out)
    with pytest.raises(EvalUsageError, match="no evaluation"):
        read_result(tmp_path)


def test_one_distinct_reference_or_one_patient_makes_measures_unavailable(
    options: Options,
) -> None:
    alike = [{"study_id": f"S{n}", "patient_id": f"P{n}", "report": "Clear."} for n in range(3)]
    sure = [row | {"report": "Clear lungs.", "confidence": n} for n, row in enumerate(alike)]
    write_jsonl(options["references"], alike)
    write_jsonl(options["predictions"], sure)
    result = score_generation(**options | {"train": None}).result
    assert "every word has weight 0" in result.not_available["cider"]
    as_markdown(result)  # no label of F1-5 anywhere: no curve, and no crash
    assert "micro F1-5 (u=1)" not in {c["measure"] for c in result.curves["risk_coverage"]}

    write_jsonl(options["references"], [row | {"patient_id": "P"} for row in alike])
    result = score_generation(**options | {"train": None}).result
    assert result.systems() == ["system"]
    assert "no report of another patient" in result.not_available["constant"]
