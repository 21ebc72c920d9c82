"""Studies to train on: images, a report, finding labels, and a split that does not leak.

Each data source has its reader in `encoders.training.sources`.
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

_SAME_TEXT = "training text identical to a {} text"


class TrainingDataError(Exception):
    """Training data or settings cannot be used; the message says why and what to do."""


class Split(StrEnum):
    """What a study is used for."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class TrainingStudy:
    """One examination.

    Attributes:
        study_id: unique in its source.
        patient_id: Open-I has none; there each study counts as its own patient.
        frontals: validation uses the first.
        text: findings and impression, as in `rag.schema.ReportRecord.text`.
        labels: finding labels that came with the report; validation uses only these.
        fine_labels: further labels to train on (in Open-I a MeSH heading with each of its
            qualifiers: ``Opacity/left``).
        labels_complete: whether a missing label means absent. If not, the label head does not
            learn from this study; its labels still count in the similarity of reports.
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
    """An expert's gaze or boxes on an image that is not yet matched to a study.

    ``image`` is its path, or its file name with or without the suffix (in MIMIC-CXR the DICOM id);
    ``where`` is the table row, for error messages.
    """

    image: str
    annotation: Annotation
    where: str


@dataclass(frozen=True, slots=True)
class ExpertImage:
    """An image of a training study with an expert's gaze or boxes."""

    study_id: str
    path: Path
    annotation: Annotation


@dataclass(frozen=True, slots=True)
class LabelledExample:
    """An image without a report that radiologists labelled, and may have drawn on.

    Attributes:
        image_id: unique in its source.
        labels: ``source/class`` to whether it is present; a class that nobody judged is missing.
        outlines: finding to its outlines; empty where it was judged absent.
    """

    image_id: str
    patient_id: str
    path: Path
    labels: Mapping[str, bool]
    outlines: Mapping[str, tuple[Outline, ...]]
    split: Split


@dataclass(frozen=True, slots=True)
class Dataset:
    """Everything to train and validate on; ``left_out`` counts what was excluded, by reason."""

    train: tuple[TrainingStudy, ...]
    val: tuple[TrainingStudy, ...]
    left_out: dict[str, int]
    experts: tuple[ExpertImage, ...] = ()
    labelled: tuple[LabelledExample, ...] = ()

    def first(self, count: int) -> "Dataset":
        """Only the first ``count`` training and validation studies.

        Training studies with expert images are always kept.
        """
        annotated = {image.study_id for image in self.experts}
        further = (study for study in self.train[count:] if study.study_id in annotated)
        return replace(self, train=(*self.train[:count], *further), val=self.val[:count])


def build_dataset(
    studies: Sequence[TrainingStudy], *, same_texts: Literal["drop", "keep"] = "drop"
) -> Dataset:
    """Split the studies and leave out those that cannot be used.

    Test studies are used only to find overlap. Training studies whose text is, word for word, that
    of a val or test study are counted and, by ``same_texts``, left out.

    Raises:
        TrainingDataError: a patient is in two splits.
    """
    _refuse_shared_patients(studies)
    held_out_texts = {
        split: {normalize_text(study.text) for study in studies if study.split is split}
        for split in (Split.VAL, Split.TEST)
    }
    left_out = Counter(dict.fromkeys(("no text", "no image", _SAME_TEXT.format(Split.VAL)), 0))
    kept: dict[Split, list[TrainingStudy]] = {split: [] for split in Split}
    same = 0
    for study in studies:
        in_training = study.split is Split.TRAIN
        text = normalize_text(study.text)
        leaked_from = next((s for s, texts in held_out_texts.items() if text in texts), None)
        reason = ""
        if study.split is Split.TEST:
            reason = "held back for test"
        elif not study.text:
            reason = "no text"
        elif not (study.frontals or (study.laterals and in_training)):
            reason = "no image"
        elif in_training and leaked_from:
            same += 1
            reason = _SAME_TEXT.format(leaked_from) if same_texts == "drop" else ""
        if reason:
            left_out[reason] += 1
        else:
            kept[study.split].append(study)
    dataset = Dataset(tuple(kept[Split.TRAIN]), tuple(kept[Split.VAL]), dict(left_out))
    _log.info(
        "%d train, %d val studies; %d training texts also occur in val or test; left out: %s",
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
            count = sum(study.patient_id in shared for study in studies)
            raise TrainingDataError(
                f"{len(shared)} patients are in {one} and {other}, {min(shared)} first, with "
                f"{count} studies; split by patient"
            )


def image_pairs(studies: Sequence[TrainingStudy], *, laterals: bool) -> Iterator[tuple[Path, int]]:
    """(image, index of its study) for every image to train on."""
    for index, study in enumerate(studies):
        for image in (*study.frontals, *(study.laterals if laterals else ())):
            yield image, index


def frequent_labels(labels: Iterable[frozenset[str]], *, min_count: int) -> list[str]:
    """Labels of at least ``min_count`` studies, most frequent first."""
    counts = Counter(label for study in labels for label in study)
    kept = [label for label, count in counts.items() if count >= min_count]
    return sorted(kept, key=lambda label: (-counts[label], label))
