"""Your own tables of studies and of marks, valid and invalid."""

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.made_up_training import CLEAR, LARGE, jsonl, one_study, write_csv

from encoders.annotations import Boxes, Fixations
from encoders.training.dataset import (
    ImageAnnotation,
    Split,
    TrainingDataError,
    TrainingStudy,
    build_dataset,
)
from encoders.training.sources.load import attach_annotations, load_dataset
from encoders.training.sources.settings import AnnotationTable, StudyTable
from encoders.training.sources.tables import (
    patient_split,
    read_annotation_table,
    read_study_table,
)

# --- studies

TABLE = """
image,study_id,patient_id,view,split,findings,impression,labels
a.png,1,p1,frontal,train,The lungs are clear.,,normal; clear
b.png,1,p1,lateral,train,,,
c.png,2,p2,,val,,The heart is enlarged.,Cardiomegaly
"""
LINES = [
    {"image": "a.png", "study_id": 1, "patient_id": "p1", "split": "train", "labels": ["normal"]},
    {"image": "c.png", "study_id": 2, "patient_id": "p2", "split": "val", "text": LARGE},
]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_study_table_is_read(tmp_path: Path, separator: str) -> None:
    text = TABLE.replace("; clear", "").replace(",", separator)
    one, two = read_study_table(StudyTable(path=write_csv(tmp_path / "own.csv", text)))
    assert one == TrainingStudy(
        "1",
        "p1",
        (tmp_path / "a.png",),
        (tmp_path / "b.png",),
        CLEAR,
        frozenset({"normal"}),
        Split.TRAIN,
    )
    assert (two.text, two.split) == (LARGE, Split.VAL)


def test_jsonl_tables_of_whole_reports_and_of_marks(tmp_path: Path) -> None:
    report = f"INDICATION: cough.\nFINDINGS: {CLEAR}\nIMPRESSION: Normal."
    studies = jsonl(tmp_path / "own.jsonl", [LINES[0] | {"text": report}, LINES[1]])
    box = {"kind": "box", "x": 0.1, "y": 0.2, "width": 0.3, "height": 0.4}
    gaze = {"kind": "fixation", "x": 0.5, "y": 0.5, "seconds": 0.3}
    marks = jsonl(tmp_path / "m.jsonl", [{"image": "a.png"} | mark for mark in (gaze, box)])
    experts = (AnnotationTable(path=marks),)
    dataset = load_dataset(StudyTable(path=studies, experts=experts))
    assert dataset.train[0].text == f"{CLEAR}\nNormal."
    assert [image.annotation for image in dataset.experts] == [
        Fixations(((0.5, 0.5, 0.3),)),
        Boxes(((0.1, 0.2, 0.3, 0.4),)),
    ]


@given(share=st.floats(0.05, 0.95), patients=st.lists(st.text(min_size=1), max_size=40))
def test_a_patients_split_does_not_depend_on_other_patients(
    share: float, patients: list[str]
) -> None:
    together = {name: patient_split(name, val_share=share) for name in patients}
    assert all(patient_split(name, val_share=share) is split for name, split in together.items())
    larger = {name for name in patients if patient_split(name, val_share=0.96) is Split.VAL}
    assert {name for name, split in together.items() if split is Split.VAL} <= larger


def test_the_share_of_validation_patients_is_as_requested() -> None:
    drawn = [patient_split(f"patient {number}", val_share=0.1) for number in range(3000)]
    assert drawn.count(Split.VAL) / 3000 == pytest.approx(0.1, abs=0.02)  # 3.6 standard errors


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("d.png,4,,,,x,,", r"own.csv line 5: patient_id is empty; .*repeat its study_id"),
        (",4,p4,,,x,,", r"line 5: image is empty"),
        ("d.png,,p4,,,x,,", r"line 5: study_id is empty"),
        ("a.png,4,p4,,,x,,", r"line 5: image a.png is already in .*own.csv line 2"),
        ("d.png,4,p4,oblique,,x,,", r"line 5: view is 'oblique', not frontal or lateral"),
        ("d.png,4,p4,,dev,x,,", r"line 5: split is 'dev', not train, val or test"),
        (
            "d.png,1,p9,,train,,,",
            r"line 5: another patient_id than .* line 2, which is of the same",
        ),
        ("d.png,1,p1,,val,,,", r"line 5: another split than"),
        ("d.png,1,p1,,train,Other.,,", r"line 5: another report than"),
        ("d.png,4", r"line 5: has 2 fields where the header has 8"),
        ('"d.png,4', r"line 5: not readable as CSV: .*; correct the row"),
    ],
)
def test_an_invalid_study_row_is_named(tmp_path: Path, row: str, message: str) -> None:
    path = write_csv(tmp_path / "own.csv", TABLE.strip() + "\n" + row)
    with pytest.raises(TrainingDataError, match=message):
        read_study_table(StudyTable(path=path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("own.csv", b"image,study_id\na,b\n", r"has no column patient_id; its columns are: image"),
        ("own.csv", b"", r"own.csv has no column image; its columns are: none"),
        ("own.csv", b"image,study_id,patient_id,text\na,b,c,\xff\n", "not valid UTF-8"),
        ("own.xlsx", b"PK", "give a .csv or .jsonl file"),
        ("own.jsonl", b"[1]\n", r"line 1: is a list, not a JSON object"),
        ("own.jsonl", b"{\n", r"line 1: not JSON"),
        ("own.jsonl", b'{"image": "a"}\n', r"line 1: has no study_id, patient_id"),
        ("own.csv.gz", b"image", "cannot read"),
    ],
)
def test_an_invalid_table_is_explained(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TrainingDataError, match=message):
        read_study_table(StudyTable(path=tmp_path / name))


