"""MIMIC-CXR in its published layout, and gaze on its images."""

import csv
import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from encoders.training.dataset import Split, TrainingDataError
from encoders.training.sources.load import load_dataset
from encoders.training.sources.mimic import read_mimic
from encoders.training.sources.settings import AnnotationTable, Mimic

IMAGES = [
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


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A CSV file, compressed if its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    zipped = path.suffix == ".gz"
    with gzip.open(path, "wt", newline="") if zipped else path.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


def write_mimic(
    folder: Path,
    images: Sequence[tuple[str, int, int, str, str]],
    *,
    reports: Mapping[int, str],
    labels: Mapping[int, Mapping[str, str]] | None = None,
    pixels: bytes = b"",
) -> None:
    """MIMIC-CXR-JPG and the reports; images are (id, study, subject, view, split)."""
    tables = folder / "jpg"
    write_table(
        tables / "mimic-cxr-2.0.0-split.csv.gz",
        ("dicom_id", "study_id", "subject_id", "split"),
        [(image, study, subject, split) for image, study, subject, _, split in images],
    )
    write_table(
        tables / "mimic-cxr-2.0.0-metadata.csv.gz",
        ("dicom_id", "subject_id", "study_id", "ViewPosition", "Rows", "Columns"),
        [(image, subject, study, view, 3056, 2544) for image, study, subject, view, _ in images],
    )
    for image, study, subject, _, _ in images:
        at = f"files/p{str(subject)[:2]}/p{subject}/s{study}"
        (tables / at).mkdir(parents=True, exist_ok=True)
        (tables / at / f"{image}.jpg").write_bytes(pixels)
        if study in reports:
            report = folder / "reports" / "mimic-cxr-reports" / f"{at}.txt"
            report.parent.mkdir(parents=True, exist_ok=True)
            report.write_text(reports[study], encoding="utf-8")
    if labels:
        names = sorted({name for values in labels.values() for name in values})
        write_table(
            tables / "mimic-cxr-2.0.0-chexpert.csv.gz",
            ("subject_id", "study_id", *names),
            [(1, study, *(v.get(name, "") for name in names)) for study, v in labels.items()],
        )


def test_mimic_is_read_as_published(tmp_path: Path) -> None:
    labels = {50000001: {"No Finding": "1.0"}, 50000002: {"Cardiomegaly": "1.0", "Edema": "-1.0"}}
    write_mimic(tmp_path, IMAGES, reports=REPORTS, labels=labels)
    source = Mimic(path=tmp_path / "jpg", reports=tmp_path / "reports")
    train, val, test = read_mimic(source)
    assert (train.study_id, train.patient_id, train.split) == (
        "s50000001",
        "p10000032",
        Split.TRAIN,
    )
    assert [image.stem for image in train.frontals] == ["pa", "ap"]
    assert [image.stem for image in train.laterals] == ["lat"]
    assert train.text == "The lungs\n are clear.\nNo change."
    assert (val.text, val.split, val.labels) == ("Large heart.", Split.VAL, {"cardiomegaly"})
    assert (train.labels, test.split) == ({"normal"}, Split.TEST)
    dataset = load_dataset(source)
    assert [len(dataset.train), len(dataset.val)] == [1, 1]
    assert dataset.left_out["held back for test"] == 1


def test_images_that_are_not_on_disk_are_left_out(tmp_path: Path) -> None:
    write_mimic(tmp_path, IMAGES, reports=REPORTS)
    for path in (tmp_path / "jpg").rglob("*.jpg"):
        if path.stem != "v":
            path.unlink()
    source = Mimic(path=tmp_path / "jpg", reports=tmp_path / "reports")
    assert load_dataset(source).left_out["no image"] == 1
    (tmp_path / "jpg/files/p11/p11000002/s50000002/v.jpg").unlink()
    with pytest.raises(TrainingDataError, match=r"no \.jpg image in .* files/p10/p10000032"):
        read_mimic(source)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            ("x", 50000009, 13000000, "PA", "dev"),
            r"split.csv.gz line 8: split is 'dev', not one of",
        ),
        (("x", 50000001, 13000000, "PA", "train"), r"line 8: study 50000001 has another subject"),
        (("", 50000009, 13000000, "PA", "train"), r"line 8: dicom_id is empty"),
    ],
)
def test_an_invalid_row_of_mimic_is_named(
    tmp_path: Path, image: tuple[str, int, int, str, str], message: str
) -> None:
    write_mimic(tmp_path, [*IMAGES, image], reports=REPORTS)
    with pytest.raises(TrainingDataError, match=message):
        read_mimic(Mimic(path=tmp_path / "jpg", reports=tmp_path / "reports"))


def test_a_truncated_table_is_named(tmp_path: Path) -> None:
    write_mimic(tmp_path, IMAGES, reports=REPORTS)
    table = tmp_path / "jpg" / "mimic-cxr-2.0.0-split.csv.gz"
    table.write_bytes(table.read_bytes()[:-20])
    with pytest.raises(
        TrainingDataError, match=r"split.csv.gz is damaged or ends in the middle; fetch"
    ):
        read_mimic(Mimic(path=tmp_path / "jpg", reports=tmp_path / "reports"))


def test_gaze_is_attached_to_training_images_only(tmp_path: Path) -> None:
    write_mimic(tmp_path, IMAGES, reports=REPORTS)
    marks = tmp_path / "gaze.jsonl"
    gaze = {"kind": "fixation", "x": 0.5, "y": 0.5, "seconds": 1.0}
    lines = [{"image": f"{name}.jpg"} | gaze for name in ("pa", "v", "t")]
    marks.write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = Mimic(
        path=tmp_path / "jpg", reports=tmp_path / "reports", experts=(AnnotationTable(path=marks),)
    )
    dataset = load_dataset(source)
    assert [(image.study_id, image.path.stem) for image in dataset.experts] == [("s50000001", "pa")]
    assert dataset.left_out["expert reading of no training image"] == 2
    assert load_dataset(source, experts=False).experts == ()
