"""NIH ChestX-ray14 images on which radiologists drew boxes, as studies and expert images.

Owns the reader of a folder with ``labels.jsonl`` (image, patient, finding words) and
``expert_boxes.jsonl`` (boxes as fractions of the image). There are no reports: the finding words
are
the text.

Source: Wang et al., CVPR 2017 (images, labels, some boxes); Shih et al., Radiology: AI 2019 (RSNA).
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from encoders.annotations import Boxes
from encoders.training.dataset import Collection, ExpertImage, Split, Study, TrainingDataError


def read_nih_boxes(folder: Path) -> tuple[list[Study], list[ExpertImage]]:
    """The images with boxes, each a training study of its own, and their annotations.

    Raises:
        TrainingDataError: a file is not there or a line cannot be read.
    """
    images = {row["id"]: row for row in _rows(folder / "labels.jsonl", ("id", "image", "labels"))}
    studies, experts = [], []
    for row in _rows(folder / "expert_boxes.jsonl", ("id", "boxes")):
        if not row["boxes"] or row["id"] not in images:
            continue
        image = images[row["id"]]
        path = folder / image["image"]
        study_id = f"nih-{row['id']}"
        studies.append(
            Study(
                study_id=study_id,
                patient_id=f"nih-{image['patient_id']}",
                frontals=(path,),
                laterals=(),
                text=words(image["labels"], row["boxes"]),
                labels=frozenset(),
                split=Split.TRAIN,
            )
        )
        boxes = tuple((box["nx"], box["ny"], box["nw"], box["nh"]) for box in row["boxes"])
        experts.append(ExpertImage(study_id=study_id, image=path, annotation=Boxes(boxes)))
    return studies, experts


def words(labels: list[str], boxes: list[dict[str, Any]]) -> str:
    """The text of an image: its labels and those of its boxes, a sentence each."""
    plain = [label.replace("_", " ").lower() for label in labels if label != "No Finding"]
    drawn = [box["label"].split(" (")[0].lower() for box in boxes]
    return " ".join(f"{word.capitalize()}." for word in dict.fromkeys([*plain, *drawn]))


def with_experts(collection: Collection, folder: Path) -> Collection:
    """A collection with the expert images as further training studies: every arm sees them."""
    studies, experts = read_nih_boxes(folder)
    return replace(
        collection, train=(*collection.train, *studies), experts=(*collection.experts, *experts)
    )


def _rows(table: Path, keys: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    try:
        lines = table.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise TrainingDataError(f"cannot read {table}: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            missing = [key for key in keys if key not in row]
        except (ValueError, TypeError) as error:
            raise TrainingDataError(f"{table} line {number}: {error!r}") from error
        if missing:
            raise TrainingDataError(f"{table} line {number} has no {missing}")
        yield row
