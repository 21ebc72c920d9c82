"""Open-I: a folder with ``studies.jsonl``, a study a line, and the images it names."""

from pathlib import Path

from encoders.training.dataset import Split, TrainingDataError, TrainingStudy
from encoders.training.sources.tables import TableRow, read_rows

ROTATED = ("CXR994_IM-2478-1001", "CXR2146_IM-0766-13")
"""Images that lie on their side."""

_SPLITS = {"train": Split.TRAIN, "extra": Split.TRAIN, "val": Split.VAL}
_NO_FINDING = frozenset({"No Indexing", "Technical Quality of Image Unsatisfactory"})
"""MeSH headings that say nothing about the image."""


def read_openi(folder: Path) -> list[TrainingStudy]:
    """All studies of the folder. Every study is taken for another patient.

    Raises:
        TrainingDataError: the table is missing or a line cannot be used; the message names it.
    """
    table = folder / "studies.jsonl"
    if not table.is_file():
        raise TrainingDataError(
            f"there is no {table}; set CXR_DATA or --data to the folder that holds "
            "openi/studies.jsonl"
        )
    return [_study(row, folder) for row in read_rows(table, needed=("id", "split", "labels"))]


def _study(row: TableRow, folder: Path) -> TrainingStudy:
    values = row.values
    try:
        frontals, laterals = (
            tuple(folder / name for name in values[view] if not any(bad in name for bad in ROTATED))
            for view in ("frontal", "lateral")
        )
        terms = [term.split("/") for term in values["labels"]["mesh_major"]]
        return TrainingStudy(
            study_id=values["id"],
            patient_id=values["id"],
            frontals=frontals,
            laterals=laterals,
            text="\n".join(
                part for part in (values["findings"], values["impression"]) if part.strip()
            ),
            labels=frozenset(label.strip() for label in values["labels"]["problems"]) - _NO_FINDING,
            split=_SPLITS[values["split"]],
            details=frozenset(
                f"{heading}/{qualifier}"
                for heading, *qualifiers in terms
                for qualifier in qualifiers
            ),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise row.error(f"not a study of Open-I ({error!r})") from error
