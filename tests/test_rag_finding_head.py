"""The finding head: predictions, files and fitting."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rag.errors import CalibrationError, EncoderUnavailableError
from rag.fitting.fit_heads import auc_table, fit_head, learnable_findings, stated_findings
from rag.screening.calibration import Auc, Calibration, write_calibration
from rag.screening.finding_head import (
    CALIBRATION_FILE,
    HEAD_FILE,
    FindingHead,
    FindingPredictor,
    load_finding_predictor,
    read_finding_head,
    write_finding_head,
)
from rag.settings import DraftingSettings

NAMES = ("No Finding", "Cardiomegaly", "Edema", "Fracture", "Support Devices", "granuloma")
HEAD_OF_TWO = FindingHead(
    encoder_id="enc@1",
    names=NAMES,
    weight=np.array([[9, 0], [2, 0], [0, 2], [-2, -2], [0.8, 0], [0, 1.4]], np.float32),
    bias=np.zeros(6, np.float32),
)
GOOD = Auc(50, 0.9, 0.8, 0.95)
MEASURED = Calibration(
    encoder_id="enc@1",
    studies=99,
    slope=1.0,
    shift=0.0,
    aucs=dict.fromkeys(NAMES, GOOD),
    false_positives=[0.6] * 10 + [0.4] * 20 + [0.0] * 69,
    missed=[0.1] * 5 + [1.0] * 94,
)
PREDICTOR = FindingPredictor(HEAD_OF_TWO, MEASURED)


def test_probabilities_are_the_logistic_of_a_linear_map() -> None:
    found = PREDICTOR.predict(np.array([1, 0], np.float32)).probabilities
    assert found["Cardiomegaly"] == pytest.approx(0.8808, abs=1e-4)
    assert found["Edema"] == 0.5
    assert found["Fracture"] == pytest.approx(0.1192, abs=1e-4)


def test_positive_findings_are_above_the_accepted_rates_threshold_most_probable_first() -> None:
    vector = np.array([1, 0], np.float32)
    assert PREDICTOR.predict(vector).threshold == pytest.approx(0.4)
    assert PREDICTOR.predict(vector).positive == ("Cardiomegaly", "Support Devices", "Edema")
    cautious = replace(PREDICTOR, settings=DraftingSettings(false_finding_rate=0.05))
    assert cautious.predict(vector).threshold == pytest.approx(0.6)
    assert cautious.predict(vector).positive == ("Cardiomegaly", "Support Devices")


def test_devices_and_unlabelled_findings_need_a_higher_probability() -> None:
    found = PREDICTOR.predict(np.array([-0.4, 0.3], np.float32))
    assert 0.4 < found.probabilities["Support Devices"] < 0.45
    assert 0.6 < found.probabilities["granuloma"] < 0.65
    assert "Support Devices" not in found.positive
    assert "granuloma" not in found.positive


def test_findings_that_are_not_assessable_are_never_positive() -> None:
    not_assessable = replace(MEASURED, aucs={**MEASURED.aucs, "Edema": Auc(50, 0.55, 0.4, 0.7)})
    found = FindingPredictor(HEAD_OF_TWO, not_assessable).predict(np.array([0, 2], np.float32))
    assert found.probabilities["Edema"] > 0.9
    assert "Edema" not in found.positive
    assert found.not_assessable == {"Edema"}


def test_must_not_miss_findings_are_deniable_only_if_improbable() -> None:
    improbable = PREDICTOR.predict(np.array([2, 2], np.float32))
    assert improbable.undeniable == frozenset()
    assert PREDICTOR.predict(np.array([1, 0], np.float32)).undeniable == {"Fracture"}


def written(folder: Path) -> Path:
    write_finding_head(folder / HEAD_FILE, HEAD_OF_TWO)
    write_calibration(folder / CALIBRATION_FILE, MEASURED)
    return folder


def test_head_and_calibration_survive_their_files(tmp_path: Path) -> None:
    again = load_finding_predictor(written(tmp_path), "enc@1", DraftingSettings())
    assert again is not None
    assert np.array_equal(again.head.weight, HEAD_OF_TWO.weight)
    assert again.head.names == NAMES
    assert again.calibration == MEASURED


def test_the_calibration_of_the_settings_replaces_the_folders(tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    write_calibration(own, replace(MEASURED, slope=2.0))
    settings = DraftingSettings(calibration=own)
    found = load_finding_predictor(written(tmp_path), "enc@1", settings)
    assert found is not None
    assert found.calibration.slope == 2.0


def test_no_head_is_none_and_one_of_another_encoder_is_refused(tmp_path: Path) -> None:
    assert load_finding_predictor(tmp_path, "enc@1", DraftingSettings()) is None
    with pytest.raises(EncoderUnavailableError, match=r"enc@1.*enc@2"):
        load_finding_predictor(written(tmp_path), "enc@2", DraftingSettings())
    write_calibration(tmp_path / CALIBRATION_FILE, replace(MEASURED, encoder_id="enc@0"))
    with pytest.raises(EncoderUnavailableError, match=r"enc@0.*enc@1.*calibrate"):
        load_finding_predictor(tmp_path, "enc@1", DraftingSettings())


@pytest.mark.parametrize("content", [b"", b"not a tensor file", b"\x08" + b"\0" * 7 + b'{"a": 1}'])
def test_a_damaged_head_is_named_in_the_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / HEAD_FILE
    path.write_bytes(content)
    with pytest.raises(EncoderUnavailableError, match=HEAD_FILE):
        read_finding_head(path)


def test_a_head_with_rows_for_other_names_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as unchecked:
        unchecked.setattr(FindingHead, "__post_init__", lambda _: None)
        write_finding_head(tmp_path / HEAD_FILE, replace(HEAD_OF_TWO, names=("a", "b", "c")))
    with pytest.raises(EncoderUnavailableError, match="3 names for 6 rows"):
        read_finding_head(tmp_path / HEAD_FILE)


@pytest.mark.parametrize("content", ["", "{}", '{"format": 0}', json.dumps({"format": 1})])
def test_a_damaged_calibration_is_named_in_the_error(tmp_path: Path, content: str) -> None:
    (written(tmp_path) / CALIBRATION_FILE).write_text(content)
    with pytest.raises(CalibrationError, match=CALIBRATION_FILE):
        load_finding_predictor(tmp_path, "enc@1", DraftingSettings())


def test_findings_with_enough_reports_are_learnt() -> None:
    texts = ["The heart is enlarged."] * 30 + ["The lungs are clear."] * 40 + ["Pneumothorax."] * 3
    names, present = learnable_findings(texts)
    assert set(names) == {"Cardiomegaly", "No Finding", "heart_size"}
    assert present[:, names.index("Cardiomegaly")].sum() == 30
    rng = np.random.default_rng(0)
    vectors = rng.normal(0, 0.1, (73, 4)).astype(np.float32)
    vectors[:30, 0] += 1
    head = fit_head(vectors, present, names=names, encoder_id="enc@1")
    log_odds = head.log_odds(vectors)[:, names.index("Cardiomegaly")]
    assert log_odds[:30].min() > log_odds[30:].max()
    assert stated_findings(["Cardiomegaly."], names)[0].tolist() == [
        name in ("Cardiomegaly", "heart_size") for name in names
    ]


def test_the_auc_table_marks_findings_that_are_not_assessable() -> None:
    text = auc_table(replace(MEASURED, aucs={"Edema": Auc(2), "Fracture": GOOD}))
    assert "| Edema | 2 | - | not assessable |" in text
    assert "| Fracture | 50 | 0.900 [0.800, 0.950] |  |" in text
