"""What a reader can open: images of a study, an earlier one beside them, a line of the worklist."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from encoders.base import View
from encoders.images.image_info import ImageInfo
from encoders.images.image_io import read_image_info, read_preview, read_raw
from encoders.images.raw_image import ImageReadError
from rag.batch.inputs import BatchStudy
from rag.errors import CxrRagError
from rag.prediction import Prediction
from rag.priors import NO_PRIOR, Prior, PriorMismatchError, check_prior
from rag.schema import Status
from rag.screening.calibration import MUST_NOT_MISS
from rag.study import without_rejected
from reading_room import strings
from reading_room.file_store import FileStore
from reading_room.image_panel import ShownImage, image_file, view_name
from reading_room.session import ControllerError, Session

MAX_IMAGES = 4


class Opener:
    """Puts images where a reader's viewer finds them.

    Args:
        file_store: keeps them.
    """

    def __init__(self, file_store: FileStore) -> None:
        self._file_store = file_store

    def open_images(self, paths: Sequence[Path], *, reader: str) -> Session:
        """A new session with the images of one study.

        Raises:
            ControllerError: one of them cannot be read, or there are too many.
        """
        if len(paths) > MAX_IMAGES:
            raise ControllerError(strings.TOO_MANY_IMAGES.format(MAX_IMAGES, len(paths)))
        kept, notes = without_rejected(paths)
        if not kept and paths:
            raise ControllerError(strings.NO_ACCEPTED_IMAGE)
        opened = [self._open(path, reader=reader) for path in kept]
        if notes:
            opened[0] = replace(opened[0], warnings=(*opened[0].warnings, *notes))
        return _session(opened)

    def open_prior(self, session: Session, prior: Prior, *, reader: str) -> Session:
        """The session with an earlier study, and its images to be shown.

        Raises:
            ControllerError: it is another patient's, which both headers are shown for, or unusable;
                or the image itself is gone.
        """
        if not prior:
            return replace(session, prior=prior, prior_images=())
        try:
            current = read_image_info(Path(session.images[session.drafted].path))
        except ImageReadError as error:
            raise ControllerError(strings.IMAGE_GONE) from error
        prior, images = checked_prior(prior, current)
        paths = [path for path in images[:MAX_IMAGES] if isinstance(path, Path)]
        opened = [self._open(path, reader=reader) for path in paths]
        opened.sort(key=lambda image: image.view is View.LATERAL)
        return replace(session, prior=prior, prior_images=tuple(opened))

    def preview(self, paths: Sequence[Path], *, reader: str) -> Session | None:
        """The same at low resolution, where every image can be decoded much sooner that way."""
        images = []
        for path in paths[:MAX_IMAGES]:
            found = read_preview(path)
            if found is None:
                return None
            image, size = found
            content = image_file(image, size=size)
            url = f"image/{self._file_store.put(content, reader=reader)}"
            images.append(ShownImage.of(image, path=str(path), url=url))
        return _session(images) if images and len(images) == len(paths) else None

    def _open(self, path: Path, *, reader: str) -> ShownImage:
        try:
            raw = read_raw(path)
        except ImageReadError as error:
            raise ControllerError(f"{strings.IMAGE}: {error}") from error
        url = f"image/{self._file_store.put(image_file(raw), reader=reader)}"
        return ShownImage.of(raw, path=str(path), url=url)


def checked_prior(prior: Prior, current: ImageInfo) -> tuple[Prior, tuple[Path | bytes, ...]]:
    """An earlier study that is this patient's, with its date, and its images.

    Raises:
        ControllerError: it is another patient's, which both headers are shown for, or unusable.
    """
    try:
        checked = check_prior(prior, current)
    except PriorMismatchError as error:
        here, there = (words or strings.NO_HEADER_WORDS for words in error.both)
        reason = strings.OF_WHOM.format(error, here, there) if any(error.both) else str(error)
        raise ControllerError(reason) from error
    except (CxrRagError, ImageReadError) as error:
        raise ControllerError(str(error)) from error
    day = checked.made_on.isoformat() if checked.made_on else ""
    return replace(prior, date=day), checked.images


def _session(images: list[ShownImage]) -> Session:
    images.sort(key=lambda image: image.view is View.LATERAL)
    return Session(images=tuple(images))


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
        return [self.study.source, *self.study.further]

    @property
    def state(self) -> StudyState:
        """Where it stands; what failed for want of a server waits."""
        if self.signed:
            return StudyState.SIGNED
        found = self.prediction
        if found is None or _passing(found):
            return StudyState.WAITING
        return StudyState.DRAFTED if found.status is Status.OK else StudyState.REFUSED

    @property
    def view_name(self) -> str:
        """The view in words."""
        return view_name(self.info.view)

    @property
    def date(self) -> str:
        """The date of the study as "2026-03-01"; empty where the header has none."""
        at = self.info.studied_at
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


def _passing(prediction: Prediction) -> bool:
    """Whether it failed for a reason that may pass, as a model server that is away."""
    return prediction.status is Status.FAILED and prediction.error != "ImageReadError"
