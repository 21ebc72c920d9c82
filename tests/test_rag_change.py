"""What has changed: by what the prior report states, both images and a few fitted numbers."""

import json
from pathlib import Path

import pytest

from rag.change import (
    CHANGE,
    Change,
    ChangeModel,
    PriorEvidence,
    PriorState,
    changes,
    read_change_model,
    states_in,
)
from rag.errors import CalibrationError
from rag.predicted_findings import NO_PREDICTION, PredictedFindings

EFFUSION = "Pleural Effusion"
MODEL = ChangeModel(
    encoder_id="fake@1",
    present_now={"absent": [-1, 2, -0.2], "present": [1, 2, 0.2]},
    present_before=[0, 0.2, 2],
    present_now_alone={"absent": [-1, 2], "present": [1, 2]},
    limits={"new": 0.7, "persists": 0.7, "resolved": 0.7},
    findings=frozenset({EFFUSION, "emphysema"}),
)


def seen(**probabilities: float) -> PredictedFindings:
    named = {name.replace("_", " "): p for name, p in probabilities.items()}
    return PredictedFindings(named, tuple(name for name, p in named.items() if p >= 0.5))


def verdict(report: str | None, before: PredictedFindings, now: PredictedFindings) -> Change:
    (row,) = changes(report, before, now, MODEL)
    return row.verdict


def test_states_are_what_a_report_says_under_the_labels_name() -> None:
    states = states_in(
        "INDICATION: Pneumonia?\nFINDINGS: Cardiomegaly. Possible left effusion. Emphysema. "
        "No pneumothorax.\nIMPRESSION: Cardiomegaly."
    )
    assert states["Cardiomegaly"] is PriorState.PRESENT
    assert states[EFFUSION] is PriorState.POSSIBLE
    assert states["emphysema"] is PriorState.PRESENT
    assert states["Pneumothorax"] is PriorState.ABSENT
    assert "Pneumonia" not in states


@pytest.mark.parametrize(
    ("report", "now", "expected"),
    [
        ("No pleural effusion.", 0.9, Change.NEW),
        ("The heart is normal.", 0.9, Change.NEW),  # what is not mentioned was not seen
        ("Pleural effusion.", 0.9, Change.PERSISTS),
        ("Pleural effusion.", 0.02, Change.RESOLVED),
        ("Pleural effusion.", 0.3, Change.CANNOT_TELL),
        ("Possible pleural effusion.", 0.9, Change.CANNOT_TELL),  # and no image to ask
    ],
)
def test_the_verdict_follows_the_report_and_the_image(
    report: str, now: float, expected: Change
) -> None:
    assert verdict(report, NO_PREDICTION, seen(Pleural_Effusion=now)) is expected


def test_without_a_report_both_images_decide() -> None:
    now, before = seen(Pleural_Effusion=0.97), seen(Pleural_Effusion=0.97)
    assert verdict(None, before, now) is Change.PERSISTS
    assert verdict(None, seen(Pleural_Effusion=0.02), now) is Change.NEW
    unsure = seen(Pleural_Effusion=0.5)
    assert verdict(None, unsure, unsure) is Change.CANNOT_TELL


def test_what_was_not_measured_and_what_has_no_model_cannot_be_told() -> None:
    now = seen(Fracture=0.95)
    assert verdict("No fracture.", NO_PREDICTION, now) is Change.CANNOT_TELL
    (row,) = changes("Pleural effusion.", NO_PREDICTION, seen(Pleural_Effusion=0.9), None)
    assert (row.verdict, row.certainty) == (Change.CANNOT_TELL, None)


def test_rows_are_findings_of_either_and_no_others() -> None:
    both_names = {EFFUSION: 0.1, "pleural_effusion": 0.9, "emphysema": 0.6, "No Finding": 0.9}
    now = PredictedFindings(both_names, ("pleural_effusion", "emphysema", "No Finding"))
    rows = changes("No effusion. Granuloma. No fracture.", NO_PREDICTION, now, MODEL)
    assert {row.finding for row in rows} == {"emphysema", "granuloma"}


def test_the_json_says_what_it_was_made_of() -> None:
    rows = changes("Effusion.", seen(Pleural_Effusion=0.8), seen(Pleural_Effusion=0.9), MODEL)
    value = PriorEvidence("Effusion.", 1, 12, rows).to_json()
    assert (value["report"], value["images"], value["days_before"]) == (True, 1, 12)
    (change,) = value["changes"]
    assert change["prior_report"] == "present"
    assert change["verdict"] == "persists"
    assert change["prior_probability"] == 0.8
    assert 0.7 <= change["certainty"] <= 1


def test_a_model_of_other_weights_is_none_and_a_damaged_one_an_error(tmp_path: Path) -> None:
    assert read_change_model(tmp_path, "fake@1") is None
    path = tmp_path / CHANGE
    path.write_text(json.dumps({"format": 1, "encoder_id": "other@1"}))
    assert read_change_model(tmp_path, "fake@1") is None
    path.write_text("{")
    with pytest.raises(CalibrationError, match="restore it"):
        read_change_model(tmp_path, "fake@1")
