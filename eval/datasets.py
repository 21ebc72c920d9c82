"""Labelled images: Open-I, CheXpert 5x200, RSNA, NIH 14x100, or your own table.

A layout reads a data set's own table into images with ids, patients, labels and perhaps reports.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from eval.errors import EvalDataError, EvalUsageError
from eval.io.fields import FieldError, identifier, text
from eval.io.files import parse_entries
from eval.zero_shot_prompts import class_names, classes_of


class DatasetLayout(StrEnum):
    """Names of the layouts."""

    OPEN_I = "open-i"
    CHEXPERT_5X200 = "chexpert-5x200"
    RSNA = "rsna"
    NIH_14X100 = "nih-14x100"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class DatasetImage:
    """One image of a data set.

    Attributes:
        image: relative to the data set's folder of images.
        labels: classes that hold; exactly one where the set is ``single``.
        text: the report, empty if there is none.
    """

    image_id: str
    patient_id: str
    image: str
    labels: frozenset[str]
    text: str = ""
    split: str = ""


@dataclass(frozen=True, slots=True)
class ImageDataset:
    """Images and their classes.

    Attributes:
        single: whether each image has exactly one class (accuracy and F1), or any number (AUROC).
    """

    images: tuple[DatasetImage, ...]
    classes: tuple[str, ...]
    single: bool


def read_layout(
    layout: DatasetLayout, path: Path, *, split: str = "", per_class: int = 100, seed: int = 0
) -> ImageDataset:
    """Images of a data set, sorted by id.

    Args:
        layout: which files these are.
        path: the table: studies.jsonl, chexpert_5x200.csv, stage_2_train_labels.csv,
            Data_Entry_2017.csv, or your own CSV or JSONL with ``id``, ``image``, ``labels`` (a
            list, or names with | between), and perhaps ``patient_id``, ``text`` and ``split``.
        split: this split only, where the table has splits.
        per_class: images drawn of each class in the NIH 14x100 layout.
        seed: of that draw.

    Raises:
        EvalUsageError: no such file.
        EvalDataError: names every line that is wrong.
    """
    found = parse_entries(
        path,
        lambda entry: _READERS[layout](entry.values),
        # RSNA has a line per box
        key=None if layout is DatasetLayout.RSNA else lambda image: image.image_id,
        what="image",
    )
    by_id = {image.image_id: image for image in found.values()}
    images = sorted(by_id.values(), key=lambda image: image.image_id)
    images = [image for image in images if not split or image.split == split]
    if layout is DatasetLayout.NIH_14X100:
        images = _draw(images, per_class=per_class, seed=seed)
    if not images:
        where = f" in split {split!r}" if split else ""
        raise EvalUsageError(f"{path} holds no image{where} for the layout {layout}")
    single = layout in {DatasetLayout.CHEXPERT_5X200, DatasetLayout.NIH_14X100}
    named = sorted(frozenset().union(*(image.labels for image in images)))
    classes = classes_of_layout(layout) if layout in _DATA_SETS else tuple(named)
    return ImageDataset(tuple(images), classes, single)


def classes_of_layout(layout: DatasetLayout) -> tuple[str, ...]:
    """Classes of a data set that has its own.

    Raises:
        EvalUsageError: your own table has the classes that stand in it.
    """
    if layout not in _DATA_SETS:
        raise EvalUsageError(f"the layout {layout} has no classes of its own")
    return classes_of(_DATA_SETS[layout])


def _open_i(values: dict[str, Any]) -> DatasetImage | None:
    frontal = values.get("frontal")
    labels = values.get("labels")
    if not isinstance(frontal, list) or not isinstance(labels, dict):
        raise FieldError("has no list of frontal images, or no labels")
    if not frontal:
        return None  # lateral images only
    sections = (text(values, "findings"), text(values, "impression"))
    study = identifier(values, "id")
    return DatasetImage(
        image_id=study,
        patient_id=study,
        image=str(frontal[0]),
        labels=class_names("open-i", labels.get("problems", [])),
        text="\n".join(filter(None, sections)),
        split=identifier(values, "split"),
    )


def _chexpert(values: dict[str, Any]) -> DatasetImage:
    path = identifier(values, "path")
    given = [name for name, cell in values.items() if cell in {"1", "1.0"}]
    labels = class_names("chexpert", given)
    if not path or len(labels) != 1:
        raise FieldError(
            f"has {len(labels)} of the five classes, or no Path: exactly one is wanted"
        )
    patient = next((part for part in Path(path).parts if part.startswith("patient")), path)
    return DatasetImage(path, patient, path, labels)


def _rsna(values: dict[str, Any]) -> DatasetImage:
    patient, target = identifier(values, "patientid"), identifier(values, "target")
    if not patient or target not in {"0", "1"}:
        raise FieldError("has no patientId, or a Target that is neither 0 nor 1")
    found = frozenset({"Pneumonia"}) if target == "1" else frozenset()
    return DatasetImage(patient, patient, f"{patient}.dcm", found)


def _nih(values: dict[str, Any]) -> DatasetImage | None:
    image, patient = identifier(values, "image index"), identifier(values, "patient id")
    given = identifier(values, "finding labels").split("|")
    if not image or not patient:
        raise FieldError("has no Image Index or no Patient ID")
    labels = class_names("nih", given)
    # the protocol takes images with exactly one of the fourteen findings
    return DatasetImage(image, patient, image, labels) if len(given) == len(labels) == 1 else None


def _table(values: dict[str, Any]) -> DatasetImage:
    image_id, image = identifier(values, "id", "study_id"), identifier(values, "image", "path")
    given = values.get("labels")
    if not image_id or not image:
        raise FieldError("has no id or no image")
    if isinstance(given, str) or given is None:
        given = [name.strip() for name in (given or "").split("|")]
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise FieldError("has labels that are neither a list of names nor names with | between")
    return DatasetImage(
        image_id=image_id,
        patient_id=identifier(values, "patient_id", "subject_id") or image_id,
        image=image,
        labels=frozenset(filter(None, given)),
        text=text(values, "text"),
        split=identifier(values, "split"),
    )


_READERS: dict[DatasetLayout, Callable[[dict[str, Any]], DatasetImage | None]] = {
    DatasetLayout.OPEN_I: _open_i,
    DatasetLayout.CHEXPERT_5X200: _chexpert,
    DatasetLayout.RSNA: _rsna,
    DatasetLayout.NIH_14X100: _nih,
    DatasetLayout.TABLE: _table,
}
_DATA_SETS = {
    DatasetLayout.OPEN_I: "open-i",
    DatasetLayout.CHEXPERT_5X200: "chexpert",
    DatasetLayout.RSNA: "rsna",
    DatasetLayout.NIH_14X100: "nih",
}


def _draw(images: Sequence[DatasetImage], *, per_class: int, seed: int) -> list[DatasetImage]:
    """So many images of each class, at random."""
    by_class: dict[str, list[DatasetImage]] = defaultdict(list)
    for image in images:
        by_class[next(iter(image.labels))].append(image)
    few = {label: len(found) for label, found in by_class.items() if len(found) < per_class}
    missing = set(classes_of("nih")) - by_class.keys()
    if few or missing:
        counts = few | dict.fromkeys(missing, 0)
        raise EvalDataError(f"fewer than {per_class} images of {counts}: lower --per-class")
    generator = random.Random(seed)  # noqa: S311 - a sample, not a secret
    drawn = [f for label in sorted(by_class) for f in generator.sample(by_class[label], per_class)]
    return sorted(drawn, key=lambda image: image.image_id)
