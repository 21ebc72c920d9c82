"""Serializes an image for the viewer: every stored value and the file's own display settings.

``static/image.js`` reads it.
"""

import json
from typing import Any

import numpy as np

from encoders.images.exposure import Window
from encoders.images.raw_image import RawImage

MAGIC = b"CXF1"


def image_file(raw: RawImage, *, size: tuple[int, int] | None = None) -> bytes:
    """The message: head, display table, codes, and a bit for each hidden pixel where there are any.

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
            "window": window_json(raw.window),
            "lut": not isinstance(raw.voi, Window),
            "spacing": raw.spacing_mm,
            "hidden": raw.hidden is not None,
        }
    ).encode()
    head += b" " * (-len(head) % 8)
    table = np.rint(raw.display_table() * 255).astype(np.uint8)
    parts = [
        MAGIC,
        len(head).to_bytes(4, "little"),
        head,
        table.tobytes(),
        raw.codes.astype(np.uint8 if narrow else "<u2").tobytes(),
    ]
    if raw.hidden is not None:
        parts.append(np.packbits(raw.hidden, axis=None, bitorder="little").tobytes())
    return b"".join(parts)


def window_json(window: Window) -> dict[str, Any]:
    """A window as the viewer reads it, in values of the modality LUT's output."""
    return {"centre": window.centre, "width": window.width, "shape": window.function.value}