CELL = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.text(max_size=8),
    st.just("\ud800"),
    st.lists(st.one_of(st.floats(), st.text(max_size=3), st.lists(st.floats(), max_size=5))),
)


@settings(max_examples=150)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {"image": CELL, "study_id": CELL, "patient_id": CELL},
            optional=dict.fromkeys(("view", "split", "text", "labels"), CELL),
        ),
        max_size=4,
    )
)
def test_any_row_is_read_or_named(rows: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = jsonl(Path(folder) / "own.jsonl", rows)
        try:
            studies = read_study_table(StudyTable(path=path))
        except TrainingDataError as error:
            assert "own.jsonl line" in str(error)
        else:
            assert len(studies) <= len(rows)


@settings(max_examples=150)
@given(content=st.binary(max_size=200), suffix=st.sampled_from([".csv", ".jsonl", ".csv.gz"]))
def test_any_file_is_read_or_refused(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"own{suffix}"
        header = b"" if suffix == ".csv.gz" else b"image,study_id,patient_id\n"
        path.write_bytes(header + content)
        with contextlib.suppress(TrainingDataError):
            read_study_table(StudyTable(path=path))


# --- marks


def test_marks_in_a_csv_are_grouped_by_image(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "marks.csv",
        """
image,kind,x,y,width,height,seconds
a.png,box,0.1,0.2,0.3,0.4,
b.png,fixation,0.5,0.5,,,0.2
a.png,Box,0.5,0.5,0.1,0.1,
b.png,fixation,0.6,0.5,,,0.4
""",
    )
    first, second = read_annotation_table(AnnotationTable(path=path, sigma=0.1))
    assert first.image == str(tmp_path / "a.png")
    assert first.annotation == Boxes(((0.1, 0.2, 0.3, 0.4), (0.5, 0.5, 0.1, 0.1)))
    assert second.annotation == Fixations(((0.5, 0.5, 0.2), (0.6, 0.5, 0.4)), sigma=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "arrow"}, r"line 1: kind is 'arrow', not box or fixation"),
        ({"width": 100, "height": 100}, r"line 1: .*lies beyond the image; places are fractions"),
        ({"width": 0, "height": 0.1}, r"needs a width and height above 0"),
        ({"width": "w", "height": 0.1}, r"width is 'w', not a finite number"),
        ({"width": True, "height": 0.1}, r"width is 'True', not a finite number"),
        ({"height": 0.1}, r"width is '', not a finite number"),
        ({"kind": "fixation", "seconds": 0}, r"needs seconds above 0"),
        ({"kind": "fixation", "x": 700, "seconds": 0.2}, r"lies far beyond the image; places are"),
        ({"kind": "fixation"}, r"seconds is '', not a finite number"),
    ],
)
def test_an_invalid_mark_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    line = {"image": "a.png", "kind": "box", "x": 0.1, "y": 0.1}
    path = jsonl(tmp_path / "marks.jsonl", [line | changes])
    with pytest.raises(TrainingDataError, match=message):
        read_annotation_table(AnnotationTable(path=path))


def test_an_annotation_matches_its_image_by_path_or_unique_name() -> None:
    dataset = build_dataset([one_study("x/1.2.840.dcm"), one_study("y/b.png", "z/b.png", number=2)])
    box = Boxes(((0.1, 0.1, 0.1, 0.1),))
    names = ("1.2.840.dcm", "1.2.840", "elsewhere/1.2.840.dcm", "z/b.png")
    joined = attach_annotations(dataset, [ImageAnnotation(name, box, "line 1") for name in names])
    assert [str(image.path) for image in joined.experts] == ["x/1.2.840.dcm"] * 3 + ["z/b.png"]
    assert [s.study_id for s in joined.first(1).train] == ["s1", "s2"]  # both have expert images
    assert [s.study_id for s in dataset.first(1).train] == ["s1"]
    with pytest.raises(
        TrainingDataError, match=r"line 7: 2 images are called b.png; give the image's path"
    ):
        attach_annotations(dataset, [ImageAnnotation("b.png", box, "line 7")])
    with pytest.raises(TrainingDataError, match=r"none of 2 annotations .* 2 training studies"):
        attach_annotations(
            dataset, [ImageAnnotation("c", box, "line 1"), ImageAnnotation("d", box, "line 2")]
        )
