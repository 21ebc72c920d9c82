"""Verdicts on changes, from prior report, current image and fitted model."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from encoders.packaged_weights import SHIPPED_ENCODER
from rag.change import (
    CHANGE_FILE,
    Change,
    ChangeModel,
    PriorEvidence,
    PriorState,
    compare_findings,
    prior_states,
    read_change_model,
)
from rag.errors import CalibrationError, EncoderUnavailableError
from rag.schema import NO_PREDICTED_FINDINGS, PredictedFindings
from rag.screening.calibration import read_calibration
from rag.screening.finding_head import CALIBRATION_FILE

EFFUSION = "Pleural Effusion"
LINES = {EFFUSION: [0, 2], "emphysema": [0, 2]}
MODEL = ChangeModel(
    encoder_id="fake@1",
    present_now={"absent": LINES, "present": LINES},
    limits={"new": 0.7, "persists": 0.7, "resolved": 0.7},
)


def predicted(**probabilities: float) -> PredictedFindings:
    named = {name.replace("_", " "): p for name, p in probabilities.items()}
    return PredictedFindings(named, tuple(name for name, p in named.items() if p >= 0.5))


def verdict_of(report: str | None, before: PredictedFindings, now: PredictedFindings) -> Change:
    (row,) = compare_findings(report, before, now, MODEL)
    return row.verdict


def test_prior_states_are_keyed_by_label_or_concept() -> None:
    states = prior_states(
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
        ("Pleural effusion.", 0.5, Change.CANNOT_TELL),
        ("Possible pleural effusion.", 0.9, Change.CANNOT_TELL),
    ],
)
def test_the_verdict_follows_the_report_and_the_image(
    report: str, now: float, expected: Change
) -> None:
    assert verdict_of(report, NO_PREDICTED_FINDINGS, predicted(Pleural_Effusion=now)) is expected


def test_without_a_report_there_are_probabilities_and_no_verdict() -> None:
    (row,) = compare_findings(
        None, predicted(Pleural_Effusion=0.02), predicted(Pleural_Effusion=0.97), MODEL
    )
    assert (row.prior_probability, row.probability) == (0.02, 0.97)
    assert (row.prior_report, row.verdict) == (PriorState.NO_REPORT, Change.CANNOT_TELL)


def test_findings_not_assessable_or_without_a_limit_get_no_verdict() -> None:
    now = PredictedFindings({EFFUSION: 0.9}, not_assessable=frozenset({EFFUSION}))
    assert verdict_of("Effusion.", NO_PREDICTED_FINDINGS, now) is Change.CANNOT_TELL
    no_limit = replace(MODEL, limits={"persists": 0.7})
    (row,) = compare_findings(
        "No effusion.", NO_PREDICTED_FINDINGS, predicted(Pleural_Effusion=0.9), no_limit
    )
    assert row.verdict is Change.CANNOT_TELL


def test_findings_the_model_lacks_get_no_verdict() -> None:
    now = predicted(Fracture=0.95)
    assert verdict_of("No fracture.", NO_PREDICTED_FINDINGS, now) is Change.CANNOT_TELL
    (row,) = compare_findings(
        "Pleural effusion.", NO_PREDICTED_FINDINGS, predicted(Pleural_Effusion=0.9), None
    )
    assert (row.verdict, row.certainty) == (Change.CANNOT_TELL, None)


def test_rows_are_findings_present_in_either_study() -> None:
    both_names = {EFFUSION: 0.1, "pleural_effusion": 0.9, "emphysema": 0.6, "No Finding": 0.9}
    now = PredictedFindings(both_names, ("pleural_effusion", "emphysema", "No Finding"))
    rows = compare_findings(
        "No effusion. Granuloma. No fracture.", NO_PREDICTED_FINDINGS, now, MODEL
    )
    assert {row.finding for row in rows} == {"emphysema", "granuloma"}


def test_prior_evidence_as_json() -> None:
    rows = compare_findings(
        "Effusion.", predicted(Pleural_Effusion=0.8), predicted(Pleural_Effusion=0.9), MODEL
    )
    value = PriorEvidence("Effusion.", 1, 12, rows).to_json()
    assert (value["report"], value["images"], value["days_before"]) == (True, 1, 12)
    (change,) = value["changes"]
    assert change["prior_report"] == "present"
    assert change["verdict"] == "persists"
    assert change["prior_probability"] == 0.8
    assert 0.7 <= change["certainty"] <= 1


def test_a_model_of_another_encoder_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    assert read_change_model(tmp_path, "fake@1") is None
    path = tmp_path / CHANGE_FILE
    model = {"format": 1, "encoder_id": "other@1", "present_now": {}, "limits": {}}
    path.write_text(json.dumps(model))
    with pytest.raises(EncoderUnavailableError, match=r"other@1.*fake@1.*remove it"):
        read_change_model(tmp_path, "fake@1")
    wrong = {**model, "limits": {"persists": "often"}}
    for damaged in ("{", json.dumps({**model, "format": 0}), json.dumps(wrong)):
        path.write_text(damaged)
        with pytest.raises(CalibrationError, match="restore it") as refused:
            read_change_model(tmp_path, "fake@1")
    assert "limits.persists Input should be a valid number" in str(refused.value)


def test_the_shipped_model_is_for_the_shipped_encoder_and_has_valid_limits() -> None:
    encoder_id = read_calibration(SHIPPED_ENCODER / CALIBRATION_FILE).encoder_id
    model = read_change_model(SHIPPED_ENCODER, encoder_id)
    assert model is not None
    assert set(model.limits) <= {"new", "persists", "resolved"}
    assert all(0.5 <= limit <= 1 for limit in model.limits.values())
