"""Your own studies: rows with an image each, from a table or from shards.

Owns the columns, and the split of patients that have none. Rows of one study become one study.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from encoders.images.view import is_frontal
from encoders.report_sections import parse_sections
from encoders.training.dataset import ImageAnnotation, Split, TrainingStudy
from encoders.training.sources.annotation_table import annotations
from encoders.training.sources.settings import StudyTable
from encoders.training.sources.tables import TableRow, read_rows

COLUMNS = ("image", "study_id", "patient_id")
"""Columns that must be there; the others are in docs/training.md."""

_SPLITS = {
    "train": Split.TRAIN,
    "test": Split.TEST,
    **dict.fromkeys(("val", "valid", "validate", "validation"), Split.VAL),
}


def read_study_table(settings: StudyTable) -> tuple[list[TrainingStudy], list[ImageAnnotation]]:
    """Studies of a CSV or JSONL file, and the marks that its rows hold.

    Raises:
        TrainingDataError: the table cannot be read or a row cannot be used; it is named.
    """
    rows = read_rows(settings.path, needed=COLUMNS)
    return gather(rows, folder=settings.path.parent, val_share=settings.val_share)


def gather(
    rows: Iterable[TableRow], *, folder: Path, val_share: float
) -> tuple[list[TrainingStudy], list[ImageAnnotation]]:
    """Studies of rows with an image each.

    Args:
        rows: of `COLUMNS` and more.
        folder: what images and masks are relative to.
        val_share: of the patients without a split.

    Raises:
        TrainingDataError: a row cannot be used, or says other things than an earlier one of its
            study.
    """
    studies: dict[str, TrainingStudy] = {}
    first_row: dict[str, str] = {}
    row_of_image: dict[Path, str] = {}
    marks = []
    for row in rows:
        image = folder / row.needed("image")
        if image in row_of_image:
            raise row.error(f"image {image.name} stands at {row_of_image[image]} already")
        row_of_image[image] = row.where
        new = _study_of_row(row, image, val_share)
        if known := studies.get(new.study_id):
            new = _joined(known, new, row, first_row[new.study_id])
        studies[new.study_id] = new
        first_row.setdefault(new.study_id, row.where)
        marks += [ImageAnnotation(str(image), mark, row.where) for mark in annotations(row, folder)]
    return list(studies.values()), marks


def split_of(patient_id: str, *, val_share: float) -> Split:
    """Train or validation by the patient's id alone: the same in every run and on every machine."""
    digest = hashlib.sha256(patient_id.encode(errors="surrogatepass")).digest()
    return Split.VAL if int.from_bytes(digest[:8], "big") < val_share * 2**64 else Split.TRAIN


def report_text(row: TableRow) -> str:
    """Findings and impression of a row, or those of its whole text."""
    parts = [row.text("findings"), row.text("impression")]
    if not any(parts):
        sections = parse_sections(row.text("text"))
        parts = [sections.findings, sections.impression]
    return "\n".join(part for part in parts if part)


def _study_of_row(row: TableRow, image: Path, val_share: float) -> TrainingStudy:
    view = row.text("view")
    frontal = is_frontal(view) if view else True
    if frontal is None:
        raise row.error(f"view is {view[:40]!r}, not frontal or lateral")
    study_id, patient_id = row.needed("study_id"), row.text("patient_id")
    if not patient_id:
        raise row.error(
            "patient_id is empty",
            cure="the split is by patient; if each study is another patient, repeat its study_id",
        )
    split = row.text("split").lower()
    if split and split not in _SPLITS:
        raise row.error(f"split is {split[:40]!r}, not train, val or test")
    return TrainingStudy(
        study_id=study_id,
        patient_id=patient_id,
        frontals=(image,) if frontal else (),
        laterals=() if frontal else (image,),
        text=report_text(row),
        labels=_labels(row),
        split=_SPLITS[split] if split else split_of(patient_id, val_share=val_share),
    )


def _labels(row: TableRow) -> frozenset[str]:
    value = row.values.get("labels")
    if not isinstance(value, list):
        value = row.text("labels").split(";")
    elif not all(isinstance(label, str) for label in value):
        raise row.error("labels is no list of texts")
    return frozenset(label.strip() for label in value if label.strip())


def _joined(known: TrainingStudy, new: TrainingStudy, row: TableRow, first: str) -> TrainingStudy:
    """A study with the image of one more row, which may leave split and report to the first."""
    if not row.text("split"):
        new = replace(new, split=known.split)
    for what, before, now in (
        ("patient_id", known.patient_id, new.patient_id),
        ("split", known.split, new.split),
        ("report", known.text, new.text or known.text),
    ):
        if before and before != now:
            raise row.error(f"another {what} than {first}, which is of the same study")
    return replace(
        known,
        text=known.text or new.text,
        labels=known.labels | new.labels,
        frontals=known.frontals + new.frontals,
        laterals=known.laterals + new.laterals,
    )
