"""Consecutive images of one patient with labels of two sources and log-odds of the finding head.

Owns which NIH labels correspond to the head's findings, and that only held-back patients are used.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders.base import ImageEncoder
from encoders.image_io import read_image
from encoders.training.sources.nih_expert import is_held_back
from encoders.training.sources.settings import NIH_VAL_SHARE
from rag.change import PROBABILITY_FLOOR
from rag.screening.calibration import Calibration
from rag.screening.finding_head import FindingHead

TEXT_MINED = {
    "Atelectasis": ("Atelectasis",),
    "Cardiomegaly": ("Cardiomegaly",),
    "Consolidation": ("Consolidation",),
    "Edema": ("Edema",),
    "Lung Lesion": ("Mass", "Nodule"),
    "Lung Opacity": ("Atelectasis", "Consolidation", "Infiltration", "Pneumonia"),
    "Pleural Effusion": ("Effusion",),
    "Pleural Other": ("Pleural_Thickening",),
    "Pneumonia": ("Pneumonia",),
    "Pneumothorax": ("Pneumothorax",),
    "emphysema": ("Emphysema",),
    "lung_fibrosis": ("Fibrosis",),
}
"""NIH's text-mined labels by finding of the head."""
CHESTX_DET = {
    "Atelectasis": ("Atelectasis",),
    "Cardiomegaly": ("Cardiomegaly",),
    "Consolidation": ("Consolidation",),
    "Fracture": ("Fracture",),
    "Lung Lesion": ("Mass", "Nodule"),
    "Pleural Effusion": ("Effusion",),
    "Pleural Other": ("Pleural Thickening",),
    "Pneumothorax": ("Pneumothorax",),
    "emphysema": ("Emphysema",),
    "lung_fibrosis": ("Fibrosis",),
}
RSNA = {"Lung Opacity": ("Lung Opacity",)}

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """An image of a patient, and which findings one source says are present."""

    image_id: str
    patient: str
    path: Path
    present: Mapping[str, bool]


@dataclass(frozen=True, slots=True, eq=False)
class ImagePairs:
    """Pairs of images of one patient; a row for each finding of a pair.

    Attributes:
        patients, findings: str [N].
        before, now: whether the finding is present in the earlier and later image, bool [N].
        log_odds: calibrated, of the later image, float64 [N].
    """

    patients: NDArray[np.str_]
    findings: NDArray[np.str_]
    before: Flags
    now: Flags
    log_odds: Floats

    def select(self, rows: NDArray[Any]) -> "ImagePairs":
        """These rows only."""
        columns = (self.patients, self.findings, self.before, self.now, self.log_odds)
        return ImagePairs(*(column[rows] for column in columns))


def text_mined_images(data: Path) -> list[list[LabelledImage]]:
    """Images of each held-back patient with text-mined labels, in time order."""
    rows = sorted(_read_rows(data / "nih_128" / "labels.jsonl"), key=lambda row: row["follow_up"])
    return _by_patient(
        _image(row, data / "nih_128", TEXT_MINED, row["labels"]) for row in rows if row["labels"]
    )


def expert_images(data: Path) -> list[list[LabelledImage]]:
    """Images of each held-back patient read by one source, in time order; a list per source."""
    rows = sorted(_read_rows(data / "nih_expert" / "readings.jsonl"), key=lambda row: row["id"])
    return [
        images
        for source, names in (("chestx-det", CHESTX_DET), ("rsna-2018", RSNA))
        for images in _by_patient(
            _image(row, data / "nih_expert", names, reading["classes"])
            for row in rows
            for reading in row["readings"]
            if reading["source"] == source
        )
    ]


def _read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _image(
    row: Mapping[str, Any],
    folder: Path,
    names: Mapping[str, tuple[str, ...]],
    labels: Iterable[str],
) -> LabelledImage:
    present = {finding: not set(labels).isdisjoint(names[finding]) for finding in names}
    return LabelledImage(row["id"], row["patient_id"], folder / row["image"], present)


def _by_patient(images: Iterable[LabelledImage]) -> list[list[LabelledImage]]:
    """Images of each held-back patient with more than one."""
    grouped: defaultdict[str, list[LabelledImage]] = defaultdict(list)
    for image in images:
        if is_held_back(image.patient, share=NIH_VAL_SHARE):
            grouped[image.patient].append(image)
    return [images for images in grouped.values() if len(images) > 1]


def predict_log_odds(
    patients: Iterable[list[LabelledImage]],
    encoder: ImageEncoder,
    head: FindingHead,
    calibration: Calibration,
) -> dict[str, Floats]:
    """Calibrated log-odds [findings] by image, clipped as in `rag.change`."""
    limit = np.log((1 - PROBABILITY_FLOOR) / PROBABILITY_FLOOR)
    log_odds: dict[str, Floats] = {}
    for image in chain.from_iterable(patients):
        if image.image_id not in log_odds:
            vectors = encoder.embed_images([read_image(image.path)])
            calibrated = head.log_odds(vectors)[0] * calibration.slope + calibration.shift
            log_odds[image.image_id] = np.clip(calibrated, -limit, limit)
    return log_odds


def pair_images(
    patients: Iterable[list[LabelledImage]],
    log_odds: Mapping[str, Floats],
    names: Sequence[str],
    *,
    not_assessable: frozenset[str],
) -> ImagePairs:
    """Consecutive images, with a row for each assessable finding that the source labels."""
    rows = [
        (
            earlier.patient,
            name,
            earlier.present[name],
            later.present[name],
            log_odds[later.image_id][column],
        )
        for images in patients
        for earlier, later in pairwise(images)
        for column, name in enumerate(names)
        if name in earlier.present and name not in not_assessable
    ]
    patient, finding, before, now, current = zip(*rows, strict=True)
    return ImagePairs(
        np.array(patient),
        np.array(finding),
        np.array(before, bool),
        np.array(now, bool),
        np.array(current),
    )
