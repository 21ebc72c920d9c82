"""Expert readings of NIH ChestX-ray14 images: four sources, each with its own question.

A folder holds ``readings.jsonl`` (an image a line: classes and boxes by source); tables of further
images with text-mined labels alone may be given beside it. There are no reports: what radiologists
drew becomes the text of an image ("Consolidation in the right lower zone.") and its heatmap.

What a source says of a class, and only that, is known: ChestX-Det looked for thirteen classes, RSNA
for opacity of pneumonia's kind, Google for four; NIH's own boxes say where, never where not.

Source: Wang et al., CVPR 2017 (images, labels, boxes); Lian et al. 2021 (ChestX-Det, Apache-2.0);
Shih et al., Radiology: AI 2019 (RSNA); Majkowska et al., Radiology 2020 (Google).
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from encoders.annotations import Boxes, Outline, bounding_box, box_outline
from encoders.training.dataset import ExpertImage, LabelledExample, Split, TrainingStudy
from encoders.training.sources.settings import ALL_OF_CHESTX_DET, FINDINGS, NihExpert
from encoders.training.sources.tables import TableRow, read_rows

CHESTX_DET, RSNA, GOOGLE = "chestx-det", "rsna-2018", "google-2019"

NIH_LABELS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
    "No Finding",
)
"""NIH's text-mined labels."""

_LOOKED_FOR = {CHESTX_DET: ALL_OF_CHESTX_DET, RSNA: ("Lung Opacity",)}
"""Findings that a source drew wherever it saw them: elsewhere they are not there."""

_SIDE = 1024.0
"""Of the images that places are given on, in pixels."""

_HEADINGS = {
    "Effusion": ("Pleural Effusion",),
    "Consolidation": ("Consolidation", "Airspace Disease"),
    "Atelectasis": ("Pulmonary Atelectasis",),
    "Cardiomegaly": ("Cardiomegaly",),
    "Nodule": ("Nodule", "Nodule/lung"),
    "Mass": ("Nodule",),
    "Fracture": ("Fractures, Bone",),
    "Emphysema": ("Emphysema",),
    "Pleural Thickening": ("Thickening", "Thickening/pleura"),
    "Fibrosis": ("Cicatrix", "Cicatrix/lung"),
    "Calcification": ("Calcinosis",),
    "Diffuse Nodule": ("Nodule", "Nodule/multiple"),
    "Lung Opacity": ("Opacity", "Opacity/lung"),
    "Infiltrate": ("Infiltrate", "Infiltrate/lung"),
    "Pneumonia": ("Pneumonia",),
}
"""The MeSH headings of Open-I that say the same: which reports are nearly right for the image."""

_WITH_A_SIDE = ("Effusion", "Consolidation", "Atelectasis", "Lung Opacity", "Nodule")
_WORDS = {
    "Lung Opacity": "Opacity",
    "Effusion": "Pleural effusion",
    "Fracture": "Rib fracture",
    "Diffuse Nodule": "Diffuse nodules",
}
_OF_A_SIDE_ONLY = ("Effusion", "Pneumothorax", "Pleural Thickening", "Fracture")
_OF_A_LUNG = ("Emphysema", "Diffuse Nodule")

Drawn = list[tuple[str, Outline]]


class Reading(NamedTuple):
    """What one source said of an image: its classes, and what it drew."""

    source: str
    classes: Any
    drawn: Drawn


def read_nih_expert(
    settings: NihExpert,
) -> tuple[list[TrainingStudy], list[ExpertImage], list[LabelledExample]]:
    """Annotated images of training patients as studies, and every image with what is known of it.

    Raises:
        TrainingDataError: a table is missing or a line cannot be used; the message names it.
    """
    labelled: dict[str, LabelledExample] = {}
    studies, experts = [], []
    for row in read_rows(settings.path / "readings.jsonl", required=("id", "image", "nih_labels")):
        readings = _readings(row)
        image = _example(row, settings.path, "nih_labels", readings, settings.val_share)
        labelled[image.image_id] = image
        drawn = [mark for reading in readings for mark in reading.drawn]
        if drawn and image.split is Split.TRAIN:
            studies.append(_study(image, drawn))
            boxes = Boxes(tuple(bounding_box(outline) for _, outline in drawn))
            experts.append(ExpertImage(studies[-1].study_id, image.path, boxes))
    for table in settings.labels:
        for row in read_rows(table, required=("id", "image", "patient_id", "labels")):
            if row.require("id") not in labelled:
                image = _example(row, table.parent, "labels", [], settings.val_share)
                labelled[image.image_id] = image
    return studies, experts, list(labelled.values())


