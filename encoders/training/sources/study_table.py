"""Your own studies: rows with an image each, from a table or from shards.

Owns the columns, and the split of patients that have none. Rows of one study become one study.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from encoders.report_sections import parse_sections
from encoders.training.dataset import Split, TrainingStudy
from encoders.training.sources.annotation_table import annotations
from encoders.training.sources.readings import Reading
from encoders.training.sources.settings import StudyTable
from encoders.training.sources.tables import TableRow, read_rows

COLUMNS = ("image", "study_id", "patient_id")
"""Columns that must be there; the others are in docs/training.md."""

_VIEWS = {"": True, "frontal": True, "pa": True, "ap": True} | dict.fromkeys(
    ("lateral", "ll", "rl", "lat"), False
)
"""Whether a view is frontal."""

_SPLITS = {
    "train": Split.TRAIN,
    "val": Split.VAL,
    "valid": Split.VAL,
    "validate": Split.VAL,
    "validation": Split.VAL,
    "test": Split.TEST,
}


@dataclass(slots=True)
class _Gathering:
    """A study while its rows come in; ``where`` is the first."""

    where: str
    patient_id: str
    split: Split
    text: str
    labels: set[str]
    frontals: list[Path] = field(default_factory=list)
    laterals: list[Path] = field(default_factory=list)


def read_study_table(settings: StudyTable) -> tuple[list[TrainingStudy], list[Reading]]:
    """Studies of a CSV or JSONL file, and the marks that its rows hold.

    Raises:
        TrainingDataError: the table cannot be read or a row cannot be used; it is named.
    """
    rows = read_rows(settings.path, needed=COLUMNS)
    return gather(rows, folder=settings.path.parent, val_share=settings.val_share)


def gather(
    rows: Iterable[TableRow], *, folder: Path, val_share: float
) -> tuple[list[TrainingStudy], list[Reading]]:
    """Studies of rows with an image each.

    Args:
        rows: of `COLUMNS` and more.
        folder: what images and masks are relative to.
        val_share: of the patients without a split.

    Raises:
        TrainingDataError: a row cannot be used, or says other things than an earlier one of its
            study.
    """
    studies: dict[str, _Gathering] = {}
    seen: dict[Path, str] = {}
    readings = []
    for row in rows:
        image = folder / row.needed("image")
        if image in seen:
            raise row.error(f"image {image.name} stands at {seen[image]} already")
        seen[image] = row.where
        view = row.text("view").lower()
        if view not in _VIEWS:
            raise row.error(f"view is {view[:40]!r}, not frontal or lateral")
        study_id = row.needed("study_id")
        new = _facts(row, val_share, studies.get(study_id))
        known = studies.setdefault(study_id, new)
        _refuse_contradiction(row, known, new)
        known.text = known.text or new.text
        known.labels |= new.labels
        (known.frontals if _VIEWS[view] else known.laterals).append(image)
        readings += [Reading(str(image), mark, row.where) for mark in annotations(row, folder)]
    return [_study(study_id, known) for study_id, known in studies.items()], readings


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


def _facts(row: TableRow, val_share: float, known: _Gathering | None) -> _Gathering:
    patient_id = row.text("patient_id")
    if not patient_id:
        raise row.error(
            "patient_id is empty",
            cure="the split is by patient; if each study is another patient, repeat its study_id",
        )
    named = row.text("split").lower()
    if named and named not in _SPLITS:
        raise row.error(f"split is {named[:40]!r}, not train, val or test")
    if named:
        split = _SPLITS[named]
    else:
        split = known.split if known else split_of(patient_id, val_share=val_share)
    return _Gathering(row.where, patient_id, split, report_text(row), _labels(row))


def _labels(row: TableRow) -> set[str]:
    value = row.values.get("labels")
    if isinstance(value, list):
        if not all(isinstance(label, str) for label in value):
            raise row.error("labels is no list of texts")
        return {label.strip() for label in value if label.strip()}
    return {label.strip() for label in row.text("labels").split(";") if label.strip()}


def _refuse_contradiction(row: TableRow, known: _Gathering, new: _Gathering) -> None:
    for what, before, now in (
        ("patient_id", known.patient_id, new.patient_id),
        ("split", known.split, new.split),
        ("report", known.text, new.text or known.text),
    ):
        if before and before != now:
            raise row.error(f"another {what} than {known.where}, which is of the same study")


def _study(study_id: str, known: _Gathering) -> TrainingStudy:
    return TrainingStudy(
        study_id=study_id,
        patient_id=known.patient_id,
        frontals=tuple(known.frontals),
        laterals=tuple(known.laterals),
        text=known.text,
        labels=frozenset(known.labels),
        split=known.split,
    )
