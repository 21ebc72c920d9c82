"""The label head: what it decides, how it lies on disk, and what training and calibration do."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rag.errors import FindingHeadError
from rag.report_nlp.assertion import Polarity
from rag.report_nlp.labeller import LABELS
from rag.screening.finding_head import (
    FINDING_HEAD,
    FindingHead,
    load_finding_head,
    read_finding_head,
    write_finding_head,
)
from rag.screening.finding_head_training import calibrate, fit, table

HEAD = FindingHead(
    encoder_id="enc@1",
    labels=("No Finding", "Cardiomegaly", "Edema", "Fracture"),
    weight=np.array([[9, 0], [2, 0], [0, 2], [-2, -2]], np.float32),
    bias=np.zeros(4, np.float32),
    threshold=0.4,
)


def test_probabilities_are_the_logistic_of_a_linear_map() -> None:
    found = HEAD.probabilities(np.array([[0, 1], [1, 0]], np.float32))
    assert found.shape == (2, 4)
    assert found[0] == pytest.approx([0.5, 0.5, 0.8808, 0.1192], abs=1e-4)


def test_present_are_findings_above_the_threshold_most_probable_first() -> None:
    predicted = HEAD.predict(np.array([0.5, 1], np.float32))
    assert predicted.positive == ("Edema", "Cardiomegaly"), "never 'No Finding'"
    assert set(predicted.probabilities) == set(HEAD.labels)
    assert replace(HEAD, max_positive=1).predict(np.array([0.5, 1], np.float32)).positive == (
        "Edema",
    )


def test_an_expectation_contradicts_denials_and_unexpected_claims() -> None:
    predicted = HEAD.predict(np.array([0, 1], np.float32))  # edema, and the heart at one half
    assert predicted.positive == ("Edema", "Cardiomegaly")
    assert predicted.conflicts_with({"Edema": Polarity.NEGATIVE})
    assert predicted.conflicts_with({"Fracture": Polarity.UNCERTAIN})
    assert not predicted.conflicts_with({"Edema": Polarity.POSITIVE, "Fracture": Polarity.NEGATIVE})
    assert not predicted.conflicts_with({"Pneumonia": Polarity.POSITIVE}), "a label it cannot judge"


def test_written_and_read_again(tmp_path: Path) -> None:
    write_finding_head(tmp_path / FINDING_HEAD, HEAD)
    again = load_finding_head(tmp_path, "enc@1")
    assert again is not None
    assert np.array_equal(again.weight, HEAD.weight)
    assert (again.labels, again.threshold, again.max_positive) == (HEAD.labels, 0.4, 4)


def test_none_for_an_encoder_without_one_and_refused_for_other_weights(tmp_path: Path) -> None:
    assert load_finding_head(tmp_path, "enc@1") is None
    write_finding_head(tmp_path / FINDING_HEAD, HEAD)
    with pytest.raises(FindingHeadError, match=r"enc@1.*enc@2"):
        load_finding_head(tmp_path, "enc@2")


@pytest.mark.parametrize("content", [b"", b"not a tensor file", b"\x08" + b"\0" * 7 + b'{"a": 1}'])
def test_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "enc.safetensors"
    path.write_bytes(content)
    with pytest.raises(FindingHeadError, match=r"enc\.safetensors"):
        read_finding_head(path)


def test_training_finds_what_is_there_and_calibration_mends_overconfidence() -> None:
    rng = np.random.default_rng(0)
    present = rng.random((600, len(LABELS))) < 0.2
    present[:, 12] = False
    vectors = present[:, :8] + rng.normal(scale=0.5, size=(600, 8))
    vectors = np.concatenate([vectors, rng.normal(size=(600, 4))], axis=1)
    head = fit(vectors[:300], present[:300], encoder_id="enc@1")
    assert "Fracture" not in head.labels, "too few to learn from"
    overconfident = replace(head, weight=head.weight * 4, bias=head.bias * 4)
    calibrated = calibrate(overconfident, vectors[300:], present[300:])
    truth = present[300:, [LABELS.index(name) for name in head.labels]]

    def brier(of: FindingHead) -> float:
        return float(((of.probabilities(vectors[300:].astype(np.float32)) - truth) ** 2).mean())

    assert brier(calibrated) < brier(overconfident)
    assert 0.05 <= calibrated.threshold < 0.5
    assert "n = 300" in table(calibrated, vectors[300:], present[300:])
