"""Opens images for a reader's viewer: those of a study, and those of a prior beside them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from encoders.base import View
from encoders.image_io import read_image_info, read_preview, read_raw
from encoders.images.image_info import ImageInfo
from encoders.images.raw_image import ImageReadError, RawImage
from rag.errors import CxrRagError
from rag.priors import Prior, PriorMismatchError, check_prior
from rag.study import drop_rejected
from reading_room import strings
from reading_room.file_store import FileStore
from reading_room.image_panel import ShownImage, encode_image
from reading_room.session import ActionError, Session

MAX_IMAGES = 4


class ImageOpener:
    """Reads images, and stores their pixels where the reader's viewer fetches them."""

    def __init__(self, file_store: FileStore) -> None:
        self.file_store = file_store

    def open_images(self, paths: Sequence[Path], *, reader: str) -> Session:
        """A new session with the images of one study.

        Raises:
            ActionError: one of them cannot be read, or there are too many.
        """
        if len(paths) > MAX_IMAGES:
            raise ActionError(strings.TOO_MANY_IMAGES.format(MAX_IMAGES, len(paths)))
        accepted, notes = drop_rejected(paths)
        if not accepted and paths:
            raise ActionError(strings.NO_ACCEPTED_IMAGE)
        opened = [self._open(path, reader) for path in accepted]
        if notes:
            opened[0] = replace(opened[0], warnings=(*opened[0].warnings, *notes))
        return Session(images=_frontal_first(opened))

    def open_prior(self, session: Session, prior: Prior, *, reader: str) -> Session:
        """The session with a prior, and its images.

        Raises:
            ActionError: it is another patient's or unusable; or the current image is gone.
        """
        if not prior:
            return replace(session, prior=prior, prior_images=())
        try:
            current = read_image_info(Path(session.images[0].path))
        except ImageReadError as error:
            raise ActionError(strings.IMAGE_GONE) from error
        prior, images = validate_prior(prior, current)
        paths = [path for path in images[:MAX_IMAGES] if isinstance(path, Path)]
        opened = _frontal_first(self._open(path, reader) for path in paths)
        return replace(session, prior=prior, prior_images=opened)

    def open_preview(self, paths: Sequence[Path], *, reader: str) -> Session | None:
        """The images at low resolution; None unless that is much faster for all of them."""
        shown = []
        for path in paths[:MAX_IMAGES]:
            preview = read_preview(path)
            if preview is None:
                return None
            raw, full_size = preview
            shown.append(self._store(raw, path, reader, full_size=full_size))
        return Session(images=_frontal_first(shown)) if 0 < len(shown) == len(paths) else None

    def _open(self, path: Path, reader: str) -> ShownImage:
        try:
            return self._store(read_raw(path), path, reader)
        except ImageReadError as error:
            raise ActionError(f"{strings.IMAGE}: {error}") from error

    def _store(
        self, raw: RawImage, path: Path, reader: str, *, full_size: tuple[int, int] | None = None
    ) -> ShownImage:
        name = self.file_store.put(encode_image(raw, full_size=full_size), reader=reader)
        return ShownImage(
            str(path),
            url=f"image/{name}",
            sha256=raw.source_sha256,
            view=raw.view,
            has_spacing=raw.spacing_mm is not None,
            is_dicom=bool(raw.modality),
            warnings=raw.warnings,
        )


def validate_prior(prior: Prior, current: ImageInfo) -> tuple[Prior, tuple[Path | bytes, ...]]:
    """The prior with its date, and its images.

    Raises:
        ActionError: unusable, or another patient's; then the message names both headers' patients.
    """
    try:
        checked = check_prior(prior, current)
    except PriorMismatchError as error:
        here, there = (words or strings.NO_PATIENT_NAME for words in error.identities)
        reason = (
            strings.PRIOR_PATIENTS.format(error, here, there)
            if any(error.identities)
            else str(error)
        )
        raise ActionError(reason) from error
    except (CxrRagError, ImageReadError) as error:
        raise ActionError(str(error)) from error
    date = checked.study_date.isoformat() if checked.study_date else ""
    return replace(prior, date=date), checked.images


def _frontal_first(images: Iterable[ShownImage]) -> tuple[ShownImage, ...]:
    return tuple(sorted(images, key=lambda image: image.view is View.LATERAL))
