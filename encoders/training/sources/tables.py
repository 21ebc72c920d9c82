"""Rows of CSV and JSONL tables, each with the place that an error names; and your own tables.

Your own: studies with an image a row, and a mark a row (columns: docs/training.md). Patients
without a split get one. Places of marks are fractions of the image.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from encoders.annotations import Annotation, Boxes, Fixations
from encoders.images.image_info import is_frontal
from encoders.report_sections import parse_sections
from encoders.tabular import TableError, is_table, parse_id, read_table
from encoders.training.dataset import ImageAnnotation, Split, TrainingDataError, TrainingStudy
from encoders.training.sources.settings import AnnotationTable, StudyTable

ROW_HINT = "correct the row or take it out"
_SPLITS = {
    "train": Split.TRAIN,
    "test": Split.TEST,
    **dict.fromkeys(("val", "valid", "validate", "validation"), Split.VAL),
}

FRACTIONS_HINT = "places are fractions of the image: divide pixels by its width and height"
_SLACK = 0.05
"""How far a box may stick out: drawn by hand, or cut at the edge by rounding."""

_FAR = 10.0
"""A fixation this many images away is given in pixels."""

Numbers = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row: where it stands, and its cells by column name in small letters.

    Every reading of a cell raises `TrainingDataError` where the cell is something else.
    """

    where: str
    values: Mapping[str, Any]

    def error(self, reason: str, *, hint: str = ROW_HINT) -> TrainingDataError:
        """The error of this row, to be raised."""
        return TrainingDataError(f"{self.where}: {reason}; {hint}")

    def text(self, key: str) -> str:
        """A cell as text without the blanks around it; empty if it is not there."""
        value = self.values.get(key)
        if isinstance(value, str):
            return value.strip()
        try:
            return parse_id(value)
        except ValueError as error:
            raise self.error(f"{key} {error}") from None

    def require(self, key: str) -> str:
        """A cell that must not be empty."""
        value = self.text(key)
        if not value:
            raise self.error(f"{key} is empty")
        return value

    def number(self, key: str) -> float:
        """A finite number."""
        value = self.values.get(key)
        try:
            number = float(value) if isinstance(value, str | int | float) else math.nan
        except (ValueError, OverflowError):
            number = math.nan
        if isinstance(value, bool) or not math.isfinite(number):
            raise self.error(f"{key} is {str(value or '')[:40]!r}, not a finite number")
        return number


def find_table(folder: Path, name: str) -> Path:
    """A table as published, or unpacked from its .gz.

    Raises:
        TrainingDataError: there is neither.
    """
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise TrainingDataError(
        f"there is no {name} or {name}.gz in {folder}; set the path to the folder that holds it"
    )


def read_rows(path: Path, *, required: Sequence[str] = ()) -> Iterator[TableRow]:
    """Rows of a table (`encoders.tabular`) that has the needed columns.

    Raises:
        TrainingDataError: the file cannot be read, a column is missing, or a row is broken.
    """
    if not is_table(path):
        raise TrainingDataError(f"{path} is no table that can be read; give a .csv or .jsonl file")
    try:
        for found in read_table(path, required=required):
            row = TableRow(f"{path} {found.where}", found.values)
            if found.problem:
                raise row.error(found.problem)
            if missing := [name for name in required if name not in row.values]:
                raise row.error(f"has no {', '.join(missing)}")
            yield row
    except TableError as error:
        raise TrainingDataError(f"{error} (in {path.parent})") from error
    except OSError as error:
        raise TrainingDataError(f"cannot read {path}: {error.strerror or error}") from error


def read_study_table(settings: StudyTable) -> list[TrainingStudy]:
    """Studies of a CSV or JSONL file with an image a row.

    Raises:
        TrainingDataError: the table cannot be read, or a row cannot be used or says other things
            than an earlier one of its study; it is named.
    """
    folder = settings.path.parent
    studies: dict[str, TrainingStudy] = {}
    first_row: dict[str, str] = {}
    row_of_image: dict[Path, str] = {}
    for row in read_rows(settings.path, required=("image", "study_id", "patient_id")):
        image = folder / row.require("image")
        if image in row_of_image:
            raise row.error(f"image {image.name} stands at {row_of_image[image]} already")
        row_of_image[image] = row.where
        new = _study_of_row(row, image, settings.val_share)
        if known := studies.get(new.study_id):
            new = _joined(known, new, row, first_row[new.study_id])
        studies[new.study_id] = new
        first_row.setdefault(new.study_id, row.where)
    return list(studies.values())


