"""Made-up files in the published layouts of EGD-CXR and MIMIC-CXR, for tests."""

import csv
import gzip
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

SCREEN = (1920, 1080)
EGD_FIXATIONS = ("DICOM_ID", "CNT", "TIME (in secs)", "FPOGX", "FPOGY", "FPOGD", "FPOGV")
EGD_SHEET = (
    "dicom_id",
    "path",
    "study_id",
    "patient_id",
    "image_top_pad",
    "image_bottom_pad",
    "image_left_pad",
    "image_right_pad",
)


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A CSV file, compressed if its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    zipped = path.suffix == ".gz"
    with gzip.open(path, "wt", newline="") if zipped else path.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


def write_egd(
    folder: Path,
    fixations: Sequence[tuple[str, float, float, float]],
    *,
    borders: Mapping[str, tuple[float, float, float, float]],
) -> None:
    """EGD-CXR: fixations (image, x, y, seconds) on the screen; borders left, right, top, bottom."""
    write_table(
        folder / "fixations.csv",
        EGD_FIXATIONS,
        [
            (image, number, 0.1 * number, x, y, seconds, 1)
            for number, (image, x, y, seconds) in enumerate(fixations)
        ],
    )
    write_table(
        folder / "master_sheet.csv",
        EGD_SHEET,
        [
            (image, f"files/{image}.dcm", 1, 1, top, bottom, left, right)
            for image, (left, right, top, bottom) in borders.items()
        ],
    )


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
