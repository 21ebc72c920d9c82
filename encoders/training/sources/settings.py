"""The ``[data]`` table of a training configuration; layouts: docs/training.md, "Your own data"."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from encoders.annotations import GAZE_SIGMA

ALL_OF_CHESTX_DET = (
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Consolidation",
    "Diffuse Nodule",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Fracture",
    "Mass",
    "Nodule",
    "Pleural Thickening",
    "Pneumothorax",
)
FINDINGS = (*ALL_OF_CHESTX_DET, "Lung Opacity", "Infiltrate", "Pneumonia")
"""What was drawn on the NIH images by any source."""


class _Source(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    path: Path


NIH_VAL_SHARE = 0.15
"""Of the NIH's patients, held back: the shipped weights saw no image of theirs."""


class NihExpert(_Source):
    """NIH images that radiologists read: the folder with readings.jsonl.

    Those with boxes are training studies of their own, what was drawn is their text.

    Attributes:
        labels: tables of further images with text-mined labels alone.
        val_share: of the patients, kept out of training; the same ones each time.
    """

    kind: Literal["nih_expert"] = "nih_expert"
    labels: tuple[Path, ...] = ()
    val_share: float = Field(default=NIH_VAL_SHARE, ge=0, lt=1)


class AnnotationTable(_Source):
    """Your own annotation: a CSV or JSONL file.

    Attributes:
        sigma, by_duration: of fixations; see `encoders.annotations.Fixations`.
    """

    kind: Literal["table"] = "table"
    sigma: float = Field(default=GAZE_SIGMA, gt=0, le=1)
    by_duration: bool = True


ExpertSource = Annotated[NihExpert | AnnotationTable, Field(discriminator="kind")]


class _StudyFiles(_Source):
    """Attributes of every set of studies.

    Attributes:
        same_texts: training texts that are, word for word, in another split: ``drop`` leaves
            them out, ``keep`` only counts them.
        experts: annotation of these images; read only where the settings have ``[expert]`` or
            ``[labelled]``.
    """

    same_texts: Literal["drop", "keep"] = "drop"
    experts: tuple[ExpertSource, ...] = ()


class Openi(_StudyFiles):
    """Open-I: the folder with studies.jsonl."""

    kind: Literal["openi"] = "openi"


class Mimic(_StudyFiles):
    """MIMIC-CXR with the tables of MIMIC-CXR-JPG.

    Attributes:
        path: holds ``files/p10/...`` with the images.
        reports: holds the same tree with ``s<study>.txt``.
        tables: holds the split and metadata tables; ``path`` if left out.
        suffix: of the images.
    """

    kind: Literal["mimic"] = "mimic"
    reports: Path
    tables: Path | None = None
    suffix: Literal["jpg", "png", "dcm"] = "jpg"


class StudyTable(_StudyFiles):
    """Your own studies: a CSV or JSONL file, an image a row.

    Attributes:
        val_share: of the patients, where the table has no ``split``; the same patients each time.
    """

    kind: Literal["table"] = "table"
    val_share: float = Field(default=0.1, gt=0, lt=1)


StudySource = Annotated[Openi | Mimic | StudyTable, Field(discriminator="kind")]
