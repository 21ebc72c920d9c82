"""The viewer as HTML, and what the page says of each image. The rest is ``static/viewer.js``."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from encoders.base import View
from encoders.images.raw_image import RawImage
from reading_room import strings

_CORNERS = ("name", "grey", "zoom", "turned", "spacing", "warnings", "region")


@dataclass(frozen=True, slots=True)
class ShownImage:
    """An image on the page. Holds no pixels and nothing of its header's names.

    Attributes:
        path: the upload, as the server keeps it.
        url: where the viewer finds its pixels.
        sha256: hash of the file's bytes.
        view: as far as the file says it.
        spacing: whether the header gives a pixel spacing.
        dicom: whether it is a DICOM file, which a DICOM report can be of.
        warnings: what a reader of the image should know.
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
        """What is kept of an image that was read."""
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
    """The value of the viewer: one object an image, frontal first."""
    return [
        {
            "key": image.sha256,
            "url": image.url,
            "name": image.name,
            "label": strings.IMAGE_LABEL.format(image.name),
            "drafted": len(images) > 1 and index == drafted,
            "pointed_at": index == drafted,
            "spacing_note": strings.AT_DETECTOR if image.spacing else strings.NO_SPACING,
            "warnings": list(image.warnings),
        }
        for index, image in enumerate(images)
    ]


def viewer_html() -> str:
    """The viewer without an image: toolbar, place for the panes, and the pattern of one."""
    groups = (
        _buttons(strings.TOOLS, switch=True),
        _buttons(strings.PRESETS, switch=True),
        _buttons(strings.SWITCHES, switch=True) + _buttons(strings.ACTIONS, switch=False),
    )
    bar = "".join(f'<div class="group">{group}</div>' for group in groups)
    corners = "".join(f'<div class="say-{corner}"></div>' for corner in _CORNERS)
    return (
        f'<section class="viewer" data-state="empty" aria-label="{strings.VIEWER}">'
        f'<div class="tools" role="toolbar" aria-label="{strings.VIEWER_TOOLS}">{bar}</div>'
        f'<div class="panes"></div>'
        f'<p class="empty">{strings.NO_IMAGE_YET}</p><p class="loading">{strings.LOADING}</p>'
        f'<p class="failed" role="alert">{strings.IMAGE_GONE}</p>'
        f'<input type="file" hidden accept=".csv,.tsv,.txt" aria-label="{strings.GAZE_FILE}">'
        '<template><div class="pane" tabindex="0" role="application">'
        f'<canvas aria-hidden="true"></canvas><svg aria-hidden="true"></svg>{corners}'
        f'<div class="drafted">{strings.DRAFTED_FROM}</div>'
        '<div class="scale-bar" hidden></div></div></template></section>'
    )


def _buttons(words: Mapping[str, tuple[str, str, str]], *, switch: bool) -> str:
    pressed = ' aria-pressed="false"' if switch else ""
    return "".join(
        f'<button type="button" data-do="{name}"{pressed} title="{escape(hint)} ({key})" '
        f'aria-label="{escape(hint if len(label) == 1 else f"{label}: {hint}")}" '
        f'aria-keyshortcuts="{escape(key)}">{escape(label)}</button>'
        for name, (label, key, hint) in words.items()
    )
