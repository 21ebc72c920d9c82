"""Lookup tables as DICOM stores them, and what writers make of them.

Owns LUTDescriptor and LUTData (PS3.3 C.11.1.1.1, C.11.2.1.1) and the palette of PALETTE COLOR
(C.7.9). Knows nothing of what a table is for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from encoders.dicom.header import raw


@dataclass(frozen=True, slots=True, eq=False)
class Lut:
    """A table: input ``first + i`` becomes ``entries[i]``; inputs beyond it get the ends.

    Attributes:
        first: first input value mapped.
        entries: uint16 [N].
        bits: bits of an output value.
    """

    first: int
    entries: NDArray[np.uint16]
    bits: int

    def lookup(self, values: NDArray[Any]) -> NDArray[np.uint16]:
        """Outputs for input values of any shape."""
        index = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1)
        outputs: NDArray[np.uint16] = np.take(self.entries, index.astype(np.intp))
        return outputs


def read_lut(item: Dataset, *, lowest: float, highest: float) -> Lut | None:
    """The table of one item of a LUT sequence; None where it has none that makes sense.

    Args:
        item: item of ModalityLUTSequence or VOILUTSequence.
        lowest: the lowest input value that can occur. The first value mapped is signed or not
            according to the pixel representation, which writers forget: the reading that lies
            within the input's range is taken.
        highest: the highest one.
    """
    descriptor = _words(item, "LUTDescriptor")
    if len(descriptor) < 3:
        return None
    count = int(descriptor[0]) or 65536  # 65536 does not fit 16 bits and is written 0
    first, declared = int(descriptor[1]), int(descriptor[2])
    if first >= 32768 and (lowest < 0 or first > highest):
        first -= 65536
    entries = _words(item, "LUTData", bytes_if=lambda size: declared <= 8 and size <= count + 1)
    entries = entries[:count]
    if len(entries) == 0:
        return None
    return Lut(first, entries, _bits(int(entries.max()), declared))


def _bits(highest: int, declared: int) -> int:
    """Bits of the output: the declared ones, unless the entries plainly use others.

    StepBatch: 8 declared and entries to 4095; 16 declared and entries to 4095, which would show the
    image at a sixteenth of its brightness.
    """
    used = max(highest.bit_length(), 1)
    return declared if used <= declared < used + 3 else used


def _words(
    item: Dataset, keyword: str, *, bytes_if: Callable[[int], bool] = lambda _: False
) -> NDArray[np.uint16]:
    """An element's 16-bit words, or bytes, whatever VR (US, SS, OW, OB) they were written with."""
    element = raw(item, keyword)
    value = getattr(element, "value", None)
    if value is None:
        return np.empty(0, np.uint16)
    if isinstance(value, bytes):
        if bytes_if(len(value)):
            return np.frombuffer(value, np.uint8).astype(np.uint16)
        order = "<" if getattr(element, "is_little_endian", True) else ">"
        words = np.frombuffer(value[: len(value) & ~1], f"{order}u2")
        return words.astype(np.uint16)
    values = np.atleast_1d(np.asarray(value, dtype=np.int64))
    return (values & 0xFFFF).astype(np.uint16)


def palette_luminance(dataset: Dataset, *, entries: int) -> NDArray[np.float64]:
    """Brightness in [0, 1] of each of the first ``entries`` indices of a colour palette.

    Raises:
        Exception: whatever pydicom raises for a palette that is missing or malformed.
    """
    indices = np.arange(entries, dtype=np.uint16 if entries > 256 else np.uint8)
    colours = apply_color_lut(indices[None], dataset)[0]
    scale = 255.0 if colours.dtype.itemsize == 1 else 65535.0
    brightness: NDArray[np.float64] = colours[:, :3] @ np.array([0.299, 0.587, 0.114]) / scale
    return brightness
