"""Labelled images: Open-I, CheXpert 5x200, RSNA, NIH 14x100, or your own table.

A layout reads the data set's own table. The classes of a data set and its names for them are in
datasets.toml, the zero-shot prompts of a class in zero_shot_prompts.toml.
"""

import random
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from eval.entries import Entry, Identifier, Text, column, parse_entries
from eval.errors import EvalDataError, EvalUsageError


class DatasetLayout(StrEnum):
    """Whose table it is."""

    OPEN_I = "open-i"
    CHEXPERT_5X200 = "chexpert-5x200"
    RSNA = "rsna"
    NIH_14X100 = "nih-14x100"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class DatasetImage:
    """One image of a data set.

    Attributes:
        image: path below the data set's image folder.
        labels: its classes; exactly one if the data set is ``single``.
        text: the report, or empty.
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
        single: whether each image has exactly one class (scored by accuracy and F1, too).
    """

    images: tuple[DatasetImage, ...]
    classes: tuple[str, ...]
    single: bool

    def map_classes(self, classes: Mapping[str, Sequence[str]]) -> "ImageDataset":
        """With new classes, each of which replaces one or more old ones; the rest is dropped."""

        def new_labels(old: frozenset[str]) -> frozenset[str]:
            return frozenset(name for name, names in classes.items() if old & set(names))

        images = tuple(replace(image, labels=new_labels(image.labels)) for image in self.images)
        return ImageDataset(images, tuple(classes), self.single)


def read_layout(
    layout: DatasetLayout, path: Path, *, split: str = "", per_class: int = 100, seed: int = 0
) -> ImageDataset:
    """Images of a data set, sorted by id.

    Args:
        layout: which data set's table it is.
        path: the table: studies.jsonl, chexpert_5x200.csv, stage_2_train_labels.csv,
            Data_Entry_2017.csv, or your own CSV or JSONL with ``id``, ``image``, ``labels`` (a
            list, or names separated by |), and perhaps ``patient_id``, ``text`` and ``split``.
        split: only this split.
        per_class: images drawn per class in the NIH 14x100 layout.
        seed: of that draw.

    Raises:
        EvalUsageError: no such file.
        EvalDataError: names every invalid line.
    """
    rows = parse_entries(path, _ROWS[layout]).values()
    by_id = {image.image_id: image for row in rows if (image := row.image())}
    images = [by_id[name] for name in sorted(by_id) if not split or by_id[name].split == split]
    if layout is DatasetLayout.NIH_14X100:
        images = _sample_per_class(images, per_class=per_class, seed=seed)
    if not images:
        where = f" in split {split!r}" if split else ""
        raise EvalUsageError(f"{path} holds no image{where} for the layout {layout}")
    single = layout in {DatasetLayout.CHEXPERT_5X200, DatasetLayout.NIH_14X100}
    labels = sorted(frozenset().union(*(image.labels for image in images)))
    classes = tuple(labels) if layout is DatasetLayout.TABLE else classes_of(layout)
    return ImageDataset(tuple(images), classes, single)


def classes_of(layout: DatasetLayout) -> tuple[str, ...]:
    """Classes of a data set with fixed classes.

    Raises:
        EvalUsageError: your own table has no fixed classes.
    """
    if layout is DatasetLayout.TABLE:
        raise EvalUsageError(f"the layout {layout} has no fixed classes")
    return tuple(_load_toml("datasets.toml")[layout])


def map_labels(layout: DatasetLayout, names: Iterable[str]) -> frozenset[str]:
    """Classes for a data set's own label names; unknown names are dropped."""
    lower = {name.strip().lower() for name in names}
    table = _load_toml("datasets.toml")[layout]
    return frozenset(label for label, own in table.items() if lower.intersection(own))


class _Row(Entry, ABC):
    """A row of a data set's table."""

    @property
    def key(self) -> str:
        return image.image_id if (image := self.image()) else self.where

    @abstractmethod
    def image(self) -> DatasetImage | None:
        """The image, or None if the protocol excludes it."""


def _flag(value: Any) -> Any:
    """The text "0" or "1" for 0, 1.0, "1.0" and so on; any other value as it is."""
    text = str(value).removesuffix(".0")
    return text if text in ("0", "1") else value


class _OpenILabels(BaseModel):
    problems: list[str] = []


