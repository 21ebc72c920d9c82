"""Splits do not leak; data sources in the configuration."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.made_up_training import CLEAR, jsonl, one_study, png, train_command

from encoders.training.config import read_settings
from encoders.training.dataset import Split, TrainingDataError, build_dataset
from encoders.training.sources.load import default_source
from encoders.training.sources.settings import Mimic

# --- split


def test_patients_in_two_splits_are_counted_in_the_error() -> None:
    studies = [
        one_study("a", number=1),
        one_study("b", number=2),
        one_study("c", number=2, split=Split.TEST),
        one_study("d", number=1, split=Split.TEST),
        one_study("e", number=1, split=Split.TEST),
    ]
    message = "2 patients are in train and test, p1 first, with 5 studies; split by patient"
    with pytest.raises(TrainingDataError, match=message):
        build_dataset(studies)


@given(
    rows=st.lists(st.tuples(st.integers(0, 9), st.sampled_from("abc"), st.sampled_from(Split))),
)
def test_no_patient_and_by_default_no_text_is_in_two_splits(
    rows: list[tuple[int, str, Split]],
) -> None:
    studies = [
        one_study(f"{number}.png", number=patient, text=text, split=split)
        for number, (patient, text, split) in enumerate(rows)
    ]
    of = {split: {s.patient_id for s in studies if s.split is split} for split in Split}
    if any(of[one] & of[other] for one in Split for other in Split if one < other):
        with pytest.raises(TrainingDataError, match="split by patient"):
            build_dataset(studies)
        return
    dropped, kept = build_dataset(studies), build_dataset(studies, same_texts="keep")
    elsewhere = {s.text for s in studies if s.split is not Split.TRAIN}
    assert not {s.text for s in dropped.train} & elsewhere
    twins = sum(count for why, count in dropped.left_out.items() if "identical" in why)
    assert twins == len(kept.train) - len(dropped.train)
    assert dropped.val == kept.val
    assert sum(dropped.left_out.values()) + len(dropped.train) + len(dropped.val) == len(studies)


# --- settings and a run


def test_any_source_can_be_configured(tmp_path: Path) -> None:
    config = tmp_path / "x.toml"
    config.write_text(
        '[data]\nkind = "mimic"\npath = "a"\nreports = "b"\nsame_texts = "keep"\n'
        '[[data.experts]]\nkind = "table"\npath = "c"\nsigma = 0.1\n'
        '[[data.experts]]\nkind = "nih_expert"\npath = "d"\n'
    )
    data = read_settings(config).data
    assert isinstance(data, Mimic)
    assert [expert.kind for expert in data.experts] == ["table", "nih_expert"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('kind = "mimc"\npath = "a"', "'openi', 'mimic', 'table'"),
        ('kind = "mimic"\npath = "a"', "reports"),
        ('kind = "table"\npath = "a"\nreports = "b"', "reports"),
        ('kind = "table"\npath = "a"\nval_share = 1.5', "val_share"),
    ],
)
def test_an_invalid_data_section_is_named(tmp_path: Path, data: str, message: str) -> None:
    (tmp_path / "x.toml").write_text("[data]\n" + data)
    with pytest.raises(TrainingDataError, match=message):
        read_settings(tmp_path / "x.toml")


RUN = """
name = "own"
size = 32
cache_side = 32
min_label_count = 1
[model]
dim = 16
text_tower = { kind = "sentence_set", hidden = 32 }
image_tower = { kind = "small_cnn", channels = 8 }
[optim]
epochs = 1
batch_size = 4
[expert]
[expert.curriculum]
cold = 0.0
warm = 0.0
cool = 0.0
last = 1.0
[data]
kind = "table"
path = "PATH"
"""


TEXTS_ALONE = """
[targets]
label_share = 0
[optim]
agreement_weight = 0
label_weight = 0
"""


@pytest.mark.slow
def test_a_table_with_marks_and_without_labels_trains_with_the_command(tmp_path: Path) -> None:
    lines = [
        {
            "image": f"{number}.png",
            "study_id": number,
            "patient_id": number,
            "split": "train",
            "findings": f"{CLEAR} Image {number}.",
        }
        for number in range(8)
    ]
    for number in range(8):
        (tmp_path / f"{number}.png").write_bytes(png(number * 10))
    box = {"kind": "box", "x": 0.1, "y": 0.2, "width": 0.3, "height": 0.4}
    marks = jsonl(tmp_path / "marks.jsonl", [{"image": line["image"]} | box for line in lines])
    table = jsonl(tmp_path / "own.jsonl", lines)
    config = tmp_path / "own.toml"
    config.write_text(
        RUN.replace("PATH", str(table)).replace("[optim]", TEXTS_ALONE)
        + f'[[data.experts]]\nkind = "table"\npath = "{marks}"\n'
    )
    arguments = ["--config", str(config), "--out", str(tmp_path / "run")]
    assert train_command(arguments)[0] == 0
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (run["studies"], run["expert_images"]) == (8, 8)
    values = (tmp_path / "run" / "metrics.csv").read_text()
    assert "nan" not in values


def test_data_is_in_the_folder_of_the_environment_or_in_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CXR_DATA", "/archive")
    assert default_source().path == Path("/archive/openi")
    monkeypatch.delenv("CXR_DATA")
    assert default_source().path == Path("data/openi")
