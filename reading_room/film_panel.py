"""An uploaded film as a picture for the page."""

import numpy as np
from PIL import Image

from encoders.base import CxrImage

LONGEST_SIDE = 1600
"""Pixels; enough for the page, and it keeps a 12-megapixel film from being sent whole."""


def film_picture(image: CxrImage) -> Image.Image:
    """8-bit grey picture of a film, at most `LONGEST_SIDE` pixels wide or high."""
    picture = Image.fromarray(np.rint(image.pixels * 255).astype(np.uint8))
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    return picture
