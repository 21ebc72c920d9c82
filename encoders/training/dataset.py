"""Studies to learn from: images, a report, finding labels, and a split that does not leak.

Each collection has its reader in `encoders.training.sources`.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import combinations
from pathlib import Path
from typing import Literal

from encoders.annotations import Annotation, Outline
from encoders.report_sections import normalize_text

_log = logging.getLogger(__name__)

_TWIN = "training text identical to a {} text"


class TrainingDataError(Exception):
    """A data folder cannot be used; the message says why and what to do."""


class Split(StrEnum):
    """What a study is used for."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class TrainingStudy:
    """One examination.

    Attributes:
        study_id: unique in its collection.
        patient_id: in Open-I every study is another patient.
        frontals: validation uses the first.
        text: findings and impression, as in `rag.schema.ReportRecord.text`.
        labels: finding labels that came with the report; what validation compares.
        fine_labels: finer ones, trained on beside the labels (in Open-I a MeSH heading with each of
            its qualifiers: ``Opacity/left``).
        labels_complete: whether a label that is missing is not there; else only those that are
            given are known, and they teach nothing but which reports are alike.
    """

    study_id: str
    patient_id: str
    frontals: tuple[Path, ...]
    laterals: tuple[Path, ...]
    text: str
    labels: frozenset[str]
    split: Split
    fine_labels: frozenset[str] = frozenset()
    labels_complete: bool = True


@dataclass(frozen=True, slots=True)
class ImageAnnotation:
    """Where one expert looked or drew on one image.

    ``image`` is its path, or its file name with or without the suffix (in MIMIC-CXR the DICOM id);
    ``where`` names the row it comes from.
    """

    image: str
    annotation: Annotation
    where: str


@dataclass(frozen=True, slots=True)
class ExpertImage:
    """An image of a training study, and where an expert looked or drew on it."""

    study_id: str
    path: Path
    annotation: Annotation


@dataclass(frozen=True, slots=True)
class LabelledExample:
    """An image without a report that readers labelled, and perhaps drew on.

    Attributes:
        image_id: unique in its collection.
        labels: ``source/class`` to whether it is there; what a source did not judge is missing.
        outlines: finding to what was drawn; empty where it was looked for and is not there.
        split: held-back patients are for validation.
    """

    image_id: str
    patient_id: str
    path: Path
    labels: Mapping[str, bool]
    outlines: Mapping[str, tuple[Outline, ...]]
    split: Split


@dataclass(frozen=True, slots=True)
class Dataset:
    """Studies for training and validation, and how many were left out, by reason."""

    train: tuple[TrainingStudy, ...]
    val: tuple[TrainingStudy, ...]
    left_out: dict[str, int]
    experts: tuple[ExpertImage, ...] = ()
    labelled: tuple[LabelledExample, ...] = ()

    def first(self, count: int) -> "Dataset":
        """The same with the first ``count`` training studies and as many for validation.

        Studies with expert images are kept whatever their place.
        """
        marked = {image.study_id for image in self.experts}
        further = (study for study in self.train[count:] if study.study_id in marked)
        return replace(self, train=(*self.train[:count], *further), val=self.val[:count])


def build_dataset(
    studies: Sequence[TrainingStudy], *, same_texts: Literal["drop", "keep"] = "drop"
) -> Dataset:
    """Refuse overlap, drop what cannot be learned from, and training texts of another split.

    Test studies are held back: they only say which patients and texts must not be trained on.
    Training studies whose text is, word for word, that of a val or test study are counted and, by
    ``same_texts``, dropped.

    Raises:
        TrainingDataError: a patient is in two splits.
    """
    _refuse_shared_patients(studies)
    asked = {
        split: {normalize_text(study.text) for study in studies if study.split is split}
        for split in (Split.VAL, Split.TEST)
    }
    left_out = Counter(dict.fromkeys(("no text", "no image", _TWIN.format(Split.VAL)), 0))
    kept: dict[Split, list[TrainingStudy]] = {split: [] for split in Split}
    same = 0
    for study in studies:
        in_training = study.split is Split.TRAIN
        text = normalize_text(study.text)
        twin = next((split for split, texts in asked.items() if text in texts), None)
        reason = ""
        if study.split is Split.TEST:
            reason = "held back for test"
        elif not study.text:
            reason = "no text"
        elif not (study.frontals or (study.laterals and in_training)):
            reason = "no image"
        elif in_training and twin:
            same += 1
            reason = _TWIN.format(twin) if same_texts == "drop" else ""
        if reason:
            left_out[reason] += 1
        else:
            kept[study.split].append(study)
    dataset = Dataset(tuple(kept[Split.TRAIN]), tuple(kept[Split.VAL]), dict(left_out))
    _log.info(
        "%d train, %d val studies; %d training texts are those of another split; left out: %s",
        len(dataset.train),
        len(dataset.val),
        same,
        dataset.left_out,
    )
    return dataset


def _refuse_shared_patients(studies: Sequence[TrainingStudy]) -> None:
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


def image_pairs(studies: Sequence[TrainingStudy], *, laterals: bool) -> Iterator[tuple[Path, int]]:
    """(image, row of its study) for every image that is trained on."""
    for row, study in enumerate(studies):
        for image in (*study.frontals, *(study.laterals if laterals else ())):
            yield image, row


def frequent_labels(labels: Iterable[frozenset[str]], *, min_count: int) -> list[str]:
    """Labels of at least so many studies, most frequent first."""
    counts = Counter(label for study in labels for label in study)
    kept = [label for label, count in counts.items() if count >= min_count]
    return sorted(kept, key=lambda label: (-counts[label], label))
