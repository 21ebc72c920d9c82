"""One line of the worklist: a study of the folder, and its state."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from encoders.images.image_info import ImageInfo
from rag.batch.inputs import BatchStudy
from rag.prediction import Prediction
from rag.priors import NO_PRIOR, Prior
from rag.schema import Status
from rag.screening.calibration import MUST_NOT_MISS


class StudyState(StrEnum):
    """State of a listed study, in the order of the list."""

    DRAFTED = "drafted"
    WAITING = "waiting"
    REFUSED = "refused"
    SIGNED = "signed"


FileStamp = tuple[str, int, int]
"""Path, modification time and size of a file."""


@dataclass(frozen=True, slots=True)
class ListedStudy:
    """One line of the list.

    Attributes:
        study: its images.
        files: of its images and its prior's; if one changes, the study is drafted again.
        info: header of the image the draft is made from. Never log it.
        prior: the patient's newest earlier study in the folder.
        prediction: the draft made ahead, or why there is none; None while it waits.
        drafted_at: seconds since the epoch.
        signed: as in "signed by Roe, 2026-11-01"; empty if unsigned.
    """

    study: BatchStudy
    files: tuple[FileStamp, ...]
    info: ImageInfo = field(default_factory=ImageInfo)
    prior: Prior = NO_PRIOR
    prediction: Prediction | None = None
    drafted_at: float = 0.0
    signed: str = ""

    @property
    def key(self) -> str:
        """The study id."""
        return self.study.study_id

    @property
    def images(self) -> list[Path]:
        """The image the draft is made from, then the others."""
        return [self.study.source, *self.study.other_views]

    @property
    def state(self) -> StudyState:
        """Its state; a study that failed because a server was down waits."""
        if self.signed:
            return StudyState.SIGNED
        prediction = self.prediction
        if prediction is None or (
            prediction.status is Status.FAILED and prediction.error != "ImageReadError"
        ):
            return StudyState.WAITING
        return StudyState.DRAFTED if prediction.status is Status.OK else StudyState.REFUSED

    @property
    def date(self) -> str:
        """The study date as "2026-03-01"; empty if the header has none."""
        at = self.info.study_time
        return f"{at[:4]}-{at[4:6]}-{at[6:8]}" if len(at) >= 8 else ""

    @property
    def urgency(self) -> tuple[float, str]:
        """The highest probability of a finding that must not be missed, and which; 0 for none."""
        if self.prediction is None:
            return 0.0, ""
        predicted = self.prediction.predicted
        probabilities = [
            (predicted.probabilities[name], name)
            for name in MUST_NOT_MISS
            if name in predicted.probabilities and name not in predicted.not_assessable
        ]
        return max(probabilities, default=(0.0, ""))
