"""What the viewer (``static/viewer.js``) is told about each image, and the image as it is sent."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from encoders.base import View
from encoders.images.exposure import Window
from encoders.images.raw_image import RawImage
from rag.study import NO_REGION, ReaderRegion
from reading_room import strings
from reading_room.templating import view_name


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


def viewer_value(
    images: Sequence[ShownImage],
    *,
    region: ReaderRegion = NO_REGION,
    prior: Sequence[ShownImage] = (),
    prior_date: str = "",
) -> list[dict[str, Any]]:
    """The value of the viewer: one object per image, each prior image beside its current one.

    Args:
        images: of the study, frontal first: the draft is made from the first.
        region: what the reader has marked on that.
        prior: of the patient's earlier study, frontal first.
        prior_date: of that, as it is known.
    """
    named = strings.PRIOR_OF.format(prior_date) if prior_date else strings.PRIOR
    pairs = zip_longest(
        [_shown(image, view_name(image.view)) for image in images],
        [_shown(image, _with_view(named, image.view), prior=True) for image in prior],
    )
    values = [shown for pair in pairs for shown in pair if shown]
    if images:
        values[0].update(drafted=True, region=region.to_json())
    return values


def _with_view(name: str, view: View) -> str:
    return name if view is View.UNKNOWN else f"{name} · {view.value}"


def _shown(image: ShownImage, name: str, *, prior: bool = False) -> dict[str, Any]:
    return {
        "key": image.sha256,
        "url": image.url,
        "name": name,
        "label": strings.IMAGE_LABEL.format(name),
        "drafted": False,
        "region": {},
        "prior": prior,
        "link": "lateral" if image.view is View.LATERAL else "frontal",
        "spacing_note": strings.AT_DETECTOR if image.spacing else strings.NO_SPACING,
        "warnings": list(image.warnings),
    }


def image_file(raw: RawImage, *, size: tuple[int, int] | None = None) -> bytes:
    """What ``static/image.js`` reads: head, display table, codes, a bit for each hidden pixel.

    Args:
        raw: the image as it was read. 8-bit images are sent in 8 bits, deeper ones in 16.
        size: rows and columns of the full image, for a preview.
    """
    height, width = size or raw.codes.shape
    narrow = int(raw.codes.max(initial=0)) < 256
    head = json.dumps(
        {
            "width": width,
            "height": height,
            "stored": raw.codes.shape,
            "bytes": 1 if narrow else 2,
            "slope": raw.slope,
            "intercept": raw.intercept,
            "invert": raw.invert,
            "window": {
                "centre": raw.window.centre,
                "width": raw.window.width,
                "shape": raw.window.function.value,
            },
            "lut": not isinstance(raw.voi, Window),
            "spacing": raw.spacing_mm,
            "hidden": raw.hidden is not None,
        }
    ).encode()
    head += b" " * (-len(head) % 8)
    table = np.rint(raw.display_table() * 255).astype(np.uint8)
    parts = [
        b"CXF1",
        len(head).to_bytes(4, "little"),
        head,
        table.tobytes(),
        raw.codes.astype(np.uint8 if narrow else "<u2").tobytes(),
    ]
    if raw.hidden is not None:
        parts.append(np.packbits(raw.hidden, axis=None, bitorder="little").tobytes())
    return b"".join(parts)
