"""What the tests of reading images share."""

import io
import struct
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from encoders.image_io import read_image
from encoders.images.raw_image import ImageReadError

WINDOW = {"BitsStored": 12, "WindowCenter": 2048, "WindowWidth": 4096}


def read_error(source: Path | bytes, **options: Any) -> ImageReadError:
    with pytest.raises(ImageReadError) as caught:
        read_image(source, **options)
    return caught.value


def encode_image(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def meta_header_end(data: bytes) -> int:
    """Where the data set begins."""
    return 144 + int(struct.unpack_from("<I", data, 140)[0])
