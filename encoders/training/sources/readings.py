"""What an expert marked on an image, and the study whose image it is."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from encoders.annotations import Annotation
from encoders.training.dataset import Collection, ExpertImage, TrainingDataError


@dataclass(frozen=True, slots=True)
class Reading:
    """What one expert marked on one image.

    Attributes:
        image: the image's path, or its file name with or without the suffix (in MIMIC-CXR the
            DICOM id).
        annotation: the marks.
        where: the row it comes from.
    """

    image: str
    annotation: Annotation
    where: str


def attach(collection: Collection, readings: Iterable[Reading]) -> Collection:
    """A collection with the readings of its training images.

    Readings of other images are counted, not used: nothing is learned from a validation or test
    image, or its patient, by way of an expert.

    Raises:
        TrainingDataError: a file name is that of several images, or no reading fits any image.
    """
    study_of = {
        str(image): study.study_id
        for study in collection.train
        for image in (*study.frontals, *study.laterals)
    }
    by_name: dict[str, list[str]] = defaultdict(list)
    for known in study_of:
        for name in {Path(known).name, Path(known).stem}:
            by_name[name].append(known)
    found, unmatched = [], 0
    reading = None
    for reading in readings:
        path = reading.image if reading.image in study_of else _path_of(by_name, reading)
        if path is None:
            unmatched += 1
        else:
            found.append(ExpertImage(study_of[path], Path(path), reading.annotation))
    if reading is not None and not found:
        raise TrainingDataError(
            f"none of {unmatched} readings is of an image of the {len(collection.train)} training "
            f"studies ({reading.where} is of {reading.image}); the images must be in [data]"
        )
    left_out = Counter(collection.left_out)
    left_out["expert reading of no training image"] += unmatched
    experts = (*collection.experts, *found)
    return replace(collection, experts=experts, left_out=dict(left_out))


def _path_of(by_name: Mapping[str, list[str]], reading: Reading) -> str | None:
    """The one image of that name, if there is one."""
    for name in (reading.image, Path(reading.image).name, Path(reading.image).stem):
        paths = by_name.get(name, [])
        if len(paths) > 1:
            raise TrainingDataError(
                f"{reading.where}: {len(paths)} images are called {name}; give the image's path"
            )
        if paths:
            return paths[0]
    return None