def patient_split(patient_id: str, *, val_share: float) -> Split:
    """Train or validation by the patient's id alone: the same in every run and on every machine."""
    digest = hashlib.sha256(patient_id.encode(errors="surrogatepass")).digest()
    return Split.VAL if int.from_bytes(digest[:8], "big") < val_share * 2**64 else Split.TRAIN


def _study_of_row(row: TableRow, image: Path, val_share: float) -> TrainingStudy:
    view = row.text("view")
    frontal = is_frontal(view) if view else True
    if frontal is None:
        raise row.error(f"view is {view[:40]!r}, not frontal or lateral")
    study_id, patient_id = row.require("study_id"), row.text("patient_id")
    if not patient_id:
        raise row.error(
            "patient_id is empty",
            hint="the split is by patient; if each study is another patient, repeat its study_id",
        )
    split = row.text("split").lower()
    if split and split not in _SPLITS:
        raise row.error(f"split is {split[:40]!r}, not train, val or test")
    return TrainingStudy(
        study_id=study_id,
        patient_id=patient_id,
        frontals=(image,) if frontal else (),
        laterals=() if frontal else (image,),
        text=_report(row),
        labels=_labels(row),
        split=_SPLITS[split] if split else patient_split(patient_id, val_share=val_share),
    )


def _report(row: TableRow) -> str:
    parts = [row.text("findings"), row.text("impression")]
    if not any(parts):
        sections = parse_sections(row.text("text"))
        parts = [sections.findings, sections.impression]
    return "\n".join(part for part in parts if part)


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


def read_annotation_table(settings: AnnotationTable) -> list[ImageAnnotation]:
    """Annotations of a table with a mark a row: those of an image and kind are one.

    Raises:
        TrainingDataError: the table cannot be read, or a row is no mark; the message names it.
    """
    found: dict[tuple[str, str], list[Numbers]] = {}
    first_row: dict[tuple[str, str], str] = {}
    for row in read_rows(settings.path, required=("image", "kind")):
        image, kind = row.require("image"), row.text("kind").lower()
        if kind not in _MARKS:
            raise row.error(f"kind is {kind[:40]!r}, not box or fixation")
        columns, check = _MARKS[kind]
        mark = tuple(row.number(column) for column in columns)
        check(row, mark)
        found.setdefault((image, kind), []).append(mark)
        first_row.setdefault((image, kind), row.where)

    def annotation(kind: str, marks: list[Numbers]) -> Annotation:
        if kind == "box":
            return Boxes(tuple(marks))
        return Fixations(tuple(marks), sigma=settings.sigma, by_duration=settings.by_duration)

    folder = settings.path.parent
    return [
        ImageAnnotation(str(folder / key[0]), annotation(key[1], marks), first_row[key])
        for key, marks in found.items()
    ]


def _check_box(row: TableRow, mark: Numbers) -> None:
    left, top, width, height = mark
    if min(width, height) <= 0:
        raise row.error(f"{mark} is no left, top, width and height above 0")
    if min(left, top) < -_SLACK or max(left + width, top + height) > 1 + _SLACK:
        raise row.error(f"{mark} lies beyond the image", hint=FRACTIONS_HINT)


def _check_fixation(row: TableRow, mark: Numbers) -> None:
    x, y, seconds = mark
    if seconds <= 0:
        raise row.error(f"{mark} is no x, y and seconds above 0")
    if max(abs(x), abs(y)) > _FAR:
        raise row.error(f"{mark} lies far beyond the image", hint=FRACTIONS_HINT)


_MARKS = {
    "box": (("x", "y", "width", "height"), _check_box),
    "fixation": (("x", "y", "seconds"), _check_fixation),
}
"""Of each kind of mark: its columns, and what is checked."""
