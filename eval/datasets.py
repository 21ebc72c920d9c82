"""Labelled images: Open-I, CheXpert 5x200, RSNA, NIH 14x100, or your own table.

A layout reads a data set's own table into images with ids, patients, labels and perhaps reports.
Which classes a data set has, and what it calls them, is in datasets.toml; the sentences that stand
for a class are in zero_shot_prompts.toml.
"""

import random
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeGuard

from eval.entries import Entry, FieldError, parse_entries
from eval.errors import EvalDataError, EvalUsageError


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

    def renamed(self, classes: Mapping[str, Sequence[str]]) -> "ImageDataset":
        """With classes of other names, each for one or more of the old; the rest is left out."""
        images = [
            replace(
                image,
                labels=frozenset(name for name, old in classes.items() if image.labels & set(old)),
            )
            for image in self.images
        ]
        return ImageDataset(tuple(images), tuple(classes), self.single)


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
        _READERS[layout],
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
    classes = tuple(named) if layout is DatasetLayout.TABLE else classes_of(layout)
    return ImageDataset(tuple(images), classes, single)


def classes_of(layout: DatasetLayout) -> tuple[str, ...]:
    """Classes of a data set that has its own.

    Raises:
        EvalUsageError: your own table has the classes that stand in it.
    """
    if layout is DatasetLayout.TABLE:
        raise EvalUsageError(f"the layout {layout} has no classes of its own")
    return tuple(_toml("datasets.toml")[layout])


def class_names(layout: DatasetLayout, given: Iterable[str]) -> frozenset[str]:
    """Classes that a data set's own label names stand for; names it does not map are left out."""
    names = {name.strip().lower() for name in given}
    table = _toml("datasets.toml")[layout]
    return frozenset(label for label, own in table.items() if names.intersection(own))


def _open_i(entry: Entry) -> DatasetImage | None:
    frontal = entry.values.get("frontal")
    labels = entry.values.get("labels")
    problems = labels.get("problems", []) if isinstance(labels, dict) else None
    if not _are_texts(frontal) or not _are_texts(problems):
        raise FieldError("has no list of frontal images, or no labels with a list of problems")
    if not frontal:
        return None  # lateral images only
    sections = (entry.text("findings"), entry.text("impression"))
    study = entry.identifier("id")
    return DatasetImage(
        image_id=study,
        patient_id=study,
        image=frontal[0],
        labels=class_names(DatasetLayout.OPEN_I, problems),
        text="\n".join(filter(None, sections)),
        split=entry.identifier("split"),
    )


def _chexpert(entry: Entry) -> DatasetImage:
    path = entry.identifier("path")
    given = [name for name, cell in entry.values.items() if str(cell) in {"1", "1.0"}]
    labels = class_names(DatasetLayout.CHEXPERT_5X200, given)
    if not path or len(labels) != 1:
        raise FieldError(
            f"has {len(labels)} of the five classes, or no Path: exactly one is wanted"
        )
    patient = next((part for part in Path(path).parts if part.startswith("patient")), path)
    return DatasetImage(path, patient, path, labels)


def _rsna(entry: Entry) -> DatasetImage:
    patient, target = entry.identifier("patientid"), entry.identifier("target")
    if not patient or target not in {"0", "1"}:
        raise FieldError("has no patientId, or a Target that is neither 0 nor 1")
    found = frozenset({"Pneumonia"}) if target == "1" else frozenset()
    return DatasetImage(patient, patient, f"{patient}.dcm", found)


def _nih(entry: Entry) -> DatasetImage | None:
    image, patient = entry.identifier("image index"), entry.identifier("patient id")
    given = entry.identifier("finding labels").split("|")
    if not image or not patient:
        raise FieldError("has no Image Index or no Patient ID")
    labels = class_names(DatasetLayout.NIH_14X100, given)
    # the protocol takes images with exactly one of the fourteen findings
    return DatasetImage(image, patient, image, labels) if len(given) == len(labels) == 1 else None


def _table(entry: Entry) -> DatasetImage:
    image_id, image = entry.identifier("id", "study_id"), entry.identifier("image", "path")
    given = entry.values.get("labels")
    if not image_id or not image:
        raise FieldError("has no id or no image")
    if isinstance(given, str) or given is None:
        given = [name.strip() for name in (given or "").split("|")]
    if not _are_texts(given):
        raise FieldError("has labels that are neither a list of names nor names with | between")
    return DatasetImage(
        image_id=image_id,
        patient_id=entry.identifier("patient_id", "subject_id") or image_id,
        image=image,
        labels=frozenset(filter(None, given)),
        text=entry.text("text"),
        split=entry.identifier("split"),
    )


def _are_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


_READERS: dict[DatasetLayout, Callable[[Entry], DatasetImage | None]] = {
    DatasetLayout.OPEN_I: _open_i,
    DatasetLayout.CHEXPERT_5X200: _chexpert,
    DatasetLayout.RSNA: _rsna,
    DatasetLayout.NIH_14X100: _nih,
    DatasetLayout.TABLE: _table,
}


def _draw(images: Sequence[DatasetImage], *, per_class: int, seed: int) -> list[DatasetImage]:
    """So many images of each class, at random."""
    by_class: dict[str, list[DatasetImage]] = defaultdict(list)
    for image in images:
        by_class[next(iter(image.labels))].append(image)
    few = {label: len(found) for label, found in by_class.items() if len(found) < per_class}
    missing = set(classes_of(DatasetLayout.NIH_14X100)) - by_class.keys()
    if few or missing:
        counts = few | dict.fromkeys(missing, 0)
        raise EvalDataError(f"fewer than {per_class} images of {counts}: lower --per-class")
    generator = random.Random(seed)  # noqa: S311 - a sample, not a secret
    drawn = [f for label in sorted(by_class) for f in generator.sample(by_class[label], per_class)]
    return sorted(drawn, key=lambda image: image.image_id)


@dataclass(frozen=True, slots=True)
class ClassPrompt:
    """A sentence that says a finding is there, or that it is not."""

    label: str
    present: bool
    text: str


def prompts(labels: Iterable[str]) -> tuple[ClassPrompt, ...]:
    """The sentences of these classes, in the order of the labels and of the TOML file.

    A class that the file does not have, as in a table of your own, gets plain sentences.
    """
    table = _toml("zero_shot_prompts.toml")
    return tuple(
        ClassPrompt(label, state == "positive", text)
        for label in labels
        for state in ("positive", "negative")
        for text in table.get(label, _plain(label))[state]
    )


def _plain(label: str) -> dict[str, tuple[str]]:
    name = label.replace("_", " ").lower()
    return {"positive": (f"There is {name}.",), "negative": (f"There is no {name}.",)}


@lru_cache(maxsize=2)
def _toml(name: str) -> dict[str, Any]:
    return tomllib.loads(files("eval").joinpath(name).read_text(encoding="utf-8"))
