"""NIH ChestX-ray14 images on which radiologists drew boxes, as studies and expert images.

A folder holds ``labels.jsonl`` (image, patient, finding labels) and ``expert_boxes.jsonl`` (boxes
as fractions of the image). There are no reports: the finding labels are the text.

Source: Wang et al., CVPR 2017 (images, labels, some boxes); Shih et al., Radiology: AI 2019 (RSNA).
"""

from collections.abc import Iterable
from pathlib import Path

from encoders.annotations import Boxes
from encoders.training.dataset import ExpertImage, Split, TrainingStudy
from encoders.training.sources.tables import read_rows


def read_nih_boxes(folder: Path) -> tuple[list[TrainingStudy], list[ExpertImage]]:
    """The images with boxes, each a training study of its own, and their annotations.

    Raises:
        TrainingDataError: a file is not there or a line cannot be used.
    """
    labels = folder / "labels.jsonl"
    images = {
        row.needed("id"): row.values
        for row in read_rows(labels, needed=("id", "image", "patient_id", "labels"))
    }
    studies, experts = [], []
    for row in read_rows(folder / "expert_boxes.jsonl", needed=("id", "boxes")):
        image, boxes = images.get(row.needed("id")), row.values["boxes"]
        if image is None or not boxes:
            continue
        path, study_id = folder / image["image"], f"nih-{row.needed('id')}"
        study = TrainingStudy(
            study_id=study_id,
            patient_id=f"nih-{image['patient_id']}",
            frontals=(path,),
            laterals=(),
            text=label_text([*image["labels"], *(box["label"] for box in boxes)]),
            labels=frozenset(),
            split=Split.TRAIN,
        )
        places = tuple((box["nx"], box["ny"], box["nw"], box["nh"]) for box in boxes)
        studies.append(study)
        experts.append(ExpertImage(study_id=study_id, image=path, annotation=Boxes(places)))
    return studies, experts


def label_text(labels: Iterable[str]) -> str:
    """A sentence for each label, equal ones once; remarks in brackets are left out."""
    plain = (label.split(" (")[0].replace("_", " ").lower() for label in labels)
    return " ".join(f"{one.capitalize()}." for one in dict.fromkeys(plain) if one != "no finding")
