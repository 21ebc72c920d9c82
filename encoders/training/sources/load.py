"""From the ``[data]`` table to a dataset: studies, their split, then annotation. Reads Open-I."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from encoders.images.path_matching import best_path_matches
from encoders.training.dataset import (
    Dataset,
    ExpertImage,
    ImageAnnotation,
    Split,
    TrainingDataError,
    TrainingStudy,
    build_dataset,
)
from encoders.training.sources.mimic import read_mimic
from encoders.training.sources.nih_expert import read_nih_expert
from encoders.training.sources.settings import (
    AnnotationTable,
    Mimic,
    NihExpert,
    Openi,
    StudySource,
    StudyTable,
)
from encoders.training.sources.tables import (
    TableRow,
    read_annotation_table,
    read_rows,
    read_study_table,
)

_ROTATED_IMAGES = ("CXR994_IM-2478-1001", "CXR2146_IM-0766-13")
"""Open-I images that lie on their side."""

_OPENI_SPLITS = {"train": Split.TRAIN, "extra": Split.TRAIN, "val": Split.VAL}
_UNINFORMATIVE = frozenset({"No Indexing", "Technical Quality of Image Unsatisfactory"})
"""MeSH headings that say nothing about the patient."""


def data_folder() -> Path:
    """``CXR_DATA``, the folder of all training data; by default ``data`` where the command runs."""
    return Path(os.environ.get("CXR_DATA", "data"))


def default_source(data: Path | None = None) -> Openi:
    """Open-I with the NIH readings, and further labelled NIH images if they exist.

    ``data`` is the folder that holds them all; by default `data_folder`.
    """
    data = data or data_folder()
    tables = (data / name / "labels.jsonl" for name in ("nih_128", "nih_boxes"))
    labels = tuple(table for table in tables if table.is_file())
    readings = NihExpert(path=data / "nih_expert", labels=labels)
    return Openi(path=data / "openi", experts=(readings,))


def study_source(source: StudySource | None, *, data: Path | None = None) -> StudySource:
    """A run's `TrainSettings.data`, or the default source; ``data`` overrides its path."""
    source = source or default_source()
    return source.model_copy(update={"path": data}) if data else source


def load_dataset(source: StudySource, *, experts: bool = True) -> Dataset:
    """Read studies and, if ``experts``, their annotation."""
    match source:
        case Openi():
            studies = read_openi(source.path)
        case Mimic():
            studies = read_mimic(source)
        case StudyTable():
            studies = read_study_table(source)
    dataset = build_dataset(studies, same_texts=source.same_texts)
    for expert in source.experts if experts else ():
        if isinstance(expert, AnnotationTable):
            dataset = attach_annotations(dataset, read_annotation_table(expert))
            continue
        expert_studies, images, labelled = read_nih_expert(expert)
        dataset = replace(
            dataset,
            train=(*dataset.train, *expert_studies),
            experts=(*dataset.experts, *images),
            labelled=(*dataset.labelled, *labelled),
        )
    return dataset


def attach_annotations(dataset: Dataset, annotations: Iterable[ImageAnnotation]) -> Dataset:
    """Match annotations to training images; those of other images are only counted.

    Raises:
        TrainingDataError: a file name fits several images, or no annotation fits any.
    """
    study_of = {
        image: study.study_id
        for study in dataset.train
        for image in (*study.frontals, *study.laterals)
    }
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in study_of:
        for name in {path.name, path.stem}:
            by_name[name].append(path)
    matched, unmatched = [], []
    for annotation in annotations:
        image: Path | None = Path(annotation.image)
        if image not in study_of:
            image = _find_image(by_name, annotation)
        if image is None:
            unmatched.append(annotation)
        else:
            matched.append(ExpertImage(study_of[image], image, annotation.annotation))
    if unmatched and not matched:
        raise TrainingDataError(
            f"none of {len(unmatched)} annotations is of an image of the {len(dataset.train)} "
            f"training studies ({unmatched[-1].where} is of {unmatched[-1].image}); the images "
            "must be in [data]"
        )
    left_out = Counter(dataset.left_out)
    left_out["expert reading of no training image"] += len(unmatched)
    experts = (*dataset.experts, *matched)
    return replace(dataset, experts=experts, left_out=dict(left_out))


def _find_image(by_name: Mapping[str, list[Path]], annotation: ImageAnnotation) -> Path | None:
    """The training image that best matches the annotation's path or name."""
    wanted = Path(annotation.image)
    for name in (annotation.image, wanted.name, wanted.stem):
        paths = best_path_matches(wanted, by_name.get(name, []))
        if len(paths) > 1:
            raise TrainingDataError(
                f"{annotation.where}: {len(paths)} images are called {name}; give the image's path"
            )
        if paths:
            return paths[0]
    return None


def read_openi(folder: Path) -> list[TrainingStudy]:
    """All studies of the folder; each counts as its own patient."""
    table = folder / "studies.jsonl"
    if not table.is_file():
        raise TrainingDataError(
            f"there is no {table}; set CXR_DATA to the folder that holds openi/studies.jsonl, or "
            "give --data"
        )
    rows = read_rows(table, required=("id", "split", "labels"))
    return [_parse_study(row, folder) for row in rows]


def _parse_study(row: TableRow, folder: Path) -> TrainingStudy:
    values = row.values
    try:
        frontals, laterals = (
            tuple(
                folder / name
                for name in values[view]
                if not any(rotated in name for rotated in _ROTATED_IMAGES)
            )
            for view in ("frontal", "lateral")
        )
        terms = [term.split("/") for term in values["labels"]["mesh_major"]]
        problems = frozenset(label.strip() for label in values["labels"]["problems"])
        sections = (values["findings"], values["impression"])
        return TrainingStudy(
            study_id=values["id"],
            patient_id=values["id"],
            frontals=frontals,
            laterals=laterals,
            text="\n".join(section for section in sections if section.strip()),
            labels=problems - _UNINFORMATIVE,
            split=_OPENI_SPLITS[values["split"]],
            fine_labels=frozenset(
                f"{heading}/{qualifier}"
                for heading, *qualifiers in terms
                for qualifier in qualifiers
            ),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise row.error(f"not a study of Open-I ({error!r})") from error
