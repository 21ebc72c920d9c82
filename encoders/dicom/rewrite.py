"""Pixel data that is written again: without what hides in it, or with parts of it blackened.

Owns the way back from stored values to PixelData. What is to be blackened is for others to say.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from encoders.dicom.codecs import decode
from encoders.dicom.codestream import CodecError, Codestream
from encoders.dicom.header import content
from encoders.dicom.layout import Layout, read_layout
from encoders.dicom.pixels import byte_order, codestream_of, is_compressed

Box = tuple[int, int, int, int]
"""Top, left, bottom, right: pixels as stored."""

_NATIVE = (8, 16, 32)


class RewriteError(ValueError):
    """Pixel data of a kind that is not written again; the message is a reason."""


def clear_unused_bits(dataset: Dataset) -> bool:
    """Clear what stands beside the image, in place: unused bits, bytes behind the last pixel.

    Old writers kept overlays, and anybody can keep anything, in the bits that BitsStored and
    HighBit leave over (PS3.5 8.1.1). Signed values keep their sign extension, which repeats a bit
    of the image. A compressed image that hides something is stored uncompressed.

    Returns:
        Whether something was changed.
    """
    if "PixelData" not in dataset:
        return False
    layout = read_layout(dataset)
    if is_compressed(dataset):
        return _clear_compressed(dataset, layout)
    if layout.photometric == "YBR_FULL_422" or layout.allocated not in _NATIVE:
        return False
    data = content(dataset, "PixelData")
    values = np.frombuffer(
        data[: len(data) - len(data) % (layout.allocated // 8)], _dtype(dataset, layout)
    )
    count = layout.rows * layout.columns * layout.samples * layout.frames
    kept = _cleared(values[:count], layout).tobytes()
    kept += b"\0" * (len(kept) % 2)
    if kept != data:
        _replace(dataset, kept)
    return kept != data


def _clear_compressed(dataset: Dataset, layout: Layout) -> bool:
    streams = (stream for _, stream in _frames(dataset, layout))
    if layout.samples != 1 or all(stream.bits <= layout.stored for stream in streams):
        return False
    values = _decoded(dataset, layout)
    cleared = _cleared(values, layout)
    if np.array_equal(values, cleared):
        return False
    _store(dataset, cleared, layout)
    return True


def blacken(dataset: Dataset, boxes: Iterable[Box], *, inverted: bool) -> None:
    """Make parts of the image black, in place and in every frame; it is stored uncompressed.

    Args:
        dataset: with PixelData.
        boxes: the parts.
        inverted: high values are black.

    Raises:
        RewriteError: the pixels are of a kind that is not written again.
    """
    layout = read_layout(dataset)
    if layout.samples != 1 or layout.allocated not in _NATIVE or "PixelData" not in dataset:
        raise RewriteError("only grey images of 8, 16 or 32 bits are written again")
    values = _decoded(dataset, layout) if is_compressed(dataset) else _native(dataset, layout)
    values = values.copy()
    black = values.max() if inverted else values.min()
    for top, left, bottom, right in boxes:
        values[:, max(top, 0) : bottom, max(left, 0) : right] = black
    _store(dataset, values, layout)


def _dtype(dataset: Dataset, layout: Layout) -> np.dtype[Any]:
    return np.dtype(f"{byte_order(dataset)}u{layout.allocated // 8}")


def _native(dataset: Dataset, layout: Layout) -> NDArray[Any]:
    """Unsigned values [frames, rows, columns] of an uncompressed image."""
    count = layout.frames * layout.rows * layout.columns
    values = np.frombuffer(content(dataset, "PixelData"), _dtype(dataset, layout))
    if values.size < count:
        raise RewriteError("the pixel data is cut short")
    return values[:count].reshape(layout.frames, layout.rows, layout.columns)


def _frames(dataset: Dataset, layout: Layout) -> Iterator[tuple[bytes, Codestream]]:
    data = content(dataset, "PixelData")
    for frame in generate_frames(data, number_of_frames=layout.frames):
        yield frame, codestream_of(frame, dataset, layout)


def _decoded(dataset: Dataset, layout: Layout) -> NDArray[Any]:
    """Unsigned values [frames, rows, columns] of a compressed grey image."""
    try:
        frames = [
            decode(frame, stream, allocated=layout.allocated, colour=layout.photometric)
            for frame, stream in _frames(dataset, layout)
        ]
    except CodecError as error:
        raise RewriteError(str(error)) from None
    values = np.stack(frames)
    return values.view(values.dtype.str.replace("i", "u")).astype(f"u{layout.allocated // 8}")


def _cleared(values: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Unsigned values with only the bits that are image, in their own type."""
    width = values.dtype.itemsize * 8
    shift = max(layout.high_bit + 1 - layout.stored, 0)
    mask = ((1 << layout.stored) - 1) << shift
    cleared: NDArray[Any] = values & values.dtype.type(mask)
    if layout.signed and layout.high_bit < width - 1:
        above = ((1 << width) - 1) ^ ((1 << (layout.high_bit + 1)) - 1)
        negative = (cleared >> layout.high_bit) & 1 == 1
        cleared = np.where(negative, cleared | values.dtype.type(above), cleared)
    return cleared.astype(values.dtype, copy=False)


def _store(dataset: Dataset, values: NDArray[Any], layout: Layout) -> None:
    """Values as the uncompressed PixelData of the same data set."""
    compressed = is_compressed(dataset)
    order = "<" if compressed else byte_order(dataset)
    data = values.astype(np.dtype(f"{order}u{layout.allocated // 8}")).tobytes()
    _replace(dataset, data + b"\0" * (len(data) % 2))
    if compressed:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in dataset:
            delattr(dataset, keyword)


def _replace(dataset: Dataset, data: bytes) -> None:
    implicit = dataset.file_meta.get("TransferSyntaxUID") == ImplicitVRLittleEndian
    wide = implicit or int(dataset.get("BitsAllocated") or 16) > 8
    dataset.add_new("PixelData", "OW" if wide else "OB", data)
    dataset["PixelData"].is_undefined_length = False
