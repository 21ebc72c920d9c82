"""Expert annotation of NIH ChestX-ray14 images, from four sources.

A folder holds ``readings.jsonl`` (one image per line: classes and boxes by source); tables of
further images with only text-mined labels may be given. There are no reports: what radiologists
drew becomes an image's text ("Consolidation in the right lower zone.") and its heatmap.

A source only says something about the classes it was asked about: ChestX-Det about thirteen, RSNA
about opacity suggestive of pneumonia, Google about four. NIH's own boxes are never exhaustive, so
that no box does not mean absent.

Source: Wang et al., CVPR 2017 (images, labels, boxes); Lian et al. 2021 (ChestX-Det, Apache-2.0);
Shih et al., Radiology: AI 2019 (RSNA); Majkowska et al., Radiology 2020 (Google).
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from encoders.annotations import Boxes, Outline, bounding_box, box_outline
from encoders.training.dataset import ExpertImage, LabelledExample, Split, TrainingStudy
from encoders.training.sources.settings import CHESTX_DET_FINDINGS, FINDINGS, NihExpert
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

_EXHAUSTIVE_FINDINGS = {CHESTX_DET: CHESTX_DET_FINDINGS, RSNA: ("Lung Opacity",)}
"""Findings that a source drew on every image that shows them: without a drawing they are absent."""

_IMAGE_SIDE = 1024.0
"""Coordinates in readings.jsonl are pixels of images of this side."""

_MESH_HEADINGS = {
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
"""Open-I's MeSH headings for the same finding: they tell which reports match the image."""

_LATERALISED = ("Effusion", "Consolidation", "Atelectasis", "Lung Opacity", "Nodule")
"""Findings whose side is a label too."""

_PHRASES = {
    "Lung Opacity": "Opacity",
    "Effusion": "Pleural effusion",
    "Fracture": "Rib fracture",
    "Diffuse Nodule": "Diffuse nodules",
}
_WITHOUT_ZONE = ("Effusion", "Pneumothorax", "Pleural Thickening", "Fracture")
_WHOLE_LUNG = ("Emphysema", "Diffuse Nodule")

Drawings = list[tuple[str, Outline]]
"""Findings with their outlines."""


class Reading(NamedTuple):
    """One source's classes and drawings of an image."""

    source: str
    classes: Any
    drawings: Drawings


def read_nih_expert(
    settings: NihExpert,
) -> tuple[list[TrainingStudy], list[ExpertImage], list[LabelledExample]]:
    """Images with drawings as training studies and expert images, and all images with labels.

    Held-back patients are only in the third list.
    """
    labelled: dict[str, LabelledExample] = {}
    studies, experts = [], []
    for row in read_rows(settings.path / "readings.jsonl", required=("id", "image", "nih_labels")):
        readings = _parse_readings(row)
        example = _parse_example(row, settings.path, "nih_labels", readings, settings.val_share)
        labelled[example.image_id] = example
        drawings = [drawing for reading in readings for drawing in reading.drawings]
        if drawings and example.split is Split.TRAIN:
            studies.append(_make_study(example, drawings))
            boxes = Boxes(tuple(bounding_box(outline) for _, outline in drawings))
            experts.append(ExpertImage(studies[-1].study_id, example.path, boxes))
    for table in settings.labels:
        for row in read_rows(table, required=("id", "image", "patient_id", "labels")):
            if row.require("id") not in labelled:
                example = _parse_example(row, table.parent, "labels", [], settings.val_share)
                labelled[example.image_id] = example
    return studies, experts, list(labelled.values())


def is_held_back(patient_id: str, *, share: float) -> bool:
    """Whether a patient is for validation, from a hash of the id.

    Not `patient_split`'s hash: the shipped weights depend on this one.
    """
    digest = hashlib.sha256(f"held{patient_id}".encode()).hexdigest()
    return int(digest, 16) % 100 < round(100 * share)


