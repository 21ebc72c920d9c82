"""Pairs of synthetic readings, and the model fitted on them."""

import json
from pathlib import Path

import numpy as np
import pytest

from encoders.training.sources.settings import NIH_VAL_SHARE
from eval.stats import weighted_auroc
from experiments.change import accuracy_lines, fit_limit, fit_model
from experiments.change_pairs import ImagePairs, expert_images, pair_images, text_mined_images
from rag.change import CHANGE_FILE, PriorState, read_change_model

PATIENTS = [f"{n:08d}" for n in range(400)]


def synthetic_pairs(patients: int = 150) -> ImagePairs:
    """Effusions that the log-odds predict, and emphysema that they do not."""
    rng = np.random.default_rng(0)
    names = np.tile(["Pleural Effusion", "emphysema"], patients)
    before, now = rng.random(len(names)) < 0.5, rng.random(len(names)) < 0.5
    informative = np.where(names == "Pleural Effusion", np.where(now, 3.0, -3.0), 0.0)
    odds = informative + rng.normal(size=(len(names), 2))[:, 0]
    people = np.repeat([f"p{n}" for n in range(patients)], 2)
    return ImagePairs(people, names, before, now, odds)


def test_pairs_are_of_held_back_patients_in_time_order_by_source(tmp_path: Path) -> None:
    mined, read = [], []
    for patient in PATIENTS:
        for number in (1, 0):
            image = {"id": f"{patient}_{number}", "patient_id": patient, "image": "i.jpg"}
            labels = ["Effusion"] if number else ["No Finding"]
            mined.append({**image, "labels": labels, "follow_up": number})
            source = {"source": "rsna-2018", "classes": ["Lung Opacity"]}
            read.append({**image, "readings": [source] if number else []})
    for folder, name, rows in (
        ("nih_128", "labels.jsonl", mined),
        ("nih_expert", "readings.jsonl", read),
    ):
        (tmp_path / folder).mkdir()
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / folder / name).write_text(lines, encoding="utf-8")
    images = text_mined_images(tmp_path)
    assert len(images) == pytest.approx(NIH_VAL_SHARE * len(PATIENTS), rel=0.4)
    assert expert_images(tmp_path) == []  # one image of each: no pair
    odds = {image.image_id: np.arange(2.0) for patient in images for image in patient}
    names = ("Pleural Effusion", "Edema")
    pairs = pair_images(images, odds, names, not_assessable=frozenset({"Edema"}))
    assert set(pairs.findings) == {"Pleural Effusion"}
    assert not pairs.before.any()
    assert pairs.now.all()


def test_the_fitted_model_is_read_and_follows_the_image(tmp_path: Path) -> None:
    fitted = fit_model(synthetic_pairs(), "fake@1")
    (tmp_path / CHANGE_FILE).write_text(json.dumps(fitted))
    model = read_change_model(tmp_path, "fake@1")
    assert model is not None
    assert set(model.limits) == {"new", "persists", "resolved"}
    for prior, p, verdict in (("present", 0.95, "persists"), ("present", 0.05, "resolved")):
        assert model.verdict("Pleural Effusion", PriorState(prior), p)[0] == verdict
    _, certain = model.verdict("Pleural Effusion", PriorState.ABSENT, 0.95)
    _, uncertain = model.verdict("emphysema", PriorState.ABSENT, 0.5)
    assert certain > 0.8 > uncertain
    assert [line for line in accuracy_lines(synthetic_pairs(), model.limits) if "new" in line]


def test_rare_or_inaccurate_verdicts_get_no_limit() -> None:
    assert fit_limit(np.full(9, 0.9), np.ones(9, bool)) is None
    assert fit_limit(np.full(40, 0.9), np.arange(40) % 2 == 0) is None
    assert fit_limit(np.full(40, 0.9), np.arange(40) % 10 > 0) == 0.5


def test_auroc_counts_ties_as_half() -> None:
    half = np.array([False, False, True, True])
    assert weighted_auroc(np.array([1.0, 2, 2, 3]), half, np.ones((1, 4))) == 0.875
    assert np.isnan(weighted_auroc(np.ones(3), np.ones(3, bool), np.ones((1, 3))))
