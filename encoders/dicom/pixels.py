"""Reads the stored values of an image's first frame, compressed or not (PS3.5 8.1, PS3.3 C.7.6.3).

Not with pydicom's decoders: for uncompressed data their options take as many lines, and none
repairs an incomplete last row.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.uid import (
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from encoders.dicom.codecs import Codec, CodecError, Codestream, TruncatedError, decode, inspect
from encoders.dicom.header import raw_bytes, raw_element
from encoders.dicom.layout import COLOURS, Layout, tag
from encoders.images.exposure import Histogram
from encoders.images.raw_image import ImageReadError, ReadFailure

Pixels = NDArray[Any]

_ITEM = b"\xfe\xff\x00\xe0"
_LOSSLESS = {JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless, HTJ2KLosslessRPCL}
"""Lossless syntaxes whose stream does not say so itself."""

_MAX_JPEG_2000_SAMPLES = 120_000_000
"""Most samples of a JPEG 2000 stream: decoding takes twelve bytes for each."""

_MAX_OVERLAY_SHARE = 0.05
"""Share of the pixels that an overlay in the unused bits marks at most: more is image."""

_RED, _GREEN, _BLUE = 0.299, 0.587, 0.114  # Rec. 601: the Y of YBR_FULL (PS3.3 C.7.6.3.1.2)


def read_stored_values(dataset: Dataset, layout: Layout, warnings: list[str]) -> Pixels:
    """The first frame: [rows, columns] integers as stored, colour as luminance."""
    data = raw_bytes(dataset, "PixelData")
    size = layout.rows * layout.columns * layout.samples * layout.bits_allocated // 8
    if is_compressed(dataset) or (data.startswith(_ITEM) and len(data) < size):
        return _luminance(_read_compressed(dataset, data, layout), layout)
    pixels = _read_uncompressed(dataset, data, layout, warnings)
    _warn_of_high_bits(pixels, layout, warnings)
    return _luminance(_significant_bits(pixels, layout), layout)


def byte_order(dataset: Dataset) -> str:
    """Byte order of a data set in numpy's notation: ``<`` or ``>``."""
    return ">" if dataset.original_encoding[1] is False else "<"


def is_compressed(dataset: Dataset) -> bool:
    """Whether pixel data is encapsulated, in a raw element or in a converted one."""
    element = raw_element(dataset, "PixelData")
    undefined = getattr(element, "is_undefined_length", False)
    return bool(undefined) or getattr(element, "length", 0) == 0xFFFFFFFF


def read_codestream(frame: bytes, dataset: Dataset, layout: Layout) -> Codestream:
    """`inspect` for any frame: RLE has no header of its own, and is described by DICOM's."""
    is_rle = dataset.file_meta.get("TransferSyntaxUID") == RLELossless
    if is_rle and not frame.startswith((b"\xff\xd8", b"\xff\x4f")):
        size = (layout.rows, layout.columns, layout.samples, layout.bits_allocated)
        return Codestream(Codec.RLE, *size, lossless=True)
    return inspect(frame)