def is_held_back(patient_id: str, *, share: float) -> bool:
    """Whether a patient is for validation: the same ones each time.

    Another rule than for tables (`patient_split`), and it stays: whom the shipped weights never saw
    depends on it.
    """
    digest = hashlib.sha256(f"held{patient_id}".encode()).hexdigest()
    return int(digest, 16) % 100 < round(100 * share)


def describe(drawn: Drawn) -> str:
    """A sentence for each thing drawn, with its side and zone; equal ones once."""
    return " ".join(dict.fromkeys(_sentence(finding, outline) for finding, outline in drawn))


def _example(
    row: TableRow, folder: Path, mined: str, readings: Sequence[Reading], val_share: float
) -> LabelledExample:
    """An image with what all sources say; ``mined`` is the column of the text-mined labels."""
    patient = row.text("patient_id").zfill(8)
    labels = {f"nih/{name}": name in row.values[mined] for name in NIH_LABELS}
    outlines: dict[str, tuple[Outline, ...]] = {}
    for reading in readings:
        labels |= _judged(reading)
        for finding in _LOOKED_FOR.get(reading.source, ()):
            outlines.setdefault(finding, ())
        for finding, outline in reading.drawn:
            outlines[finding] = (*outlines.get(finding, ()), outline)
    view = row.text("view")
    if view in {"PA", "AP"}:
        labels["view/AP"] = view == "AP"
    held = is_held_back(patient, share=val_share)
    return LabelledExample(
        image_id=row.require("id"),
        patient_id=f"nih-{patient}",
        path=folder / row.require("image"),
        labels=labels,
        outlines=outlines,
        split=Split.VAL if held else Split.TRAIN,
    )


def _judged(reading: Reading) -> dict[str, bool]:
    """What one reading says is there and not there."""
    source, classes = reading.source, reading.classes
    if source == GOOGLE:
        answers = {"YES": True, "NO": False}
        return {f"{source}/{k}": answers[v] for k, v in classes.items() if v in answers}
    asked = (*_LOOKED_FOR.get(source, ()), *(("Normal",) if source == RSNA else ()))
    return {f"{source}/{name}": name in classes for name in asked}


def _readings(row: TableRow) -> list[Reading]:
    try:
        return [
            Reading(reading["source"], reading["classes"], _drawn(row, reading["boxes"]))
            for reading in row.values["readings"]
        ]
    except (KeyError, TypeError) as error:
        raise row.error(f"readings have no source, classes and boxes ({error!r})") from error


def _drawn(row: TableRow, boxes: Sequence[Mapping[str, Any]]) -> Drawn:
    """Findings and where they are, polygons where there are any."""
    drawn = []
    for mark in boxes:
        if mark.get("label") not in FINDINGS:
            continue
        try:
            polygon = [(float(x) / _SIDE, float(y) / _SIDE) for x, y in mark.get("polygon", ())]
            left, top, right, bottom = (float(value) / _SIDE for value in mark["xyxy"])
        except (KeyError, TypeError, ValueError) as error:
            raise row.error(f"a box is no xyxy or polygon ({error!r})") from error
        box = box_outline(left, top, right, bottom)
        drawn.append((mark["label"], tuple(polygon) if len(polygon) > 2 else box))
    return drawn


def _study(image: LabelledExample, drawn: Drawn) -> TrainingStudy:
    headings = {heading for finding, _ in drawn for heading in _HEADINGS.get(finding, ())}
    for finding, outline in drawn:
        if finding in _WITH_A_SIDE:
            headings.add(f"{_HEADINGS[finding][0]}/{_side(outline)}")
    return TrainingStudy(
        study_id=f"nih-{image.image_id}",
        patient_id=image.patient_id,
        frontals=(image.path,),
        laterals=(),
        text=describe(drawn),
        labels=frozenset(heading for heading in headings if "/" not in heading),
        split=Split.TRAIN,
        fine_labels=frozenset(heading for heading in headings if "/" in heading),
        labels_complete=False,
    )


def _sentence(finding: str, outline: Outline) -> str:
    word, side = _WORDS.get(finding, finding.capitalize()), _side(outline)
    if finding == "Cardiomegaly":
        return "Cardiomegaly."
    if finding in _OF_A_SIDE_ONLY:
        return f"{side.capitalize()} {word.lower()}."
    _, top, _, height = bounding_box(outline)
    middle = top + height / 2
    zone = "upper" if middle < 0.36 else "middle" if middle < 0.58 else "lower"
    where = "lung" if finding in _OF_A_LUNG else f"{zone} zone"
    return f"{word} in the {side} {where}."


def _side(outline: Outline) -> str:
    """The patient's: their right is on the left of the image."""
    left, _, width, _ = bounding_box(outline)
    return "right" if left + width / 2 < 0.5 else "left"
