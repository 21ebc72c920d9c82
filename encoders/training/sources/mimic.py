"""MIMIC-CXR with its own split; its test split stays one, nothing of it is trained on.

An image that is not on the disk is left out, so that a part of the collection can be used.

Source: Johnson et al., MIMIC-CXR-JPG 2.0.0 and 2.1.0, PhysioNet.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

from encoders.report_sections import parse_sections
from encoders.training.dataset import Split, TrainingDataError, TrainingStudy
from encoders.training.sources.settings import Mimic
from encoders.training.sources.tables import find_table, read_rows

_log = logging.getLogger(__name__)

TABLES = "mimic-cxr-2.0.0-"
"""How the tables are called, in release 2.1.0 too."""

_IDS = ("dicom_id", "study_id", "subject_id")
_SPLITS = {"train": Split.TRAIN, "validate": Split.VAL, "test": Split.TEST}
_FRONTAL, _LATERAL = ("PA", "AP"), ("LATERAL", "LL")
_NORMAL = {"no finding": "normal"}
"""As Open-I says it: validation does not count it among the findings."""


@dataclass(slots=True)
class _Images:
    """A study while its images come in."""

    subject: str
    split: Split
    frontals: list[tuple[int, Path]] = field(default_factory=list)
    laterals: list[Path] = field(default_factory=list)


def read_mimic(settings: Mimic) -> list[TrainingStudy]:
    """Studies with their images (PA before AP), findings and impression, and CheXpert's labels.

    Raises:
        TrainingDataError: a table or the reports are missing, or a row cannot be used.
    """
    tables = settings.tables or settings.path
    reports = _report_folder(settings.reports)
    labels = _labels(tables)
    studies = [
        TrainingStudy(
            study_id=f"s{number}",
            patient_id=f"p{images.subject}",
            frontals=tuple(path for _, path in sorted(images.frontals)),
            laterals=tuple(images.laterals),
            text=_text(reports / f"{_folder(images.subject, number)}.txt"),
            labels=labels.get(number, frozenset()),
            split=images.split,
        )
        for number, images in _images(tables, settings).items()
    ]
    for what, there in (
        (f".{settings.suffix} image in {settings.path}", any(study.frontals for study in studies)),
        (f"report in {reports}", any(study.text for study in studies)),
    ):
        if not there:
            raise TrainingDataError(
                f"there is no {what} of the {len(studies)} studies of the split table; expected is "
                "files/p10/p10000032/s50414267/ with images, and the same with .txt for the report"
            )
    return studies


def _images(tables: Path, settings: Mimic) -> dict[str, _Images]:
    metadata = find_table(tables, f"{TABLES}metadata.csv")
    views = {
        row.require("dicom_id"): row.text("viewposition").upper()
        for row in read_rows(metadata, required=("dicom_id", "viewposition"))
    }
    studies: dict[str, _Images] = {}
    absent = other = 0
    for row in read_rows(find_table(tables, f"{TABLES}split.csv"), required=(*_IDS, "split")):
        image, study, subject = (row.require(key) for key in _IDS)
        split = _SPLITS.get(row.text("split"))
        if split is None:
            raise row.error(f"split is {row.text('split')[:40]!r}, not one of {', '.join(_SPLITS)}")
        if not (study.isdecimal() and subject.isdecimal()):
            raise row.error(f"study {study[:40]!r} of subject {subject[:40]!r} is no number")
        known = studies.setdefault(study, _Images(subject, split))
        if (known.subject, known.split) != (subject, split):
            raise row.error(f"study {study} has another subject or split in an earlier row")
        view = views.get(image, "")
        path = settings.path / _folder(subject, study) / f"{image}.{settings.suffix}"
        if view not in _FRONTAL + _LATERAL:
            other += 1
        elif not path.exists():
            absent += 1
        elif view in _FRONTAL:
            known.frontals.append((_FRONTAL.index(view), path))
        else:
            known.laterals.append(path)
    _log.info("%d images are not on the disk, %d neither frontal nor lateral", absent, other)
    return studies


def _labels(tables: Path) -> dict[str, frozenset[str]]:
    """Findings that CheXpert's labeller calls present; nothing where its table is not there."""
    try:
        table = find_table(tables, f"{TABLES}chexpert.csv")
    except TrainingDataError:
        return {}
    return {
        row.require("study_id"): frozenset(
            _NORMAL.get(name, name)
            for name, value in row.values.items()
            if name not in _IDS and value in {"1.0", "1"}
        )
        for row in read_rows(table, required=("study_id",))
    }


def _report_folder(folder: Path) -> Path:
    """The folder above ``files``; the archive unpacks with or without a folder of its own."""
    inside = (folder, folder / "mimic-cxr-reports", folder.parent)
    return next((path for path in inside if (path / "files").is_dir()), folder)


def _folder(subject: str, study: str) -> str:
    return f"files/p{subject[:2]}/p{subject}/s{study}"


def _text(path: Path) -> str:
    """Findings and impression of a report file; empty if it is not there."""
    try:
        sections = parse_sections(path.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise TrainingDataError(f"cannot read {path}: {error.strerror}") from error
    return "\n".join(part for part in (sections.findings, sections.impression) if part)
