"""Invalid input is reported with line and reason; valid input is read in every format."""

import csv
import gzip
import json
from pathlib import Path

import pytest
from support.made_up_studies import reports, write_jsonl

from eval.errors import EvalDataError, EvalUsageError
from eval.studies import Scope, read_predictions, read_references
from rag.prediction import Prediction
from rag.schema import Draft, DraftSentence, Hit, PredictedFindings, ReportRecord, Status

GOOD = b'{"study_id": "a", "report": "Clear."}\n'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"study_id": "b", "report": "Clear."', "not JSON"),
        (b'{"study_id": "b", "report": "caf\xe9"}', "not UTF-8"),
        (b'{"study_id": "b", "report": "Clear.", "confidence": NaN}', "holds NaN"),
        (b'{"study_id": "b", "report": "Clear.", "confidence": "high"}', "valid number"),
        (b'{"study_id": "b", "report": "Clear.", "confidence": 1e999}', "finite number"),
        (b'{"study_id": "a", "report": "Clear."}', "the id a was on line 1 already"),
        (b'{"study_id": "b", "report": ""}', "the draft is empty"),
        (b'{"study_id": "b", "report": " \\n "}', "the draft is empty"),
        (b'{"study_id": "b", "report": null}', "the draft is empty"),
        (b'{"study_id": "b"}', "the draft is empty"),
        (b'{"study_id": "b", "report": "nan"}', "the word 'nan'"),
        (b'{"study_id": "b", "findings": "None", "impression": "Clear."}', "the word 'None'"),
        (b'{"study_id": "b", "report": ["Clear."]}', "report Input should be a valid string"),
        (b'{"report": "Clear."}', "study_id Field required"),
        (b'{"study_id": true, "report": "Clear."}', "study_id is bool"),
        (b'{"study_id": "b\\u001b[31m", "report": "Clear."}', "control character"),
        (b'{"study_id": "b", "report": "%s"}' % (b"word " * 50_000), "50000 words"),
        (b'{"study_id": "b", "status": "done", "report": "Clear."}', "status Input should be"),
        (b'{"study_id": "b", "findings": [{"text": ""}]}', "not a sentence {...} with a text"),
        (b'{"study_id": "b", "findings": [{"text": "Clear.", "sources": "R1"}]}', "sources"),
        (b'{"study_id": "b", "findings": ["Clear."]}', "not a sentence {...} with a text"),
        (b'{"study_id": "b", "report": "Clear.", "evidence": [{"text": "x"}]}', "report_id"),
    ],
)
def test_a_bad_prediction_is_named_by_its_line(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(GOOD + line + b"\n")
    with pytest.raises(EvalDataError) as caught:
        read_predictions(path)
    assert "line 2: " in str(caught.value)
    assert reason in str(caught.value)
    assert str(caught.value).isprintable() or "\n" in str(caught.value)


def test_all_bad_lines_are_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(GOOD + b"x\n" * 30)
    with pytest.raises(EvalDataError) as caught:
        read_predictions(path)
    assert "line 2: not JSON" in str(caught.value)
    assert "line 21: not JSON" in str(caught.value)
    assert "and 10 more" in str(caught.value)


def test_our_own_prediction_is_read_as_written(tmp_path: Path) -> None:
    record = ReportRecord("R1", "R1", "R1", findings="Lungs are clear.", impression="Normal.")
    ours = Prediction(
        file="f.png",
        status=Status.OK,
        study_id="a",
        draft=Draft((DraftSentence("Lungs are clear.", ("R1",)),), (DraftSentence("Normal.", ()),)),
        hits=(Hit(record, 0.5),),
        llm="smol",
        predicted=PredictedFindings({"Edema": 0.5}),
    )
    failed = Prediction(file="g.png", status=Status.FAILED, study_id="b", reason="no image")
    path = write_jsonl(tmp_path / "p.jsonl", [ours.to_json(), failed.to_json()])
    read = read_predictions(path)
    assert read["a"].text(Scope.REPORT) == "Lungs are clear.\nNormal."
    assert read["a"].sentences(Scope.FINDINGS)[0].sources == ("R1",)
    assert read["a"].evidence[0].text == record.text
    assert (read["a"].confidence, read["a"].made_by) == (0.5, {"llm": "smol"})
    assert (read["b"].status, read["b"].text(Scope.REPORT)) == (Status.FAILED, "")


def test_a_confidence_of_0_is_read_from_gzipped_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"study_id": "a", "report": "Clear.", "confidence": 0}\n'))
    assert read_predictions(path)["a"].confidence == 0


