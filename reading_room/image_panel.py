"""The value of the viewer (``static/viewer.js``), and the file format of its images."""

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
    """An image on the page; without pixels, and without names from its header.

    Attributes:
        path: of the file on the server.
        url: of its pixels, for the viewer.
        sha256: hash of the file's bytes.
        view: if the file has it.
        has_spacing: whether the header has a pixel spacing.
        is_dicom: whether a DICOM SR can refer to it.
        warnings: for the reader.
    """

    path: str
    url: str
    sha256: str
    view: View
    has_spacing: bool
    is_dicom: bool = False
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
        images: of the study, frontal first; the draft is made from the first.
        region: what the reader has marked on the first.
        prior: images of the patient's earlier study, frontal first.
        prior_date: of that study, if known.
    """
    prior_name = strings.PRIOR_OF.format(prior_date) if prior_date else strings.PRIOR
    pairs = zip_longest(
        [_image_value(image, view_name(image.view)) for image in images],
        [_image_value(image, _with_view(prior_name, image.view), prior=True) for image in prior],
    )
    values = [value for pair in pairs for value in pair if value]
    if images:
        values[0].update(drafted=True, region=region.to_json())
    return values


def _with_view(name: str, view: View) -> str:
    return name if view is View.UNKNOWN else f"{name} · {view.value}"


def _image_value(image: ShownImage, name: str, *, prior: bool = False) -> dict[str, Any]:
    return {
        "key": image.sha256,
        "url": image.url,
        "name": name,
        "label": strings.IMAGE_LABEL.format(name),
        "drafted": False,
        "region": {},
        "prior": prior,
        "link": "lateral" if image.view is View.LATERAL else "frontal",
        "spacing_note": strings.AT_DETECTOR if image.has_spacing else strings.NO_SPACING,
        "warnings": list(image.warnings),
    }


def encode_image(raw: RawImage, *, full_size: tuple[int, int] | None = None) -> bytes:
    """What ``static/image.js`` reads: header, display table, codes, one bit per pixel if hidden.

    Args:
        raw: the image. Codes below 256 are sent in 8 bits, others in 16.
        full_size: rows and columns of the full image, for a preview.
    """
    height, width = full_size or raw.codes.shape
    is_8_bit = int(raw.codes.max(initial=0)) < 256
    header = json.dumps(
        {
            "width": width,
            "height": height,
            "stored": raw.codes.shape,
            "bytes": 1 if is_8_bit else 2,
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
    header += b" " * (-len(header) % 8)
    display_table = np.rint(raw.display_table() * 255).astype(np.uint8)
    parts = [
        b"CXF1",
        len(header).to_bytes(4, "little"),
        header,
        display_table.tobytes(),
        raw.codes.astype(np.uint8 if is_8_bit else "<u2").tobytes(),
    ]
    if raw.hidden is not None:
        parts.append(np.packbits(raw.hidden, axis=None, bitorder="little").tobytes())
    return b"".join(parts)
