"""Studies of every layout are the same studies; a split never leaks; rubbish is named."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_gaze import write_egd, write_mimic
from PIL import Image

from encoders.training.__main__ import main
from encoders.training.config import TrainSettings, read_settings
from encoders.training.data import Split, Study, TrainingDataError, clean
from encoders.training.heatmaps import Boxes, Ellipses, Fixations, Mask, render
from encoders.training.sources.load import load_collection
from encoders.training.sources.marks import Reading, attach, read_own_marks
from encoders.training.sources.mimic import read_mimic
from encoders.training.sources.own import read_table, split_of
from encoders.training.sources.settings import (
    Egd,
    Mimic,
    OwnMarks,
    Table,
    WebDataset,
)

CLEAR, LARGE = "The lungs are clear.", "The heart is enlarged."


def png(value: int = 90, side: int = 48) -> bytes:
    pixels = np.tile(np.linspace(0, 120, side), (side, 1)) + value
    stream = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def write_shard(path: Path, members: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def write_csv(path: Path, text: str) -> Path:
    path.write_text(text.strip() + "\n", encoding="utf-8")
    return path


# --- MIMIC-CXR

FILMS = [
    ("lat", 50000001, 10000032, "LATERAL", "train"),
    ("ap", 50000001, 10000032, "AP", "train"),
    ("pa", 50000001, 10000032, "PA", "train"),
    ("odd", 50000001, 10000032, "", "train"),
    ("v", 50000002, 11000002, "PA", "validate"),
    ("t", 50000003, 12000003, "PA", "test"),
]
REPORTS = {
    50000001: "                 FINAL REPORT\n EXAMINATION:  CHEST\n\n FINDINGS: \n \n "
    "The lungs\n are clear.\n \n IMPRESSION: \n \n No change.\n",
    50000002: "FINAL REPORT\n INDICATION:  ___ with cough.\n\n IMPRESSION:  Large heart.\n",
    50000003: "FINAL REPORT\n IMPRESSION:  Held back.\n",
}


def test_mimic_is_read_as_published(tmp_path: Path) -> None:
    labels = {50000001: {"No Finding": "1.0"}, 50000002: {"Cardiomegaly": "1.0", "Edema": "-1.0"}}
    write_mimic(tmp_path, FILMS, reports=REPORTS, labels=labels)
    source = Mimic(path=tmp_path / "jpg", reports=tmp_path / "reports")
    train, val, test = read_mimic(source)
    assert (train.study_id, train.patient_id, train.split) == (
        "s50000001",
        "p10000032",
        Split.TRAIN,
    )
    assert [film.stem for film in train.frontals] == ["pa", "ap"]
    assert [film.stem for film in train.laterals] == ["lat"]
    assert train.text == "The lungs\n are clear.\nNo change."
    assert (val.text, val.split, val.labels) == ("Large heart.", Split.VAL, {"cardiomegaly"})
    assert (train.labels, test.split) == ({"normal"}, Split.TEST)
    collection = load_collection(source, cache=tmp_path)
    assert [len(collection.train), len(collection.val)] == [1, 1]
    assert collection.left_out["held back for test"] == 1


def test_films_that_are_not_on_the_disk_are_left_out(tmp_path: Path) -> None:
    write_mimic(tmp_path, FILMS, reports=REPORTS)
    for path in (tmp_path / "jpg").rglob("*.jpg"):
        if path.stem != "v":
            path.unlink()
    source = Mimic(path=tmp_path / "jpg", reports=tmp_path / "reports")
    assert load_collection(source, cache=tmp_path).left_out["no film"] == 1
    (tmp_path / "jpg/files/p11/p11000002/s50000002/v.jpg").unlink()
    with pytest.raises(TrainingDataError, match=r"no \.jpg film in .* files/p10/p10000032"):
        read_mimic(source)


@pytest.mark.parametrize(
    ("film", "message"),
    [
        (
            ("x", 50000009, 13000000, "PA", "dev"),
            r"split.csv.gz line 8: split is 'dev', not one of",
        ),
        (("x", 50000001, 13000000, "PA", "train"), r"line 8: study 50000001 has another subject"),
        (("", 50000009, 13000000, "PA", "train"), r"line 8: dicom_id is empty"),
    ],
)
def test_a_rubbish_row_of_mimic_is_named(
    tmp_path: Path, film: tuple[str, int, int, str, str], message: str
) -> None:
    write_mimic(tmp_path, [*FILMS, film], reports=REPORTS)
    with pytest.raises(TrainingDataError, match=message):
        read_mimic(Mimic(path=tmp_path / "jpg", reports=tmp_path / "reports"))


def test_a_table_that_was_cut_on_its_way_is_named(tmp_path: Path) -> None:
    write_mimic(tmp_path, FILMS, reports=REPORTS)
    table = tmp_path / "jpg" / "mimic-cxr-2.0.0-split.csv.gz"
    table.write_bytes(table.read_bytes()[:-20])
    with pytest.raises(TrainingDataError, match=r"split.csv.gz ends in the middle; fetch it again"):
        read_mimic(Mimic(path=tmp_path / "jpg", reports=tmp_path / "reports"))


def test_gaze_joins_the_training_films_of_mimic_alone(tmp_path: Path) -> None:
    write_mimic(tmp_path, FILMS, reports=REPORTS)
    border = (0.0, 0.0, 0.0, 0.0)
    names = ("pa", "v", "t")
    write_egd(
        tmp_path / "egd",
        [(name, 0.5, 0.5, 1.0) for name in names],
        borders=dict.fromkeys(names, border),
    )
    source = Mimic(
        path=tmp_path / "jpg", reports=tmp_path / "reports", experts=(Egd(path=tmp_path / "egd"),)
    )
    collection = load_collection(source, cache=tmp_path)
    assert [(film.study_id, film.film.stem) for film in collection.experts] == [("s50000001", "pa")]
    assert collection.left_out["expert reading of no training film"] == 2
    assert load_collection(source, cache=tmp_path, experts=False).experts == ()


# --- one's own table

TABLE = """
film,study_id,patient_id,view,split,findings,impression,labels
a.png,1,p1,frontal,train,The lungs are clear.,,normal; clear
b.png,1,p1,lateral,train,,,
c.png,2,p2,,val,,The heart is enlarged.,Cardiomegaly
"""
LINES = [
    {"film": "a.png", "study_id": 1, "patient_id": "p1", "split": "train", "labels": ["normal"]},
    {"film": "c.png", "study_id": 2, "patient_id": "p2", "split": "val", "text": LARGE},
]


def jsonl(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_of_ones_own(tmp_path: Path, separator: str) -> None:
    text = TABLE.replace("; clear", "").replace(",", separator)
    (one, two), readings = read_table(Table(path=write_csv(tmp_path / "own.csv", text)))
    assert one == Study(
        "1",
        "p1",
        (tmp_path / "a.png",),
        (tmp_path / "b.png",),
        CLEAR,
        frozenset({"normal"}),
        Split.TRAIN,
    )
    assert (two.text, two.split, readings) == (LARGE, Split.VAL, [])


def test_json_lines_may_hold_whole_reports_and_marks(tmp_path: Path) -> None:
    Image.fromarray(np.eye(40, dtype=np.uint8) * 255).save(tmp_path / "mask.png")
    marks = {
        "boxes": [[0.1, 0.2, 0.3, 0.4]],
        "ellipses": [[0.1, 0.2, 0.2, 0.4]],
        "fixations": [[0.5, 0.5, 0.3]],
        "mask": "mask.png",
    }
    report = f"INDICATION: cough.\nFINDINGS: {CLEAR}\nIMPRESSION: Normal."
    lines = [LINES[0] | marks | {"text": report}, LINES[1]]
    table = Table(path=jsonl(tmp_path / "own.jsonl", lines))
    collection = load_collection(table, cache=tmp_path)
    assert collection.train[0].text == f"{CLEAR}\nNormal."
    boxes, ellipses, gaze, mask = (film.annotation for film in collection.experts)
    assert boxes == Boxes(((0.1, 0.2, 0.3, 0.4),))
    assert isinstance(ellipses, Ellipses)
    assert ellipses.ellipses[0] == pytest.approx((0.2, 0.4, 0.1, 0.2))
    assert gaze == Fixations(((0.5, 0.5, 0.3),))
    assert isinstance(mask, Mask)
    assert render(mask, height=40, width=40).argmax(1).tolist() == list(range(40))


@given(share=st.floats(0.05, 0.95), patients=st.lists(st.text(min_size=1), max_size=40))
def test_the_split_of_a_patient_is_the_patients_own(share: float, patients: list[str]) -> None:
    together = {name: split_of(name, val_share=share) for name in patients}
    assert all(split_of(name, val_share=share) is split for name, split in together.items())
    larger = {name for name in patients if split_of(name, val_share=0.96) is Split.VAL}
    assert {name for name, split in together.items() if split is Split.VAL} <= larger


def test_the_share_of_validation_patients_is_the_one_that_was_asked_for() -> None:
    drawn = [split_of(f"patient {number}", val_share=0.1) for number in range(3000)]
    assert drawn.count(Split.VAL) / 3000 == pytest.approx(0.1, abs=0.02)  # 3.6 standard errors


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("d.png,4,,,,x,,", r"own.csv line 5: patient_id is empty; .*repeat its study_id"),
        (",4,p4,,,x,,", r"line 5: film is empty"),
        ("d.png,,p4,,,x,,", r"line 5: study_id is empty"),
        ("a.png,4,p4,,,x,,", r"line 5: film a.png stands at .*own.csv line 2 already"),
        ("d.png,4,p4,oblique,,x,,", r"line 5: view is 'oblique', not frontal or lateral"),
        ("d.png,4,p4,,dev,x,,", r"line 5: split is 'dev', not train, val or test"),
        (
            "d.png,1,p9,,train,,,",
            r"line 5: another patient_id than .* line 2, which is of the same",
        ),
        ("d.png,1,p1,,val,,,", r"line 5: another split than"),
        ("d.png,1,p1,,train,Other.,,", r"line 5: another report than"),
        ("d.png,4", r"line 5: 2 cells where the header has 8"),
        ('"d.png,4', r"line 5: unexpected end of data; correct the row"),
    ],
)
def test_a_rubbish_row_of_ones_own_is_named(tmp_path: Path, row: str, message: str) -> None:
    path = write_csv(tmp_path / "own.csv", TABLE.strip() + "\n" + row)
    with pytest.raises(TrainingDataError, match=message):
        read_table(Table(path=path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("own.csv", b"film,study_id\na,b\n", r"own.csv line 1 has no column patient_id; it has"),
        ("own.csv", b"", r"line 1 has no column film, study_id, patient_id; it has none"),
        ("own.csv", b"film,study_id,patient_id,text\na,b,c,\xff\n", "not UTF-8"),
        ("own.xlsx", b"PK", "give a .csv or .jsonl file"),
        ("own.jsonl", b"[1]\n", r"line 1: list, not an object"),
        ("own.jsonl", b"{\n", r"line 1: not JSON"),
        ("own.jsonl", b'{"film": "a"}\n', r"line 1 has no column study_id, patient_id"),
        ("own.csv.gz", b"film", "cannot read"),
    ],
)
def test_a_rubbish_table_is_explained(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TrainingDataError, match=message):
        read_table(Table(path=tmp_path / name))


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        ({"boxes": [[10, 20, 100, 100]]}, r"line 1: .*lies beyond the film; places are fractions"),
        ({"boxes": [[0.1, 0.1, 0, 0.1]]}, r"no left, top, width and height above 0"),
        ({"boxes": [0.1, 0.1, 0.2, 0.1]}, r"boxes is no list of lists"),
        ({"ellipses": [[0.1, 0.1, "w", 0.1]]}, r"ellipses is 'w', not a finite number"),
        ({"fixations": [[0.5, 0.5, 0]]}, r"no x, y and seconds above 0"),
        ({"fixations": [[700, 900, 0.2]]}, r"lies far beyond the film; places are fractions"),
        ({"fixations": [[0.5, 0.5]]}, r"no x, y and seconds above 0"),
        ({"mask": "absent.png"}, r"line 1: mask absent.png: .*give a PNG, white where marked"),
    ],
)
def test_a_rubbish_mark_is_named(tmp_path: Path, marks: dict[str, Any], message: str) -> None:
    path = jsonl(tmp_path / "own.jsonl", [LINES[0] | marks])
    with pytest.raises(TrainingDataError, match=message):
        read_table(Table(path=path))


# --- marks in a table of their own


def test_marks_in_a_csv_are_gathered_by_film(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "marks.csv",
        """