def _read_uncompressed(
    dataset: Dataset, data: bytes, layout: Layout, warnings: list[str]
) -> Pixels:
    order, rows, columns = byte_order(dataset), layout.rows, layout.columns
    if layout.bits_allocated == 1:
        count = rows * columns
        packed = np.frombuffer(_fit_length(data, -(-count // 8), layout, warnings), np.uint8)
        return np.unpackbits(packed, bitorder="little", count=count).reshape(rows, columns)
    is_words = getattr(raw_element(dataset, "PixelData"), "VR", "") == "OW"
    if layout.bits_allocated == 8 and is_words and order == ">":
        # 8-bit samples in 16-bit words: the pairs are swapped
        data = np.frombuffer(data[: len(data) & ~1], ">u2").astype("<u2").tobytes()
    shape: tuple[int, ...] = (rows, columns, layout.samples)
    if layout.photometric == "YBR_FULL_422":
        shape = (rows * columns // 2, 4)  # Y1 Y2 CB CR for two pixels
    elif layout.planar:
        shape = (layout.samples, rows, columns)
    dtype = np.dtype(f"{order}u{layout.bits_allocated // 8}")
    size = math.prod(shape) * dtype.itemsize
    values = np.frombuffer(_fit_length(data, size, layout, warnings), dtype).reshape(shape)
    if layout.photometric == "YBR_FULL_422":
        return values[:, :2].reshape(rows, columns)
    if layout.samples == 1:
        return values.reshape(rows, columns)
    return np.moveaxis(values, 0, -1) if layout.planar else values


def _fit_length(data: bytes, size: int, layout: Layout, warnings: list[str]) -> bytes:
    """The first ``size`` bytes; fills up an incomplete last row, and refuses shorter data."""
    missing = size - len(data)
    if missing <= 0:
        return data[:size]
    if missing > size // layout.rows:
        raise ImageReadError(
            ReadFailure.TRUNCATED,
            f"{tag('PixelData')} has {len(data)} bytes where {tag('Rows')} = {layout.rows}, "
            f"{tag('Columns')} = {layout.columns} and {tag('BitsAllocated')} = "
            f"{layout.bits_allocated} need {size}: the file is cut short or its header wrong. "
            "Export it again.",
        )
    warnings.append(f"{tag('PixelData')} lacks {missing} bytes at its end: the last row is filled")
    step = max(layout.bits_allocated // 8, 1)
    end = len(data) // step * step
    return (data[:end] + data[end - step : end] * (missing // step + 1))[:size]


def _read_compressed(dataset: Dataset, data: bytes, layout: Layout) -> Pixels:
    """Decode the first frame according to its stream, since the header may be wrong."""
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    try:
        frame = bytes(get_frame(data, 0, number_of_frames=layout.frames))
        stream = read_codestream(frame, dataset, layout)
        _check_stream(stream, layout)
        pixels = decode(
            frame, stream, bits_allocated=layout.bits_allocated, colour=layout.photometric
        )
    except ImageReadError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged items fail in many ways
        reason = (
            ReadFailure.TRUNCATED if isinstance(error, TruncatedError) else ReadFailure.UNDECODABLE
        )
        cause = str(error) if isinstance(error, CodecError) else "its items are damaged"
        raise ImageReadError(
            reason,
            f"{tag('PixelData')} cannot be decoded ({_syntax_name(syntax)}): {cause}. Export the "
            "image again, uncompressed if the sender can.",
        ) from None
    # After lossy compression all bits of the stream are image.
    exact = stream.lossless or syntax in _LOSSLESS
    bits_stored = min(layout.bits_stored, stream.bits) if exact else stream.bits
    high_bit = layout.high_bit if exact and layout.high_bit < stream.bits else bits_stored - 1
    return _significant_bits(pixels, replace(layout, bits_stored=bits_stored, high_bit=high_bit))


def _check_stream(stream: Codestream, layout: Layout) -> None:
    """Refuse a stream that contradicts the header's size or is too large to decode."""
    if (stream.rows, stream.columns) != (layout.rows, layout.columns):
        raise ImageReadError(
            ReadFailure.BAD_HEADER,
            f"{tag('Rows')} = {layout.rows} and {tag('Columns')} = {layout.columns}, but the "
            f"compressed image has {stream.rows} rows and {stream.columns} columns: one of them is "
            "wrong. Export the image again from its source.",
        )
    if stream.samples not in (1, 3):
        raise CodecError(f"it has {stream.samples} components")
    pixels = stream.rows * stream.columns
    if stream.codec is Codec.JPEG_2000 and stream.samples * pixels > _MAX_JPEG_2000_SAMPLES:
        raise ImageReadError(
            ReadFailure.TOO_LARGE,
            f"JPEG 2000 in colour with {pixels / 1e6:.0f} million pixels: its decoder would need "
            f"more than a gigabyte. At most {_MAX_JPEG_2000_SAMPLES / 3e6:.0f} million are read; "
            "export the image in grey.",
        )


def _syntax_name(syntax: str) -> str:
    name = UID(syntax).name
    return name if name != syntax else "unknown transfer syntax"


def _significant_bits(pixels: Pixels, layout: Layout) -> Pixels:
    """The BitsStored bits up to HighBit of grey values, sign-extended (PS3.5 8.1.1).

    The other bits are not image: old writers kept overlays there.
    """
    if layout.photometric in COLOURS:
        return pixels
    width = pixels.dtype.itemsize * 8
    stored = min(layout.bits_stored, width)
    shift = max(layout.high_bit + 1 - layout.bits_stored, 0)
    unsigned = pixels.view(pixels.dtype.str.replace("i", "u"))
    if shift:
        unsigned = unsigned >> shift
    if stored < width:
        unsigned = unsigned & unsigned.dtype.type((1 << stored) - 1)
    if not layout.signed:
        return unsigned
    signed: Pixels = unsigned.astype(f"i{pixels.dtype.itemsize}")
    if stored < width:
        sign = signed.dtype.type(1 << (stored - 1))
        signed = (signed ^ sign) - sign
    return signed


def _warn_of_high_bits(pixels: Pixels, layout: Layout, warnings: list[str]) -> None:
    """Warn if the bits above HighBit vary too much for an overlay."""
    width = pixels.dtype.itemsize * 8
    if layout.photometric in COLOURS or layout.signed or layout.high_bit >= width - 1 or width > 16:
        return
    unused = layout.high_bit + 1
    if not int(pixels.max()) >> unused:
        return
    high_bits = (pixels >> unused).astype(np.uint16)
    counts = Histogram.from_codes(high_bits, slope=1.0, intercept=0.0).counts
    if 1 - counts.max() / pixels.size > _MAX_OVERLAY_SHARE:
        warnings.append(
            f"{tag('BitsStored')} = {layout.bits_stored}, but the pixels have higher bits, too, "
            "which are left out: where brightness jumps, the header is wrong"
        )


def _luminance(pixels: Pixels, layout: Layout) -> Pixels:
    """Luminance of colour samples, in their data type."""
    if pixels.ndim == 2:
        return pixels
    if layout.photometric in ("YBR_FULL", "YBR_FULL_422"):
        return pixels[..., 0]
    wide = "f4" if pixels.dtype.itemsize <= 2 else "f8"
    grey: Pixels = np.empty(pixels.shape[:2], pixels.dtype)
    for row in range(0, len(pixels), 256):  # the largest image would take more than a gigabyte
        red, green, blue = np.moveaxis(pixels[row : row + 256].astype(wide), -1, 0)
        grey[row : row + 256] = np.rint(red * _RED + green * _GREEN + blue * _BLUE)
    return grey