def test_rexrank_json_is_read_as_references_and_predictions(tmp_path: Path) -> None:
    """The file has predictions beside references; NaN means missing and never becomes a word."""
    path = tmp_path / "rexrank.json"
    path.write_text(
        '{"S1": {"section_findings": "Clear.", "section_impression": NaN, "subject_id": 7, '
        '"model_prediction": "Findings: The lungs are clear. Impression: Normal."}, '
        '"S2": {"findings": "Big heart.", "impression": "Cardiomegaly.", "subject_id": 8, '
        '"model_prediction": "Cardiomegaly."}}'
    )
    references = read_references(path).studies
    assert (references["S1"].findings, references["S1"].impression) == ("Clear.", "")
    assert references["S1"].text(Scope.REPORT) == "Clear."
    assert references["S2"].patient_id == "8"
    predictions = read_predictions(path)
    assert predictions["S1"].findings == "The lungs are clear."
    assert predictions["S1"].impression == "Normal."
    assert predictions["S2"].text(Scope.REPORT) == "Cardiomegaly."
    listed = tmp_path / "list.json"
    content = json.loads(path.read_text())
    listed.write_text(json.dumps([{"study_id": k, **v} for k, v in content.items()]))
    assert read_predictions(listed)["S2"].report == predictions["S2"].report


@pytest.mark.parametrize("missing", ["null", "NaN", '""'])
def test_a_missing_rexrank_prediction_is_not_replaced_by_its_reference(
    tmp_path: Path, missing: str
) -> None:
    path = tmp_path / "rexrank.json"
    for reference in ('"report": "Clear."', '"findings": "Clear.", "impression": "Normal."'):
        path.write_text(f'{{"S1": {{{reference}, "model_prediction": {missing}}}}}')
        with pytest.raises(EvalDataError, match="entry 'S1': the draft is empty"):
            read_predictions(path)


def test_an_entry_under_a_key_keeps_its_own_id(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    content = {"0": {"id": "a"}, "b": {}, "c": {"study_id": None}}
    path.write_text(json.dumps({key: value | {"report": "x"} for key, value in content.items()}))
    assert list(read_references(path).studies) == ["a", "b", "c"]


@pytest.mark.parametrize("empty", [None, ""])
def test_an_empty_column_does_not_hide_another_name_of_it(
    tmp_path: Path, empty: str | None
) -> None:
    row = {"study_id": empty, "id": "a", "patient_id": empty, "subject_id": 7}
    row |= {"findings": empty, "section_findings": "Clear.", "impression": empty}
    study = read_references(write_jsonl(tmp_path / "r.jsonl", [row])).studies["a"]
    assert (study.patient_id, study.findings, study.impression) == ("7", "Clear.", "")


def test_csv_with_newlines_in_cells_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["study_id", "patient_id", "report"])
        writer.writerow(["1", "p1", "The lungs are clear.\nNo effusion, no pneumothorax."])
        writer.writerow(["2", "p1", 'The "usual".'])
    references = read_references(path)
    assert references.studies["1"].report.endswith("\nNo effusion, no pneumothorax.")
    assert references.has_patients


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("study_id,report\n1,Clear.\n1,Clear.\n", "line 3: the id 1 was on line 2 already"),
        ("study_id,report\n1,Clear.,x\n", "line 2: has 3 fields where the header has 2"),
        ("study_id,report\n1\n", "line 2: has 1 fields where the header has 2"),
        ('study_id,report\n1,"Clear.\n', "unexpected end"),
        ("study_id,report,report\n1,a,b\n", "two columns of the same name"),
        ("study_id,text\n1,Clear.\n", "line 2: has no findings, impression or report"),
        ("study_id,report\n", "holds no study"),
        ("study_id,patient_id,report\n1,p,Clear.\n2,,Clear.\n", "a patient in 1 of 2"),
    ],
)
def test_a_bad_table_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "r.csv"
    path.write_text(text)
    with pytest.raises(EvalDataError, match=reason):
        read_references(path)


def test_a_latin_1_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(b"study_id,report\n1,Clear.\n2,caf\xe9\n")
    with pytest.raises(EvalDataError, match="line 3: report is not valid UTF-8"):
        read_references(path)


def test_a_missing_or_unknown_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(EvalUsageError, match="no file"):
        read_references(tmp_path / "absent.csv")
    (tmp_path / "r.xlsx").write_bytes(b"PK")
    with pytest.raises(EvalUsageError, match=r"none of \.jsonl"):
        read_references(tmp_path / "r.xlsx")
    path = write_jsonl(tmp_path / "r.jsonl", [row | {"split": "val"} for row in reports(3)])
    with pytest.raises(EvalUsageError, match="no study of split 'test'"):
        read_references(path, split="test")


def test_in_open_i_each_study_is_its_own_patient(tmp_path: Path) -> None:
    row = {"id": "X1", "frontal": [], "lateral": [], "labels": {}, "split": "val"}
    path = write_jsonl(tmp_path / "studies.jsonl", [row | {"findings": "Clear."}])
    references = read_references(path, split="val")
    assert references.has_patients
    assert references.studies["X1"].patient_id == "X1"