film,kind,x,y,width,height,seconds
a.png,box,0.1,0.2,0.3,0.4,
b.png,fixation,0.5,0.5,,,0.2
a.png,Box,0.5,0.5,0.1,0.1,
b.png,fixation,0.6,0.5,,,0.4
""",
    )
    first, second = read_own_marks(OwnMarks(path=path, sigma=0.1))
    assert first.film == str(tmp_path / "a.png")
    assert first.annotation == Boxes(((0.1, 0.2, 0.3, 0.4), (0.5, 0.5, 0.1, 0.1)))
    assert second.annotation == Fixations(((0.5, 0.5, 0.2), (0.6, 0.5, 0.4)), sigma=0.1)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.png,arrow,0,0,1,1,", r"line 2: kind is 'arrow', not box, ellipse or fixation"),
        ("a.png,box,0,0,,1,", r"line 2: width is '', not a finite number"),
        ("a.png,fixation,0.2,0.3,,,-1", r"line 2: .*seconds above 0"),
    ],
)
def test_a_rubbish_mark_in_a_csv_is_named(tmp_path: Path, row: str, message: str) -> None:
    path = write_csv(tmp_path / "m.csv", "film,kind,x,y,width,height,seconds\n" + row)
    with pytest.raises(TrainingDataError, match=message):
        list(read_own_marks(OwnMarks(path=path)))


def test_a_line_without_any_mark_is_named(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "m.jsonl", [{"film": "a.png", "boxes": []}])
    with pytest.raises(TrainingDataError, match=r"m.jsonl line 1: has none of boxes"):
        list(read_own_marks(OwnMarks(path=path)))


def one_study(*films: str, number: int = 1, **changes: Any) -> Study:
    facts: dict[str, Any] = {"split": Split.TRAIN, "text": f"Report {number}."} | changes
    return Study(
        study_id=f"s{number}",
        patient_id=f"p{number}",
        frontals=tuple(Path(film) for film in films),
        laterals=(),
        labels=frozenset(),
        **facts,
    )


def test_a_reading_finds_its_film_by_path_or_by_an_only_name() -> None:
    collection = clean([one_study("x/1.2.840.dcm"), one_study("y/b.png", "z/b.png", number=2)])
    box = Boxes(((0.1, 0.1, 0.1, 0.1),))
    names = ("1.2.840.dcm", "1.2.840", "elsewhere/1.2.840.dcm", "z/b.png")
    joined = attach(collection, [Reading(name, box, "line 1") for name in names])
    assert [str(film.film) for film in joined.experts] == ["x/1.2.840.dcm"] * 3 + ["z/b.png"]
    with pytest.raises(TrainingDataError, match=r"line 7: 2 films are called b.png; name the film"):
        attach(collection, [Reading("b.png", box, "line 7")])
    with pytest.raises(TrainingDataError, match=r"none of 2 readings .* 2 training studies"):
        attach(collection, [Reading("c", box, "line 1"), Reading("d", box, "line 2")])


# --- shards


def sample(key: str, **told: Any) -> dict[str, bytes]:
    return {f"{key}.png": png(), f"{key}.json": json.dumps(told).encode()}


def test_shards_give_the_studies_of_a_table(tmp_path: Path) -> None:
    write_shard(
        tmp_path / "0.tar",
        sample("in.side/a", patient_id="p1", split="train", boxes=[[0.1, 0.2, 0.3, 0.4]])
        | {"in.side/a.txt": f"FINDINGS: {CLEAR}".encode(), "._a.png": b"rubbish of a Mac"},
    )
    write_shard(
        tmp_path / "1.tar",
        sample("b", patient_id="p2", split="val", text=LARGE, study_id="s2")
        | {"b.mask.png": png()},
    )
    source = WebDataset(path=tmp_path)
    for _ in range(2):  # unpacked, then found unpacked
        collection = load_collection(source, cache=tmp_path / "cache")
        assert [(s.study_id, s.text) for s in collection.train] == [("in.side/a", CLEAR)]
        assert [(s.study_id, s.text) for s in collection.val] == [("s2", LARGE)]
        assert collection.train[0].frontals[0].read_bytes() == png()
        assert [film.annotation for film in collection.experts] == [Boxes(((0.1, 0.2, 0.3, 0.4),))]
        assert collection.left_out["expert reading of no training film"] == 1  # the mask, in val


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.json": b"{}"}, r"0.tar sample a has 0 films, not one of png"),
        ({"a.png": b"", "a.jpg": b""}, r"sample a has 2 films"),
        ({"a.png": b""}, r"sample a: patient_id is empty; the split is by patient"),
        ({"a.png": b"", "a.json": b"{"}, r"sample a: not JSON"),
        ({"../a.png": b""}, r"holds '../a.png' of 0 bytes.*only plain names"),
        ({"/etc/a.png": b""}, r"holds '/etc/a.png'"),
    ],
)
def test_a_rubbish_shard_is_named(tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    write_shard(tmp_path / "0.tar", members)
    with pytest.raises(TrainingDataError, match=message):
        load_collection(WebDataset(path=tmp_path), cache=tmp_path / "cache")
    assert not list(tmp_path.glob("*.png"))


def test_a_cut_shard_is_named_and_leaves_nothing_behind(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", sample("a", patient_id="p"))
    whole = (tmp_path / "0.tar").read_bytes()
    (tmp_path / "0.tar").write_bytes(whole[:700])
    for _ in range(2):
        with pytest.raises(TrainingDataError, match=r"0.tar is no whole .tar"):
            load_collection(WebDataset(path=tmp_path / "0.tar"), cache=tmp_path / "cache")
    with pytest.raises(TrainingDataError, match=r"there is no .tar in"):
        load_collection(WebDataset(path=tmp_path / "cache"), cache=tmp_path / "cache")


# --- the split


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
        clean(studies)


@given(
    rows=st.lists(st.tuples(st.integers(0, 9), st.sampled_from("abc"), st.sampled_from(Split))),
)
def test_no_patient_and_by_default_no_text_is_on_both_sides(
    rows: list[tuple[int, str, Split]],
) -> None:
    studies = [
        one_study(f"{at}.png", number=patient, text=text, split=split)
        for at, (patient, text, split) in enumerate(rows)
    ]
    of = {split: {s.patient_id for s in studies if s.split is split} for split in Split}
    if any(of[one] & of[other] for one in Split for other in Split if one < other):
        with pytest.raises(TrainingDataError, match="split by patient"):
            clean(studies)
        return
    dropped, kept = clean(studies), clean(studies, same_texts="keep")
    elsewhere = {s.text for s in studies if s.split is not Split.TRAIN}
    assert not {s.text for s in dropped.train} & elsewhere
    assert dropped.same_texts == kept.same_texts == len(kept.train) - len(dropped.train)
    assert dropped.val == kept.val
    assert sum(dropped.left_out.values()) + len(dropped.train) + len(dropped.val) == len(studies)


# --- the settings and a run


def test_a_configuration_names_any_layout(tmp_path: Path) -> None:
    config = tmp_path / "x.toml"
    config.write_text(
        '[data]\nkind = "mimic"\npath = "a"\nreports = "b"\nsame_texts = "keep"\n'
        '[[data.experts]]\nkind = "reflacx"\npath = "c"\nmarks = "ellipses"\n'
        '[[data.experts]]\nkind = "egd"\npath = "d"\n'
    )
    data = read_settings(config).data
    assert isinstance(data, Mimic)
    assert [expert.kind for expert in data.experts] == ["reflacx", "egd"]
    assert "data" not in TrainSettings().model_dump(mode="json")  # old runs keep their mark


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('kind = "mimc"\npath = "a"', "'openi', 'mimic', 'table', 'webdataset'"),
        ('kind = "mimic"\npath = "a"', "reports"),
        ('kind = "table"\npath = "a"\nreports = "b"', "reports"),
        ('kind = "table"\npath = "a"\nval_share = 1.5', "val_share"),
    ],
)
def test_a_wrong_data_table_is_named(tmp_path: Path, data: str, message: str) -> None:
    (tmp_path / "x.toml").write_text("[data]\n" + data)
    with pytest.raises(TrainingDataError, match=message):
        read_settings(tmp_path / "x.toml")


RUN = """
name = "own"
size = 32
cache_side = 32
least_label_count = 1
[model]
dim = 16
text_hidden = 32
image_tower = { kind = "small_cnn", channels = 8 }
[optim]
epochs = 1
batch_size = 4
precision = "no"
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


def test_a_table_with_marks_and_without_labels_trains_with_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        {
            "film": f"{number}.png",
            "study_id": number,
            "patient_id": number,
            "split": "train",
            "findings": f"{CLEAR} Film {number}.",
            "boxes": [[0.1, 0.2, 0.3, 0.4]],
        }
        for number in range(8)
    ]
    for number in range(8):
        (tmp_path / f"{number}.png").write_bytes(png(number * 10))
    table = jsonl(tmp_path / "own.jsonl", lines)
    config = tmp_path / "own.toml"
    config.write_text(RUN.replace("PATH", str(table)))
    arguments = ["--config", str(config), "--out", str(tmp_path / "run")]
    assert main([*arguments, "--experts", "x"]) == 1
    assert "[[data.experts]]" in capsys.readouterr().err
    assert main(arguments) == 1
    assert "no finding label is that of 1 training studies" in capsys.readouterr().err
    config.write_text(config.read_text().replace("[optim]", TEXTS_ALONE))
    assert main(arguments) == 0
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (run["studies"], run["expert_films"]) == (8, 8)
    values = (tmp_path / "run" / "metrics.csv").read_text()
    assert "nan" not in values
