"""Images of one patient one after the other, with what two sources say of them and the head's odds.

Owns which labels of the NIH's sources say what the finding head says, and who is held back.
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
from encoders.images.image_io import read_image
from encoders.training.sources.nih_expert import is_held_back
from encoders.training.sources.settings import NIH_VAL_SHARE
from rag.change import PROBABILITY_FLOOR
from rag.screening.calibration import Calibration
from rag.screening.finding_head import FindingHead

MINED = {
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
"""The head's findings, and NIH's text-mined labels that say the same."""
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
class ReadImage:
    """An image of a patient and what one source says of it, by the head's names."""

    image_id: str
    patient: str
    path: Path
    present: Mapping[str, bool]


@dataclass(frozen=True, slots=True, eq=False)
class ImagePairs:
    """One row for each finding of two images of a patient.

    Attributes:
        patients, findings: str [N].
        before, now: whether it is there, bool [N].
        odds: calibrated log-odds of the later image, float64 [N].
    """

    patients: NDArray[np.str_]
    findings: NDArray[np.str_]
    before: Flags
    now: Flags
    odds: Floats

    def only(self, rows: NDArray[Any]) -> "ImagePairs":
        """Some rows."""
        fields = (self.patients, self.findings, self.before, self.now, self.odds)
        return ImagePairs(*(field[rows] for field in fields))


def mined_images(data: Path) -> list[list[ReadImage]]:
    """Images of each held-back patient with text-mined labels, in time order."""
    rows = sorted(_rows(data / "nih_128" / "labels.jsonl"), key=lambda row: row["follow_up"])
    return _by_patient(
        _image(row, data / "nih_128", MINED, row["labels"]) for row in rows if row["labels"]
    )


def expert_images(data: Path) -> list[list[ReadImage]]:
    """Images of each held-back patient that one source read, in time order; a list a source."""
    rows = sorted(_rows(data / "nih_expert" / "readings.jsonl"), key=lambda row: row["id"])
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


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _image(
    row: Mapping[str, Any], folder: Path, names: Mapping[str, tuple[str, ...]], said: Iterable[str]
) -> ReadImage:
    labels = set(said)
    present = {name: bool(labels & set(words)) for name, words in names.items()}
    return ReadImage(row["id"], row["patient_id"], folder / row["image"], present)


def _by_patient(images: Iterable[ReadImage]) -> list[list[ReadImage]]:
    found: defaultdict[str, list[ReadImage]] = defaultdict(list)
    for image in images:
        if is_held_back(image.patient, share=NIH_VAL_SHARE):
            found[image.patient].append(image)
    return [images for images in found.values() if len(images) > 1]


def log_odds(
    patients: Iterable[list[ReadImage]],
    encoder: ImageEncoder,
    head: FindingHead,
    measured: Calibration,
) -> dict[str, Floats]:
    """The head's calibrated log-odds by image, as the product cuts them off."""
    limit = np.log((1 - PROBABILITY_FLOOR) / PROBABILITY_FLOOR)
    found: dict[str, Floats] = {}
    for image in chain.from_iterable(patients):
        if image.image_id not in found:
            vectors = encoder.embed_images([read_image(image.path)])
            odds = head.log_odds(vectors)[0] * measured.slope + measured.shift
            found[image.image_id] = np.clip(odds, -limit, limit)
    return found


def pairs_of(
    patients: Iterable[list[ReadImage]],
    odds: Mapping[str, Floats],
    names: Sequence[str],
    *,
    blind: frozenset[str],
) -> ImagePairs:
    """Consecutive images, a row for each finding that both were looked at for and that is seen."""
    rows = [
        (one.patient, name, one.present[name], two.present[name], odds[two.image_id][at])
        for images in patients
        for one, two in pairwise(images)
        for at, name in enumerate(names)
        if name in one.present and name not in blind
    ]
    of, findings, before, now, later = zip(*rows, strict=True)
    return ImagePairs(
        np.array(of),
        np.array(findings),
        np.array(before, bool),
        np.array(now, bool),
        np.array(later),
    )
