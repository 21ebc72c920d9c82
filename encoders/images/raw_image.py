"""What a reader hands over: the image as stored, how to show it, or why it cannot be read."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from encoders.base import View
from encoders.images.exposure import CODES, Voi, Window, by_table

MIN_SIDE = 32
"""Fewest rows or columns of an image. A 43 cm image of 32 pixels has pixels of 13 mm: wider than a
rib or a nodule, so that nothing a report speaks of can be on it. Icons and test objects are."""

MAX_PIXELS = 64_000_000
"""Most pixels of an image. The largest cassette, 43 cm square, at 54 micrometres (finer than any
chest detector; the usual is 100 to 200) has 64 million. Checked before anything is decoded."""

COLOUR_WARNING = "a picture in several colours: its luminance is used"
"""The warning of a picture that cannot be an image. It is read; who drafts must look for it."""

MAX_BYTES = 256 * 1024 * 1024
"""Most bytes of a file: the largest image as uncompressed RGB, with room for its header."""


class ReadFailure(StrEnum):
    """Why an image was not read: what failures are counted by."""

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
    """An image that cannot be read: the one exception of reading, whatever the bytes were.

    The message names the tag or the reason, the value, and the cure. It holds no header value
    that could name a person.
    """

    def __init__(self, reason: ReadFailure, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type["ImageReadError"], tuple[ReadFailure, str]]:
        """Crosses process borders whole: readers run in worker processes."""
        return type(self), (self.reason, str(self))


def check_size(rows: int, columns: int, *, rows_name: str, columns_name: str) -> None:
    """Refuse a declared size that no image has, before memory is spent on it.

    Raises:
        ImageReadError: too small or too large; the message names both fields.
    """
    size = f"{rows_name} = {rows}, {columns_name} = {columns}"
    if rows < MIN_SIDE or columns < MIN_SIDE:
        raise ImageReadError(
            ReadFailure.TOO_SMALL,
            f"{size}: an image has at least {MIN_SIDE} rows and columns, fewer show nothing that a "
            "report speaks of. Send the full-size image, not an icon or a test object.",
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
        codes: uint16 [H, W]; ``code * slope + intercept`` is the output of the modality LUT.
        slope, intercept: that line. ``1, 0`` where a modality LUT sequence was applied.
        voi: the default grey-scale transformation of modality values to [0, 1].
        invert: True where a low value is to be shown white (MONOCHROME1).
        hidden: bool [H, W], True where the pixel is no image (padding, outside the shutter) and
            is black whatever the window; None where all are image.
        view, source_sha256, warnings: as in `CxrImage`.
        spacing_mm: (row, column) distance of two pixel centres in millimetres, or None where the
            file does not say or says nonsense (0).
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
        """The default window, or for a VOI LUT the window that spans it."""
        return self.voi if isinstance(self.voi, Window) else self.voi.as_window()

    def display_table(self) -> NDArray[np.float32]:
        """Brightness of every code under the default window: float32 [65536] in [0, 1]."""
        grey = self.voi.apply(CODES * self.slope + self.intercept)
        return (1.0 - grey if self.invert else grey).astype(np.float32)

    def render(self) -> NDArray[np.float32]:
        """The image as it is to be looked at: float32 [H, W] in [0, 1], white is dense."""
        pixels = by_table(self.display_table(), self.codes)
        if self.hidden is not None:
            pixels[self.hidden] = 0.0
        return pixels