def _parse_example(
    row: TableRow, folder: Path, label_column: str, readings: Sequence[Reading], val_share: float
) -> LabelledExample:
    """An image with the labels and outlines of all sources."""
    patient = row.text("patient_id").zfill(8)
    labels = {f"nih/{name}": name in row.values[label_column] for name in NIH_LABELS}
    outlines: dict[str, tuple[Outline, ...]] = {}
    for reading in readings:
        labels |= _reading_labels(reading)
        for finding in _EXHAUSTIVE_FINDINGS.get(reading.source, ()):
            outlines.setdefault(finding, ())
        for finding, outline in reading.drawings:
            outlines[finding] = (*outlines.get(finding, ()), outline)
    view = row.text("view")
    if view in {"PA", "AP"}:
        labels["view/AP"] = view == "AP"
    held_back = is_held_back(patient, share=val_share)
    return LabelledExample(
        image_id=row.require("id"),
        patient_id=f"nih-{patient}",
        path=folder / row.require("image"),
        labels=labels,
        outlines=outlines,
        split=Split.VAL if held_back else Split.TRAIN,
    )


def _reading_labels(reading: Reading) -> dict[str, bool]:
    """The classes that a reading calls present or absent."""
    source, classes = reading.source, reading.classes
    if source == GOOGLE:
        answers = {"YES": True, "NO": False}
        return {f"{source}/{k}": answers[v] for k, v in classes.items() if v in answers}
    asked = (*_EXHAUSTIVE_FINDINGS.get(source, ()), *(("Normal",) if source == RSNA else ()))
    return {f"{source}/{name}": name in classes for name in asked}


def _parse_readings(row: TableRow) -> list[Reading]:
    try:
        return [
            Reading(reading["source"], reading["classes"], _parse_drawings(row, reading["boxes"]))
            for reading in row.values["readings"]
        ]
    except (KeyError, TypeError) as error:
        raise row.error(f"readings have no source, classes and boxes ({error!r})") from error


def _parse_drawings(row: TableRow, boxes: Sequence[Mapping[str, Any]]) -> Drawings:
    """Polygons, or boxes where there is no polygon; labels that are not findings are ignored."""
    drawings = []
    for box in boxes:
        if box.get("label") not in FINDINGS:
            continue
        try:
            polygon = [
                (float(x) / _IMAGE_SIDE, float(y) / _IMAGE_SIDE) for x, y in box.get("polygon", ())
            ]
            left, top, right, bottom = (float(value) / _IMAGE_SIDE for value in box["xyxy"])
        except (KeyError, TypeError, ValueError) as error:
            raise row.error(f"a box has no valid xyxy or polygon ({error!r})") from error
        rectangle = box_outline(left, top, right, bottom)
        drawings.append((box["label"], tuple(polygon) if len(polygon) > 2 else rectangle))
    return drawings


def _make_study(example: LabelledExample, drawings: Drawings) -> TrainingStudy:
    headings = {heading for finding, _ in drawings for heading in _MESH_HEADINGS.get(finding, ())}
    for finding, outline in drawings:
        if finding in _LATERALISED:
            headings.add(f"{_MESH_HEADINGS[finding][0]}/{_side(outline)}")
    sentences = dict.fromkeys(_describe(finding, outline) for finding, outline in drawings)
    return TrainingStudy(
        study_id=f"nih-{example.image_id}",
        patient_id=example.patient_id,
        frontals=(example.path,),
        laterals=(),
        text=" ".join(sentences),
        labels=frozenset(heading for heading in headings if "/" not in heading),
        split=Split.TRAIN,
        fine_labels=frozenset(heading for heading in headings if "/" in heading),
        labels_complete=False,
    )


def _describe(finding: str, outline: Outline) -> str:
    """A sentence for a finding with its side and zone."""
    phrase, side = _PHRASES.get(finding, finding.capitalize()), _side(outline)
    if finding == "Cardiomegaly":
        return "Cardiomegaly."
    if finding in _WITHOUT_ZONE:
        return f"{side.capitalize()} {phrase.lower()}."
    _, top, _, height = bounding_box(outline)
    middle = top + height / 2
    zone = "upper" if middle < 0.36 else "middle" if middle < 0.58 else "lower"
    place = "lung" if finding in _WHOLE_LUNG else f"{zone} zone"
    return f"{phrase} in the {side} {place}."


def _side(outline: Outline) -> str:
    """The patient's side: their right is on the left of the image."""
    left, _, width, _ = bounding_box(outline)
    return "right" if left + width / 2 < 0.5 else "left"
