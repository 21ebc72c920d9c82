"""Opens images for a reader: those of a study, and those of an earlier one beside them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from encoders.base import View
from encoders.images.image_info import ImageInfo
from encoders.images.image_io import read_image_info, read_preview, read_raw
from encoders.images.raw_image import ImageReadError, RawImage
from rag.errors import CxrRagError
from rag.priors import Prior, PriorMismatchError, check_prior
from rag.study import drop_rejected
from reading_room import strings
from reading_room.file_store import FileStore
from reading_room.image_panel import ShownImage, image_file
from reading_room.session import ControllerError, Session

MAX_IMAGES = 4


class Opener:
    """Puts images where a reader's viewer finds them."""

    def __init__(self, file_store: FileStore) -> None:
        self.file_store = file_store

    def open_images(self, paths: Sequence[Path], *, reader: str) -> Session:
        """A new session with the images of one study.

        Raises:
            ControllerError: one of them cannot be read, or there are too many.
        """
        if len(paths) > MAX_IMAGES:
            raise ControllerError(strings.TOO_MANY_IMAGES.format(MAX_IMAGES, len(paths)))
        kept, notes = drop_rejected(paths)
        if not kept and paths:
            raise ControllerError(strings.NO_ACCEPTED_IMAGE)
        opened = [self._open(path, reader) for path in kept]
        if notes:
            opened[0] = replace(opened[0], warnings=(*opened[0].warnings, *notes))
        return Session(images=_frontal_first(opened))

    def open_prior(self, session: Session, prior: Prior, *, reader: str) -> Session:
        """The session with an earlier study, and its images to be shown.

        Raises:
            ControllerError: it is another patient's, which both headers are shown for, or unusable;
                or the image itself is gone.
        """
        if not prior:
            return replace(session, prior=prior, prior_images=())
        try:
            current = read_image_info(Path(session.images[0].path))
        except ImageReadError as error:
            raise ControllerError(strings.IMAGE_GONE) from error
        prior, images = checked_prior(prior, current)
        paths = [path for path in images[:MAX_IMAGES] if isinstance(path, Path)]
        opened = _frontal_first(self._open(path, reader) for path in paths)
        return replace(session, prior=prior, prior_images=opened)

    def preview(self, paths: Sequence[Path], *, reader: str) -> Session | None:
        """The same at low resolution, where every image can be decoded much sooner that way."""
        shown = []
        for path in paths[:MAX_IMAGES]:
            found = read_preview(path)
            if found is None:
                return None
            raw, size = found
            shown.append(self._shown(raw, path, reader, size=size))
        return Session(images=_frontal_first(shown)) if 0 < len(shown) == len(paths) else None

    def _open(self, path: Path, reader: str) -> ShownImage:
        try:
            return self._shown(read_raw(path), path, reader)
        except ImageReadError as error:
            raise ControllerError(f"{strings.IMAGE}: {error}") from error

    def _shown(
        self, raw: RawImage, path: Path, reader: str, *, size: tuple[int, int] | None = None
    ) -> ShownImage:
        name = self.file_store.put(image_file(raw, size=size), reader=reader)
        return ShownImage(
            str(path),
            url=f"image/{name}",
            sha256=raw.source_sha256,
            view=raw.view,
            spacing=raw.spacing_mm is not None,
            dicom=bool(raw.modality),
            warnings=raw.warnings,
        )


def checked_prior(prior: Prior, current: ImageInfo) -> tuple[Prior, tuple[Path | bytes, ...]]:
    """An earlier study that is this patient's, with its date, and its images.

    Raises:
        ControllerError: it is another patient's, which both headers are shown for, or unusable.
    """
    try:
        checked = check_prior(prior, current)
    except PriorMismatchError as error:
        here, there = (words or strings.NO_HEADER_WORDS for words in error.identities)
        reason = strings.OF_WHOM.format(error, here, there) if any(error.identities) else str(error)
        raise ControllerError(reason) from error
    except (CxrRagError, ImageReadError) as error:
        raise ControllerError(str(error)) from error
    day = checked.made_on.isoformat() if checked.made_on else ""
    return replace(prior, date=day), checked.images


def _frontal_first(images: Iterable[ShownImage]) -> tuple[ShownImage, ...]:
    return tuple(sorted(images, key=lambda image: image.view is View.LATERAL))
