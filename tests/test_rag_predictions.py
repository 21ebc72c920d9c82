"""predictions.jsonl, which drafting writes and evaluation reads."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoders.tabular import read_table
from rag.batch.output import open_output, prediction_line
from rag.prediction import Prediction
from rag.schema import Draft, DraftSentence, PredictedFindings, Status

PREDICTION = Prediction(
    file="image.png",
    status=Status.OK,
    study_id="S1",
    draft=Draft(findings=(DraftSentence("The lungs are clear.", ("R1",)),)),
    predicted=PredictedFindings({"Edema": 0.25}),
)


def test_a_written_line_is_read_back(tmp_path: Path) -> None:
    with open_output(tmp_path) as output:
        output.append(PREDICTION)
        output.append(
            Prediction(file="b.png", status=Status.FAILED, study_id="S2", reason="no image")
        )
    first, second = read_table(output.predictions, strict=True)
    assert first.values == PREDICTION.to_json()
    assert first.values["confidence"] == 0.25
    assert (second.where, second.values["status"], second.problem) == ("line 2", "failed", "")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"study_id": "a"', "not JSON"),
        (b"[1, 2]", "is a list"),
        (b"null", "is a NoneType"),
        (b'{"a": NaN}', "holds NaN"),
        (b'{"a": -Infinity}', "holds -Infinity"),
        (b'{"a": 1, "a": 2}', "the key 'a' twice"),
        (b'{"a": "caf\xe9"}', "not UTF-8"),
        ('{"a": 1}'.encode("utf-16-le"), "not JSON"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_the_problem_of_a_bad_line_is_named(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"fine": true}\n\n' + line + b"\n" + b'{"fine": true}\n')
    good, bad, *_ = read_table(path, strict=True)
    assert not good.problem
    assert bad.where == "line 3"
    assert reason in bad.problem


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n')
    assert [line.values for line in read_table(path, strict=True)] == [{"a": 1}]


@given(cut=st.integers(min_value=0, max_value=len(prediction_line(PREDICTION).encode())))
def test_a_line_cut_off_by_a_crash_is_written_again(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("log")
    one, two, three = (
        prediction_line(replace(PREDICTION, study_id=name)).encode() for name in ("S1", "S2", "S3")
    )
    (folder / "predictions.jsonl").write_bytes(one + two[:cut])
    with open_output(folder) as output:
        assert ("S2" in output.statuses) == (cut >= len(two) - 1)
        output.append(replace(PREDICTION, study_id="S3"))
    assert output.predictions.read_bytes() in (one + three, one + two + three)


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        prediction_line(
            Prediction(
                file="f", status=Status.OK, predicted=PredictedFindings({"Edema": float("nan")})
            )
        )


def test_line_breaks_in_a_text_do_not_split_its_line() -> None:
    text = "first\nsecond\u2028third\x0b"
    line = prediction_line(
        Prediction(file=text, status=Status.FAILED, reason=text, warnings=(text,))
    )
    assert line.count("\n") == 1
    assert json.loads(line)["file"] == text
