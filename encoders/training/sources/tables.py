"""Reads CSV and JSONL tables row by row, and your own tables of studies and of marks.

Their columns: docs/training.md, "Your own data".
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

_ROW_HINT = "correct the row or take it out"
_FRACTIONS_HINT = "places are fractions of the image: divide pixels by its width and height"

_SPLITS = {
    "train": Split.TRAIN,
    "test": Split.TEST,
    **dict.fromkeys(("val", "valid", "validate", "validation"), Split.VAL),
}

_BOX_TOLERANCE = 0.05
"""How far a box may extend beyond the image: hand-drawn boxes and rounding do."""

_MAX_COORDINATE = 10.0
"""A fixation with larger coordinates is given in pixels."""

Numbers = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row: cells by lower-case column name, and ``where`` it is, for error messages.

    A cell that cannot be read as asked raises `TrainingDataError`.
    """

    where: str
    values: Mapping[str, Any]

    def error(self, reason: str, *, hint: str = _ROW_HINT) -> TrainingDataError:
        """An error that names this row."""
        return TrainingDataError(f"{self.where}: {reason}; {hint}")

    def text(self, key: str) -> str:
        """A cell as stripped text; empty if it is missing."""
        value = self.values.get(key)
        if isinstance(value, str):
            return value.strip()
        try:
            return parse_id(value)
        except ValueError as error:
            raise self.error(f"{key} {error}") from None

    def require(self, key: str) -> str:
        """A cell as text that must not be empty."""
        value = self.text(key)
        if not value:
            raise self.error(f"{key} is empty")
        return value

    def number(self, key: str) -> float:
        """A cell as a finite number."""
        value = self.values.get(key)
        try:
            number = float(value) if isinstance(value, str | int | float) else math.nan
        except (ValueError, OverflowError):
            number = math.nan
        if isinstance(value, bool) or not math.isfinite(number):
            raise self.error(f"{key} is {str(value or '')[:40]!r}, not a finite number")
        return number


def read_rows(path: Path, *, required: Sequence[str] = ()) -> Iterator[TableRow]:
    """Rows of a table (`encoders.tabular`) that has the required columns."""
    if not is_table(path):
        raise TrainingDataError(f"{path} is not a table; give a .csv or .jsonl file")
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
    """Studies of a CSV or JSONL file with one image per row."""
    folder = settings.path.parent
    studies: dict[str, TrainingStudy] = {}
    first_row: dict[str, str] = {}
    row_of_image: dict[Path, str] = {}
    for row in read_rows(settings.path, required=("image", "study_id", "patient_id")):
        image = folder / row.require("image")
        if image in row_of_image:
            raise row.error(f"image {image.name} is already in {row_of_image[image]}")
        row_of_image[image] = row.where
        study = _parse_study(row, image, settings.val_share)
        if earlier := studies.get(study.study_id):
            study = _merge(earlier, study, row, first_row[study.study_id])
        studies[study.study_id] = study
        first_row.setdefault(study.study_id, row.where)
    return list(studies.values())


def patient_split(patient_id: str, *, val_share: float) -> Split:
    """Train or validation, from a hash of the id: the same in every run and on every machine."""
    digest = hashlib.sha256(patient_id.encode(errors="surrogatepass")).digest()
    return Split.VAL if int.from_bytes(digest[:8], "big") < val_share * 2**64 else Split.TRAIN


def _parse_study(row: TableRow, image: Path, val_share: float) -> TrainingStudy:
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
        text=_report_text(row),
        labels=_labels(row),
        split=_SPLITS[split] if split else patient_split(patient_id, val_share=val_share),
    )


def _report_text(row: TableRow) -> str:
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
        raise row.error("labels is not a list of strings")
    return frozenset(label.strip() for label in value if label.strip())


def _merge(study: TrainingStudy, new: TrainingStudy, row: TableRow, first: str) -> TrainingStudy:
    """Add one more row's image to a study; that row may leave split and report empty."""
    if not row.text("split"):
        new = replace(new, split=study.split)
    for column, expected, value in (
        ("patient_id", study.patient_id, new.patient_id),
        ("split", study.split, new.split),
        ("report", study.text, new.text or study.text),
    ):
        if expected and value != expected:
            raise row.error(f"another {column} than {first}, which is of the same study")
    return replace(
        study,
        text=study.text or new.text,
        labels=study.labels | new.labels,
        frontals=study.frontals + new.frontals,
        laterals=study.laterals + new.laterals,
    )


def read_annotation_table(settings: AnnotationTable) -> list[ImageAnnotation]:
    """Annotations of a table with one mark per row; all boxes of an image are one annotation."""
    marks_of: dict[tuple[str, str], list[Numbers]] = {}
    first_row: dict[tuple[str, str], str] = {}
    for row in read_rows(settings.path, required=("image", "kind")):
        image, kind = row.require("image"), row.text("kind").lower()
        if kind not in _MARK_KINDS:
            raise row.error(f"kind is {kind[:40]!r}, not box or fixation")
        columns, check = _MARK_KINDS[kind]
        mark = tuple(row.number(column) for column in columns)
        check(row, mark)
        marks_of.setdefault((image, kind), []).append(mark)
        first_row.setdefault((image, kind), row.where)

    def annotation(kind: str, marks: list[Numbers]) -> Annotation:
        if kind == "box":
            return Boxes(tuple(marks))
        return Fixations(tuple(marks), sigma=settings.sigma, by_duration=settings.by_duration)

    folder = settings.path.parent
    return [
        ImageAnnotation(str(folder / image), annotation(kind, marks), first_row[image, kind])
        for (image, kind), marks in marks_of.items()
    ]


def _check_box(row: TableRow, mark: Numbers) -> None:
    left, top, width, height = mark
    if min(width, height) <= 0:
        raise row.error(f"{mark} needs a width and height above 0")
    if min(left, top) < -_BOX_TOLERANCE or max(left + width, top + height) > 1 + _BOX_TOLERANCE:
        raise row.error(f"{mark} lies beyond the image", hint=_FRACTIONS_HINT)


def _check_fixation(row: TableRow, mark: Numbers) -> None:
    x, y, seconds = mark
    if seconds <= 0:
        raise row.error(f"{mark} needs seconds above 0")
    if max(abs(x), abs(y)) > _MAX_COORDINATE:
        raise row.error(f"{mark} lies far beyond the image", hint=_FRACTIONS_HINT)


_MARK_KINDS = {
    "box": (("x", "y", "width", "height"), _check_box),
    "fixation": (("x", "y", "seconds"), _check_fixation),
}
"""Columns and check of each kind of mark."""
