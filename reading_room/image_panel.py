"""What the viewer (``static/viewer.js``) is told about each image."""

from dataclasses import dataclass
from typing import Any

from encoders.base import View
from encoders.images.raw_image import RawImage
from reading_room import strings


@dataclass(frozen=True, slots=True)
class ShownImage:
    """An image on the page; without pixels or names from its header.

    Attributes:
        path: the upload, as the server keeps it.
        url: where the viewer finds its pixels.
        sha256: hash of the file's bytes.
        view: as far as the file says.
        spacing: whether the header gives a pixel spacing.
        dicom: whether it is a DICOM file, so that a DICOM SR can refer to it.
        warnings: for the reader.
    """

    path: str
    url: str
    sha256: str
    view: View
    spacing: bool
    dicom: bool = False
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, raw: RawImage, *, path: str, url: str) -> "ShownImage":
        """From a decoded image."""
        return cls(
            path,
            url,
            sha256=raw.source_sha256,
            view=raw.view,
            spacing=raw.spacing_mm is not None,
            dicom=bool(raw.modality),
            warnings=raw.warnings,
        )

    @property
    def name(self) -> str:
        """What the page calls it: never the file's own name, which may be a person's."""
        if self.view is View.UNKNOWN:
            return strings.IMAGE
        if self.view is View.LATERAL:
            return strings.LATERAL
        return f"{strings.FRONTAL} {self.view.value}"


def viewer_value(images: tuple[ShownImage, ...], *, drafted: int) -> list[dict[str, Any]]:
    """The value of the viewer: one object per image, frontal first."""
    return [
        {
            "key": image.sha256,
            "url": image.url,
            "name": image.name,
            "label": strings.IMAGE_LABEL.format(image.name),
            "drafted": index == drafted,
            "spacing_note": strings.AT_DETECTOR if image.spacing else strings.NO_SPACING,
            "warnings": list(image.warnings),
        }
        for index, image in enumerate(images)
    ]
