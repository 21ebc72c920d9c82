"""Labelled images: Open-I, CheXpert 5x200, RSNA, NIH 14x100, or your own table.

A layout reads a data set's own table into images with ids, patients, labels and perhaps reports.
Which classes a data set has, and what it calls them, is in datasets.toml; the sentences that stand
for a class are in zero_shot_prompts.toml.
"""

import random
import tomllib
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from eval.entries import Entry, Identifier, Text, named, parse_entries
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
    found = filter(None, (row.image() for row in parse_entries(path, _ROWS[layout]).values()))
    by_id = {image.image_id: image for image in found if not split or image.split == split}
    images = [by_id[image_id] for image_id in sorted(by_id)]
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


class _Row(Entry, ABC):
    """A row of a data set's table."""

    @property
    def key(self) -> str:
        return image.image_id if (image := self.image()) else self.where

    @abstractmethod
    def image(self) -> DatasetImage | None:
        """The image; None where the protocol passes it over."""


class _Problems(BaseModel):
    problems: list[str] = []


class _OpenI(_Row):
    id: Identifier
    frontal: list[str]
    labels: _Problems
    findings: Text = ""
    impression: Text = ""
    split: Identifier = ""

    def image(self) -> DatasetImage | None:
        if not self.frontal:
            return None  # lateral images only
        labels = class_names(DatasetLayout.OPEN_I, self.labels.problems)
        text = "\n".join(filter(None, (self.findings, self.impression)))
        return DatasetImage(self.id, self.id, self.frontal[0], labels, text, self.split)


class _CheXpert(_Row):
    model_config = ConfigDict(extra="allow")

    path: Identifier

    def image(self) -> DatasetImage:
        given = [name for name, cell in (self.model_extra or {}).items() if cell in ("1", "1.0")]
        labels = class_names(DatasetLayout.CHEXPERT_5X200, given)
        patient = next((part for part in Path(self.path).parts if part.startswith("patient")), "")
        return DatasetImage(self.path, patient or self.path, self.path, labels)

    @model_validator(mode="after")
    def _has_one_class(self) -> "_CheXpert":
        if (count := len(self.image().labels)) != 1:
            raise ValueError(f"has {count} of the five classes: exactly one is wanted")
        return self


class _Rsna(_Row):
    patient: Identifier = named("patientid", needed=True)
    target: Literal["0", "1"]

    @property
    def key(self) -> str:
        return self.where  # there is a line a box

    def image(self) -> DatasetImage:
        found = frozenset({"Pneumonia"}) if self.target == "1" else frozenset[str]()
        return DatasetImage(self.patient, self.patient, f"{self.patient}.dcm", found)


class _Nih(_Row):
    file: Identifier = named("image index", needed=True)
    patient: Identifier = named("patient id", needed=True)
    given: Identifier = named("finding labels")

    def image(self) -> DatasetImage | None:
        given = self.given.split("|")
        labels = class_names(DatasetLayout.NIH_14X100, given)
        # the protocol takes images with exactly one of the fourteen findings
        only_one = len(given) == len(labels) == 1
        return DatasetImage(self.file, self.patient, self.file, labels) if only_one else None


class _OwnRow(_Row):
    id: Identifier = named("id", "study_id", needed=True)
    file: Identifier = named("image", "path", needed=True)
    labels: Annotated[
        frozenset[str],
        BeforeValidator(lambda v: v.split("|") if isinstance(v, str) else v or ()),
    ] = frozenset()
    patient: Identifier = named("patient_id", "subject_id")
    text: Text = ""
    split: Identifier = ""

    def image(self) -> DatasetImage:
        labels = frozenset(filter(None, (name.strip() for name in self.labels)))
        patient = self.patient or self.id
        return DatasetImage(self.id, patient, self.file, labels, self.text, self.split)


_ROWS: dict[DatasetLayout, type[_Row]] = {
    DatasetLayout.OPEN_I: _OpenI,
    DatasetLayout.CHEXPERT_5X200: _CheXpert,
    DatasetLayout.RSNA: _Rsna,
    DatasetLayout.NIH_14X100: _Nih,
    DatasetLayout.TABLE: _OwnRow,
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
