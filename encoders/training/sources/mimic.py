"""MIMIC-CXR with its official split.

Images that are not on disk are left out, so that a part of the collection can be used.

Source: Johnson et al., MIMIC-CXR-JPG 2.0.0 and 2.1.0, PhysioNet.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

from encoders.report_sections import parse_sections
from encoders.training.dataset import Split, TrainingDataError, TrainingStudy
from encoders.training.sources.settings import Mimic
from encoders.training.sources.tables import read_rows

_log = logging.getLogger(__name__)

_TABLE_PREFIX = "mimic-cxr-2.0.0-"
"""Also in release 2.1.0."""

_IDS = ("dicom_id", "study_id", "subject_id")
_SPLITS = {"train": Split.TRAIN, "validate": Split.VAL, "test": Split.TEST}
_FRONTAL, _LATERAL = ("PA", "AP"), ("LATERAL", "LL")
_LABEL_NAMES = {"no finding": "normal"}
"""Renamed as in Open-I, where "normal" is not counted as a finding."""


@dataclass(slots=True)
class _StudyImages:
    """The images of one study; ``frontals`` with a rank, PA first."""

    subject: str
    split: Split
    frontals: list[tuple[int, Path]] = field(default_factory=list)
    laterals: list[Path] = field(default_factory=list)


def read_mimic(settings: Mimic) -> list[TrainingStudy]:
    """Studies with their images (PA before AP), findings and impression, and CheXpert's labels."""
    tables = settings.tables or settings.path
    reports = _report_root(settings.reports)
    labels = _read_labels(tables)
    studies = [
        TrainingStudy(
            study_id=f"s{study_id}",
            patient_id=f"p{images.subject}",
            frontals=tuple(path for _, path in sorted(images.frontals)),
            laterals=tuple(images.laterals),
            text=_read_report(reports / f"{_study_folder(images.subject, study_id)}.txt"),
            labels=labels.get(study_id, frozenset()),
            split=images.split,
        )
        for study_id, images in _find_images(tables, settings).items()
    ]
    for missing, found in (
        (f".{settings.suffix} image in {settings.path}", any(study.frontals for study in studies)),
        (f"report in {reports}", any(study.text for study in studies)),
    ):
        if not found:
            raise TrainingDataError(
                f"there is no {missing} of the {len(studies)} studies of the split table; expected "
                "is files/p10/p10000032/s50414267/ with images, and the same with .txt for the "
                "report"
            )
    return studies


def _find_images(tables: Path, settings: Mimic) -> dict[str, _StudyImages]:
    views = {
        row.require("dicom_id"): row.text("viewposition").upper()
        for row in read_rows(_find_table(tables, "metadata"), required=("dicom_id", "viewposition"))
    }
    studies: dict[str, _StudyImages] = {}
    missing = other_views = 0
    for row in read_rows(_find_table(tables, "split"), required=(*_IDS, "split")):
        image, study_id, subject = (row.require(key) for key in _IDS)
        split = _SPLITS.get(row.text("split"))
        if split is None:
            raise row.error(f"split is {row.text('split')[:40]!r}, not one of {', '.join(_SPLITS)}")
        if not (study_id.isdecimal() and subject.isdecimal()):
            raise row.error(f"study {study_id[:40]!r} or subject {subject[:40]!r} is not a number")
        study = studies.setdefault(study_id, _StudyImages(subject, split))
        if (study.subject, study.split) != (subject, split):
            raise row.error(f"study {study_id} has another subject or split in an earlier row")
        view = views.get(image, "")
        path = settings.path / _study_folder(subject, study_id) / f"{image}.{settings.suffix}"
        if view not in _FRONTAL + _LATERAL:
            other_views += 1
        elif not path.exists():
            missing += 1
        elif view in _FRONTAL:
            study.frontals.append((_FRONTAL.index(view), path))
        else:
            study.laterals.append(path)
    _log.info("%d images not on disk, %d neither frontal nor lateral", missing, other_views)
    return studies


def _find_table(folder: Path, name: str) -> Path:
    """A table as published, or unpacked from its .gz."""
    file = f"{_TABLE_PREFIX}{name}.csv"
    for path in (folder / file, folder / f"{file}.gz"):
        if path.is_file():
            return path
    raise TrainingDataError(
        f"there is no {file} or {file}.gz in {folder}; set the path to the folder that holds it"
    )


def _read_labels(tables: Path) -> dict[str, frozenset[str]]:
    """Positive labels of the CheXpert labeller by study id; empty if its table is not there."""
    try:
        table = _find_table(tables, "chexpert")
    except TrainingDataError:
        return {}
    return {
        row.require("study_id"): frozenset(
            _LABEL_NAMES.get(name, name)
            for name, value in row.values.items()
            if name not in _IDS and value in {"1.0", "1"}
        )
        for row in read_rows(table, required=("study_id",))
    }


def _report_root(folder: Path) -> Path:
    """The folder that holds ``files``: the archive unpacks with or without one of its own."""
    candidates = (folder, folder / "mimic-cxr-reports", folder.parent)
    return next((path for path in candidates if (path / "files").is_dir()), folder)


def _study_folder(subject: str, study_id: str) -> str:
    return f"files/p{subject[:2]}/p{subject}/s{study_id}"


def _read_report(path: Path) -> str:
    """Findings and impression of a report file; empty if it does not exist."""
    try:
        sections = parse_sections(path.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise TrainingDataError(f"cannot read {path}: {error.strerror}") from error
    return "\n".join(part for part in (sections.findings, sections.impression) if part)
