"""The ``[data]`` table of a training configuration; layouts: docs/training.md, "Your own data"."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from encoders.annotations import GAZE_SIGMA

CHESTX_DET_FINDINGS = (
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
FINDINGS = (*CHESTX_DET_FINDINGS, "Lung Opacity", "Infiltrate", "Pneumonia")
"""All findings that any annotation source drew on the NIH images."""


class _Source(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    path: Path


NIH_VAL_SHARE = 0.15
"""Share of the NIH's patients held back from training the shipped weights."""


class NihExpert(_Source):
    """NIH images annotated by radiologists: the folder with readings.jsonl.

    Images with drawings also become training studies, with a text made from the drawings.

    Attributes:
        labels: tables of further images that have only text-mined labels.
        val_share: share of the patients kept out of training, always the same ones.
    """

    kind: Literal["nih_expert"] = "nih_expert"
    labels: tuple[Path, ...] = ()
    val_share: float = Field(default=NIH_VAL_SHARE, ge=0, lt=1)


class AnnotationTable(_Source):
    """Your own annotation: a CSV or JSONL file.

    Attributes:
        sigma, by_duration: see `encoders.annotations.Fixations`.
    """

    kind: Literal["table"] = "table"
    sigma: float = Field(default=GAZE_SIGMA, gt=0, le=1)
    by_duration: bool = True


ExpertSource = Annotated[NihExpert | AnnotationTable, Field(discriminator="kind")]


class _StudySource(_Source):
    """What every source of studies has.

    Attributes:
        same_texts: whether to ``drop`` or ``keep`` training studies whose text is, word for word,
            that of a study in another split.
        experts: annotation; read only if the settings have ``[expert]`` or ``[labelled]``.
    """

    same_texts: Literal["drop", "keep"] = "drop"
    experts: tuple[ExpertSource, ...] = ()


class Openi(_StudySource):
    """Open-I: the folder with studies.jsonl."""

    kind: Literal["openi"] = "openi"


class Mimic(_StudySource):
    """MIMIC-CXR with the tables of MIMIC-CXR-JPG.

    Attributes:
        path: folder with the images in ``files/p10/...``.
        reports: folder with the same tree of ``s<study>.txt``.
        tables: folder with the split and metadata tables; by default ``path``.
        suffix: of the image files.
    """

    kind: Literal["mimic"] = "mimic"
    reports: Path
    tables: Path | None = None
    suffix: Literal["jpg", "png", "dcm"] = "jpg"


class StudyTable(_StudySource):
    """Your own studies: a CSV or JSONL file, one image per row.

    Attributes:
        val_share: share of the patients used for validation if the table gives no ``split``.
    """

    kind: Literal["table"] = "table"
    val_share: float = Field(default=0.1, gt=0, lt=1)


StudySource = Annotated[Openi | Mimic | StudyTable, Field(discriminator="kind")]