class _OpenI(_Row):
    id: Identifier
    frontal: list[str]
    labels: _OpenILabels
    findings: Text = ""
    impression: Text = ""
    split: Identifier = ""

    def image(self) -> DatasetImage | None:
        if not self.frontal:
            return None  # lateral images only
        labels = map_labels(DatasetLayout.OPEN_I, self.labels.problems)
        text = "\n".join(filter(None, (self.findings, self.impression)))
        return DatasetImage(self.id, self.id, self.frontal[0], labels, text, self.split)


class _CheXpert(_Row):
    model_config = ConfigDict(extra="allow")

    path: Identifier

    def image(self) -> DatasetImage:
        cells = (self.model_extra or {}).items()
        names = [name for name, cell in cells if _flag(cell) == "1"]
        labels = map_labels(DatasetLayout.CHEXPERT_5X200, names)
        patient = next((part for part in Path(self.path).parts if part.startswith("patient")), "")
        return DatasetImage(self.path, patient or self.path, self.path, labels)

    @model_validator(mode="after")
    def _check_class(self) -> "_CheXpert":
        if (count := len(self.image().labels)) != 1:
            raise ValueError(f"has {count} of the five classes, not exactly one")
        return self


class _Rsna(_Row):
    patient: Identifier = column("patientid", required=True)
    target: Annotated[Literal["0", "1"], BeforeValidator(_flag)]

    @property
    def key(self) -> str:
        return self.where  # an image has one line per box

    def image(self) -> DatasetImage:
        labels = frozenset({"Pneumonia"} if self.target == "1" else ())
        return DatasetImage(self.patient, self.patient, f"{self.patient}.dcm", labels)


class _Nih(_Row):
    file: Identifier = column("image index", required=True)
    patient: Identifier = column("patient id", required=True)
    findings: Identifier = column("finding labels")

    def image(self) -> DatasetImage | None:
        names = self.findings.split("|")
        labels = map_labels(DatasetLayout.NIH_14X100, names)
        # the protocol uses images with exactly one of the fourteen findings
        has_one = len(names) == len(labels) == 1
        return DatasetImage(self.file, self.patient, self.file, labels) if has_one else None


class _UserRow(_Row):
    id: Identifier = column("id", "study_id", required=True)
    file: Identifier = column("image", "path", required=True)
    labels: Annotated[
        frozenset[str],
        BeforeValidator(lambda v: v.split("|") if isinstance(v, str) else v or ()),
    ] = frozenset()
    patient: Identifier = column("patient_id", "subject_id")
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
    DatasetLayout.TABLE: _UserRow,
}


def _sample_per_class(
    images: Sequence[DatasetImage], *, per_class: int, seed: int
) -> list[DatasetImage]:
    by_class: dict[str, list[DatasetImage]] = {
        label: [] for label in sorted(classes_of(DatasetLayout.NIH_14X100))
    }
    for image in images:
        by_class[next(iter(image.labels))].append(image)
    too_few = {label: len(found) for label, found in by_class.items() if len(found) < per_class}
    if too_few:
        raise EvalDataError(f"fewer than {per_class} images of {too_few}: lower --per-class")
    generator = random.Random(seed)  # noqa: S311 - a sample, not a secret
    drawn = [image for found in by_class.values() for image in generator.sample(found, per_class)]
    return sorted(drawn, key=lambda image: image.image_id)


@dataclass(frozen=True, slots=True)
class ClassPrompt:
    """A sentence that states or denies a finding."""

    label: str
    present: bool
    text: str


def prompts(labels: Iterable[str]) -> tuple[ClassPrompt, ...]:
    """The prompts of these classes, in the order of the labels and of the TOML file.

    A class that the file lacks, as in your own table, gets default prompts.
    """
    table = _load_toml("zero_shot_prompts.toml")
    return tuple(
        ClassPrompt(label, state == "positive", text)
        for label in labels
        for state in ("positive", "negative")
        for text in table.get(label, _default_prompts(label))[state]
    )


def _default_prompts(label: str) -> dict[str, tuple[str]]:
    name = label.replace("_", " ").lower()
    return {"positive": (f"There is {name}.",), "negative": (f"There is no {name}.",)}


@lru_cache(maxsize=2)
def _load_toml(name: str) -> dict[str, Any]:
    return tomllib.loads(files("eval").joinpath(name).read_text(encoding="utf-8"))
