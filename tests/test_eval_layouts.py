"""Data sets' own tables are read into images, classes and patients."""

import json
from pathlib import Path

import pytest
from support.made_up_studies import write_jsonl

from eval.datasets import (
    DatasetLayout,
    classes_of,
    map_labels,
    prompts,
    read_layout,
)
from eval.errors import EvalDataError, EvalUsageError


def test_open_i(tmp_path: Path, shared_data: Path) -> None:
    data = read_layout(DatasetLayout.OPEN_I, shared_data / "openi" / "studies.jsonl", split="val")
    assert len(data.images) == 294  # two of 296 studies have lateral images only
    assert not data.single
    assert sum("No Finding" in image.labels for image in data.images) == 98
    assert all(image.text and "None" not in image.text for image in data.images)


def test_chexpert_5x200(tmp_path: Path) -> None:
    path = tmp_path / "chexpert_5x200.csv"
    path.write_text(
        "Path,Sex,Atelectasis,Cardiomegaly,Consolidation,Edema,Pleural Effusion\n"
        "CheXpert-v1.0/train/patient00007/study1/view1_frontal.jpg,M,0,1,0,0,0\n"
        "CheXpert-v1.0/train/patient00009/study2/view1_frontal.jpg,F,0.0,0.0,0.0,0.0,1.0\n"
    )
    data = read_layout(DatasetLayout.CHEXPERT_5X200, path)
    assert data.single
    assert [(f.patient_id, *f.labels) for f in data.images] == [
        ("patient00007", "Cardiomegaly"),
        ("patient00009", "Pleural Effusion"),
    ]
    path.write_text(path.read_text() + "x/patient1/a.jpg,M,1,1,0,0,0\n")
    with pytest.raises(EvalDataError, match="line 4: has 2 of the five classes"):
        read_layout(DatasetLayout.CHEXPERT_5X200, path)


def test_rsna_has_one_line_per_box(tmp_path: Path) -> None:
    path = tmp_path / "stage_2_train_labels.csv"
    path.write_text(
        "patientId,x,y,width,height,Target\na,1,1,9,9,1\na,5,5,9,9,1\nb,,,,,0\n", encoding="utf-8"
    )
    data = read_layout(DatasetLayout.RSNA, path)
    assert [(f.image, sorted(f.labels)) for f in data.images] == [
        ("a.dcm", ["Pneumonia"]),
        ("b.dcm", []),
    ]
    path.write_text("patientId,Target\na,yes\n")
    with pytest.raises(EvalDataError, match="target Input should be '0' or '1'"):
        read_layout(DatasetLayout.RSNA, path)


def test_flags_may_be_json_numbers(tmp_path: Path) -> None:
    rows = [{"path": "patient1/a.jpg", "edema": 1, "age": 60}, {"path": "b.jpg", "edema": 1.0}]
    data = read_layout(DatasetLayout.CHEXPERT_5X200, write_jsonl(tmp_path / "c.jsonl", rows))
    assert [image.labels for image in data.images] == [{"Edema"}, {"Edema"}]
    rows = [{"patientid": "a", "target": 1}, {"patientid": "b", "target": 0.0}]
    data = read_layout(DatasetLayout.RSNA, write_jsonl(tmp_path / "r.jsonl", rows))
    assert [len(image.labels) for image in data.images] == [1, 0]


def test_nih_14x100_draws_images_with_one_finding(tmp_path: Path) -> None:
    names = ["Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule"]
    names += ["Pneumonia", "Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis"]
    names += ["Pleural_Thickening", "Hernia"]
    lines = ["Image Index,Finding Labels,Patient ID"]
    for i, name in enumerate(names):
        lines += [f"{i:03d}_{n}.png,{name},{i}" for n in range(4)]
    lines += ["900_0.png,No Finding,900", "901_0.png,Mass|Nodule,901"]
    path = tmp_path / "Data_Entry_2017.csv"
    path.write_text("\n".join(lines))
    data = read_layout(DatasetLayout.NIH_14X100, path, per_class=3, seed=1)
    assert (len(data.images), data.single, len(data.classes)) == (42, True, 14)
    assert not {"900_0.png", "901_0.png"} & {image.image_id for image in data.images}
    assert data.images == read_layout(DatasetLayout.NIH_14X100, path, per_class=3, seed=1).images
    assert data.images != read_layout(DatasetLayout.NIH_14X100, path, per_class=3, seed=2).images
    with pytest.raises(EvalDataError, match="fewer than 5 images"):
        read_layout(DatasetLayout.NIH_14X100, path, per_class=5)


def test_a_users_own_table(tmp_path: Path) -> None:
    rows = [
        {"id": "1", "image": "a.png", "labels": ["Flu"], "patient_id": "p", "text": "Flu."},
        {"id": "2", "image": "b.png", "labels": "Flu|Cold", "split": "test"},
        {"id": "3", "image": "c.png"},
    ]
    path = write_jsonl(tmp_path / "t.jsonl", rows)
    data = read_layout(DatasetLayout.TABLE, path)
    assert data.classes == ("Cold", "Flu")
    assert [sorted(image.labels) for image in data.images] == [["Flu"], ["Cold", "Flu"], []]
    assert len(read_layout(DatasetLayout.TABLE, path, split="test").images) == 1
    with pytest.raises(EvalUsageError, match="no image in split 'x'"):
        read_layout(DatasetLayout.TABLE, path, split="x")
    write_jsonl(path, [rows[0], rows[0]])
    with pytest.raises(EvalDataError, match="line 2: the id 1 was on line 1 already"):
        read_layout(DatasetLayout.TABLE, path)
    path.write_text(json.dumps(rows[0] | {"labels": 3}))
    with pytest.raises(EvalDataError, match="labels Input should be a valid frozenset"):
        read_layout(DatasetLayout.TABLE, path)


@pytest.mark.parametrize(
    ("layout", "row", "reason"),
    [
        ("open-i", {"id": "a", "frontal": ["a.png"], "labels": {"problems": None}}, "problems"),
        (
            "open-i",
            {"id": "a", "frontal": [3], "labels": {}},
            "frontal.0 Input should be a valid string",
        ),
        ("open-i", {"id": "a", "frontal": ["a.png"], "labels": {"problems": [1]}}, "problems"),
        ("chexpert-5x200", {"path": "p/a.jpg", "edema": ["1"]}, "has 0 of the five classes"),
        ("rsna", {"patientid": "a", "target": 0.5}, r"target Input .* \(value: 0.5\)"),
    ],
)
def test_a_field_of_the_wrong_type_is_named_by_its_line(
    tmp_path: Path, layout: str, row: dict[str, object], reason: str
) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", [row])
    with pytest.raises(EvalDataError, match=f"line 1: .*{reason}"):
        read_layout(DatasetLayout(layout), path)


@pytest.mark.parametrize("layout", [each for each in DatasetLayout if each != "table"])
def test_every_class_has_positive_and_negative_prompts(layout: DatasetLayout) -> None:
    found = prompts(classes_of(layout))
    for label in classes_of(layout):
        assert {p.present for p in found if p.label == label} == {True, False}
    assert len({p.text for p in found}) == len(found)


def test_label_names_are_case_insensitive() -> None:
    assert map_labels(DatasetLayout.NIH_14X100, ["Effusion", " MASS "]) == {
        "Pleural Effusion",
        "Mass",
    }
    assert map_labels(DatasetLayout.OPEN_I, ["no indexing"]) == frozenset()
    with pytest.raises(EvalUsageError, match="no fixed classes"):
        classes_of(DatasetLayout.TABLE)
