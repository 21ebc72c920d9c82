"""Studies to learn from: images, a report, finding labels, and a split that does not leak.

Owns the records, the reader of the Open-I folder and the cleaning of a split. Knows nothing of
pixels or models. Other collections are other readers of the same records
(`encoders.training.sources`).
"""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from encoders.annotations import Annotation

_log = logging.getLogger(__name__)


class TrainingDataError(Exception):
    """A data folder cannot be used; the message says why and what to do."""


class Split(StrEnum):
    """What a study is used for."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Study:
    """One examination.

    Attributes:
        study_id: unique in its collection.
        patient_id: in Open-I every study is another patient.
        frontals: frontal images, the first is the one that is asked with in validation.
        laterals: lateral images.
        text: findings and impression, as in `rag.schema.ReportRecord.text`.
        labels: finding labels that came with the report; what validation compares.
        details: finer ones, learned from beside the labels (in Open-I a MeSH heading with each of
            its qualifiers: ``Opacity/left``; ``Lung/hypoinflation`` and ``Lung/hyperdistention``
            are opposites under one label).
        split: what it is used for.
    """

    study_id: str
    patient_id: str
    frontals: tuple[Path, ...]
    laterals: tuple[Path, ...]
    text: str
    labels: frozenset[str]
    split: Split
    details: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ExpertImage:
    """An image of a training study, and where an expert looked or drew on it."""

    study_id: str
    image: Path
    annotation: Annotation


@dataclass(frozen=True, slots=True)
class Collection:
    """Studies for training and validation, and how many were left out, by reason.

    ``same_texts`` counts training studies whose text is, word for word, that of a study of another
    split, whether or not they were left out for it.
    """

    train: tuple[Study, ...]
    val: tuple[Study, ...]
    left_out: dict[str, int]
    experts: tuple[ExpertImage, ...] = ()
    same_texts: int = 0

    def first(self, count: int) -> "Collection":
        """The same with the first ``count`` training studies and as many for validation.

        Studies with expert images are kept whatever their place.
        """
        marked = {image.study_id for image in self.experts}
        further = (study for study in self.train[count:] if study.study_id in marked)
        return replace(self, train=(*self.train[:count], *further), val=self.val[:count])


ROTATED = ("CXR994_IM-2478-1001", "CXR2146_IM-0766-13")
"""Open-I images that lie on their side."""

_OPENI_SPLITS = {"train": Split.TRAIN, "extra": Split.TRAIN, "val": Split.VAL}
_NO_FINDING = frozenset({"No Indexing", "Technical Quality of Image Unsatisfactory"})
"""MeSH headings that say nothing about the image."""


def read_openi(folder: Path) -> list[Study]:
    """All studies of an Open-I folder: ``studies.jsonl`` and the images it names.

    Raises:
        TrainingDataError: the folder is not there or a line cannot be read.
    """
    table = folder / "studies.jsonl"
    try:
        lines = table.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise TrainingDataError(
            f"cannot read {table}: {error.strerror}; set CXR_DATA or --data to the folder that "
            "holds openi/studies.jsonl"
        ) from error
    studies = []
    for number, line in enumerate(lines, start=1):
        try:
            studies.append(_openi_study(json.loads(line), folder))
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingDataError(f"{table} line {number}: {error!r}") from error
    return studies


def _openi_study(row: dict[str, Any], folder: Path) -> Study:
    frontals, laterals = (
        tuple(folder / name for name in row[view] if not any(bad in name for bad in ROTATED))
        for view in ("frontal", "lateral")
    )
    return Study(
        study_id=row["id"],
        patient_id=row["id"],
        frontals=frontals,
        laterals=laterals,
        text="\n".join(part for part in (row["findings"], row["impression"]) if part.strip()),
        labels=frozenset(label.strip() for label in row["labels"]["problems"]) - _NO_FINDING,
        split=_OPENI_SPLITS[row["split"]],
        details=frozenset(
            f"{heading}/{qualifier}"
            for heading, *qualifiers in (term.split("/") for term in row["labels"]["mesh_major"])
            for qualifier in qualifiers
        ),
    )


def clean(studies: Sequence[Study], *, same_texts: Literal["drop", "keep"] = "drop") -> Collection:
    """Refuse overlap, drop what cannot be learned from, and training texts of another split.

    Test studies are held back: they only say which patients and texts must not be trained on.

    Args:
        studies: of all splits.
        same_texts: whether training studies are dropped whose text is, word for word, that of a
            val or test study. They are counted either way.

    Raises:
        TrainingDataError: a patient is in two splits.
    """
    _refuse_shared_patients(studies)
    asked = {
        split: {_same_text(study.text) for study in studies if study.split is split}
        for split in (Split.VAL, Split.TEST)
    }
    left_out = Counter({"no text": 0, "no image": 0, _same_as(Split.VAL): 0})
    kept: dict[Split, list[Study]] = {split: [] for split in Split}
    same = 0
    for study in studies:
        text = _same_text(study.text)
        twin = next((split for split, texts in asked.items() if text in texts), None)
        if study.split is Split.TEST:
            left_out["held back for test"] += 1
        elif not study.text:
            left_out["no text"] += 1
        elif not (study.frontals or (study.laterals and study.split is Split.TRAIN)):
            left_out["no image"] += 1
        elif study.split is Split.TRAIN and twin:
            same += 1
            if same_texts == "drop":
                left_out[_same_as(twin)] += 1
            else:
                kept[study.split].append(study)
        else:
            kept[study.split].append(study)
    collection = Collection(
        tuple(kept[Split.TRAIN]), tuple(kept[Split.VAL]), dict(left_out), same_texts=same
    )
    _log.info(
        "%d train, %d val studies; %d training texts are those of another split; left out: %s",
        len(collection.train),
        len(collection.val),
        same,
        collection.left_out,
    )
    return collection


def _refuse_shared_patients(studies: Sequence[Study]) -> None:
    patients = {
        split: {study.patient_id for study in studies if study.split is split} for split in Split
    }
    for one, other in combinations(Split, 2):
        if shared := patients[one] & patients[other]:
            both = sum(study.patient_id in shared for study in studies)
            raise TrainingDataError(
                f"{len(shared)} patients are in {one} and {other}, {min(shared)} first, with "
                f"{both} studies; split by patient"
            )


def _same_as(split: Split) -> str:
    return f"training text identical to a {split} text"


def image_pairs(studies: Sequence[Study], *, laterals: bool) -> Iterator[tuple[Path, int]]:
    """(image, row of its study) for every image that is trained on."""
    for row, study in enumerate(studies):
        for image in (*study.frontals, *(study.laterals if laterals else ())):
            yield image, row


def frequent(labels: Iterable[frozenset[str]], *, least: int) -> list[str]:
    """Labels that at least so many studies have, most frequent first."""
    counts = Counter(label for study in labels for label in study)
    kept = [label for label, count in counts.items() if count >= least]
    return sorted(kept, key=lambda label: (-counts[label], label))


def _same_text(text: str) -> str:
    return " ".join(text.lower().split())
