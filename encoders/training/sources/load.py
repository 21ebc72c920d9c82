"""From the ``[data]`` table to a collection: the one way in for every layout.

Owns which reader reads which layout, and the order: studies, clean split, annotation.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import assert_never

from encoders.training.config import TrainSettings
from encoders.training.dataset import Collection, TrainingDataError, TrainingStudy, clean
from encoders.training.sources.annotation_table import read_annotation_table
from encoders.training.sources.egd import read_egd
from encoders.training.sources.mimic import read_mimic
from encoders.training.sources.nih_expert import read_nih_expert
from encoders.training.sources.openi import read_openi
from encoders.training.sources.readings import Reading, attach
from encoders.training.sources.reflacx import read_reflacx
from encoders.training.sources.settings import (
    AnnotationTable,
    Egd,
    ExpertSource,
    Mimic,
    NihExpert,
    Openi,
    Reflacx,
    StudySource,
    StudyTable,
    WebDataset,
)
from encoders.training.sources.study_table import read_study_table
from encoders.training.sources.webdataset import read_webdataset


def default_source(openi: Path | None = None, nih_expert: Path | None = None) -> Openi:
    """Open-I with the NIH readings, in the data folder (``CXR_DATA``) where no path is given.

    Tables of further labelled NIH images are taken where they lie beside the readings.
    """
    data = Path(os.environ.get("CXR_DATA", "../shared/data"))
    folder = nih_expert or data / "nih_expert"
    tables = (folder.parent / name / "labels.jsonl" for name in ("nih_128", "nih_boxes"))
    readings = NihExpert(path=folder, labels=tuple(table for table in tables if table.is_file()))
    return Openi(path=openi or data / "openi", experts=(readings,))


def source_of(
    settings: TrainSettings, *, data: Path | None = None, experts: Path | None = None
) -> StudySource:
    """Where a run's studies are: as the settings say, or Open-I and the NIH readings.

    Args:
        settings: of the run.
        data: in place of the path in ``[data]`` or of the Open-I folder.
        experts: folder of the NIH readings.

    Raises:
        TrainingDataError: ``experts`` is given beside ``[data]``.
    """
    if settings.data is None:
        return default_source(data, experts)
    if experts is not None:
        raise TrainingDataError(
            "--experts is for settings without [data]; write it as [[data.experts]] into the file"
        )
    return settings.data.model_copy(update={"path": data}) if data else settings.data


def load_collection(source: StudySource, *, cache: Path, experts: bool = True) -> Collection:
    """Studies of any layout, split by patient, with the expert images of their training part.

    Args:
        source: the ``[data]`` table.
        cache: where shards are unpacked.
        experts: whether annotation is read; without it, no expert image is a study either.

    Raises:
        TrainingDataError: a file is missing, a row cannot be used, a patient is in two splits, or
            annotation fits no training image; the message names the row and the cure.
    """
    studies, own_readings = _studies(source, cache)
    collection = clean(studies, same_texts=source.same_texts)
    if not experts:
        return collection
    if own_readings:
        collection = attach(collection, own_readings)
    for expert in source.experts:
        collection = _with_experts(collection, expert)
    return collection


def _studies(source: StudySource, cache: Path) -> tuple[list[TrainingStudy], list[Reading]]:
    match source:
        case Openi():
            return read_openi(source.path), []
        case Mimic():
            return read_mimic(source), []
        case StudyTable():
            return read_study_table(source)
        case WebDataset():
            return read_webdataset(source, cache=cache)
        case _:
            assert_never(source)


def _with_experts(collection: Collection, source: ExpertSource) -> Collection:
    match source:
        case NihExpert():
            studies, experts, labelled = read_nih_expert(source)
            return replace(
                collection,
                train=(*collection.train, *studies),
                experts=(*collection.experts, *experts),
                labelled=(*collection.labelled, *labelled),
            )
        case Egd():
            return attach(collection, read_egd(source))
        case Reflacx():
            return attach(collection, read_reflacx(source))
        case AnnotationTable():
            return attach(collection, read_annotation_table(source))
        case _:
            assert_never(source)
