"""An image as stored and how to show it; and why a file cannot be read, with the size limits."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from encoders.base import View
from encoders.images.exposure import ALL_CODES, Voi, Window, apply_table

MIN_SIDE = 32
"""Fewest rows or columns of an image. At 32 pixels a 43 cm image has pixels of 13 mm, wider than a
rib or a nodule: it shows nothing that a report mentions. Such files are icons or test objects."""

MAX_PIXELS = 64_000_000
"""Most pixels of an image: the largest cassette, 43 cm square, at 54 micrometres, finer than any
chest detector (100 to 200 are usual). Checked before anything is decoded."""

COLOUR_WARNING = "a picture in several colours: its luminance is used"
"""Warning of a picture that cannot be an X-ray. It is read; whoever drafts must look for it."""

MAX_BYTES = 256 * 1024 * 1024
"""Most bytes of a file: the largest image as uncompressed RGB, with its header."""


class ReadFailure(StrEnum):
    """Why an image was not read; failures are counted by it."""

    FILE = "file cannot be opened"
    NOT_AN_IMAGE = "not a DICOM, PNG or JPEG file"
    NO_PIXELS = "no pixel data"
    BAD_HEADER = "header contradicts itself"
    TRUNCATED = "truncated"
    UNSUPPORTED = "unsupported encoding"
    UNDECODABLE = "cannot be decoded"
    TOO_SMALL = "too small"
    TOO_LARGE = "too large"


class ImageReadError(Exception):
    """An image that cannot be read: the only exception of reading, whatever the bytes.

    The message names the tag or reason, the value and the cure, and holds no header value that
    could name a person.
    """

    def __init__(self, reason: ReadFailure, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type["ImageReadError"], tuple[ReadFailure, str]]:
        """Pickled with its reason: readers run in worker processes."""
        return type(self), (self.reason, str(self))


def check_size(rows: int, columns: int, *, rows_name: str, columns_name: str) -> None:
    """Refuse a declared size that no image has, before memory is allocated.

    Raises:
        ImageReadError: too small or too large; the message names both fields.
    """
    size = f"{rows_name} = {rows}, {columns_name} = {columns}"
    if rows < MIN_SIDE or columns < MIN_SIDE:
        raise ImageReadError(
            ReadFailure.TOO_SMALL,
            f"{size}: an image has at least {MIN_SIDE} rows and columns, fewer show nothing that a "
            "report mentions. Send the full-size image, not an icon or a test object.",
        )
    if rows * columns > MAX_PIXELS:
        raise ImageReadError(
            ReadFailure.TOO_LARGE,
            f"{size}: {rows * columns / 1e6:.0f} million pixels, more than the "
            f"{MAX_PIXELS / 1e6:.0f} million of the largest image. Export it at the detector's "
            "resolution.",
        )


@dataclass(frozen=True, slots=True, eq=False)
class RawImage:
    """An image at its full depth, before window and polarity; what a viewer needs.

    Attributes:
        codes: uint16 [H, W]; ``code * slope + intercept`` is the modality value.
        slope, intercept: ``1, 0`` if a modality LUT was applied.
        voi: the default window or VOI LUT, from modality values to [0, 1].
        invert: True if low values are shown white (MONOCHROME1).
        hidden: bool [H, W], True for padding and pixels outside the shutter, which are black
            whatever the window; None if there are none.
        view, source_sha256, warnings: as in `CxrImage`.
        spacing_mm: (row, column) distance of pixel centres in millimetres, None if the header
            does not give a plausible one.
        modality: DICOM Modality (0008,0060), empty for PNG and JPEG.
    """

    codes: NDArray[np.uint16]
    slope: float
    intercept: float
    voi: Voi
    invert: bool = False
    hidden: NDArray[np.bool_] | None = None
    view: View = View.UNKNOWN
    spacing_mm: tuple[float, float] | None = None
    modality: str = ""
    source_sha256: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def window(self) -> Window:
        """The default window; for a VOI LUT, the window that spans it."""
        return self.voi if isinstance(self.voi, Window) else self.voi.as_window()

    def display_table(self) -> NDArray[np.float32]:
        """Brightness of every code under the default window: float32 [65536] in [0, 1]."""
        brightness = self.voi.apply(ALL_CODES * self.slope + self.intercept)
        return (1.0 - brightness if self.invert else brightness).astype(np.float32)

    def render(self) -> NDArray[np.float32]:
        """The image to look at: float32 [H, W] in [0, 1], white is dense."""
        pixels = apply_table(self.display_table(), self.codes)
        if self.hidden is not None:
            pixels[self.hidden] = 0.0
        return pixels
