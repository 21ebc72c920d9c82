"""One line of the worklist: a study of the folder, and how far it has come."""

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
    """How far a study of the list has come; in the order of the list."""

    DRAFTED = "drafted"
    WAITING = "waiting"
    REFUSED = "refused"
    SIGNED = "signed"


FileState = tuple[str, int, int]
"""Path, time of the last change and size of a file."""


@dataclass(frozen=True, slots=True)
class ListedStudy:
    """One line of the list.

    Attributes:
        study: its images.
        files: the state of each image: what a draft of it was made from.
        info: what the header of the image to draft from says. Never log it.
        prior: the patient's newest earlier study in the folder.
        prediction: the draft that was made ahead, or why there is none; None: it waits.
        drafted_at: when, in seconds of `time.time`.
        signed: by whom and when; empty before.
    """

    study: BatchStudy
    files: tuple[FileState, ...]
    info: ImageInfo = field(default_factory=ImageInfo)
    prior: Prior = NO_PRIOR
    prediction: Prediction | None = None
    drafted_at: float = 0.0
    signed: str = ""

    @property
    def key(self) -> str:
        """What the study is called."""
        return self.study.study_id

    @property
    def images(self) -> list[Path]:
        """The image to draft from, then the others."""
        return [self.study.source, *self.study.other_views]

    @property
    def state(self) -> StudyState:
        """Where it stands; what failed for want of a server waits."""
        if self.signed:
            return StudyState.SIGNED
        found = self.prediction
        if found is None or (found.status is Status.FAILED and found.error != "ImageReadError"):
            return StudyState.WAITING
        return StudyState.DRAFTED if found.status is Status.OK else StudyState.REFUSED

    @property
    def date(self) -> str:
        """The date of the study as "2026-03-01"; empty where the header has none."""
        at = self.info.study_time
        return f"{at[:4]}-{at[4:6]}-{at[6:8]}" if len(at) >= 8 else ""

    @property
    def urgency(self) -> tuple[float, str]:
        """The highest probability of a finding that must not be missed, and which; 0 for none."""
        if self.prediction is None:
            return 0.0, ""
        predicted = self.prediction.predicted
        found = [
            (predicted.probabilities[name], name)
            for name in MUST_NOT_MISS
            if name in predicted.probabilities and name not in predicted.not_assessable
        ]
        return max(found, default=(0.0, ""))
