"""The stored values of an image's first frame, compressed or not (PS3.5 8.1, PS3.3 C.7.6.3).

Not by pydicom's decoders: for uncompressed data their options take as many lines, and none mends a
cut last row.
"""

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
from encoders.dicom.header import content, raw
from encoders.dicom.layout import COLOURS, Layout, tag
from encoders.images.exposure import Histogram
from encoders.images.raw_image import ImageReadError, ReadFailure

Pixels = NDArray[Any]

_ITEM = b"\xfe\xff\x00\xe0"
_LOSSLESS = {JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless, HTJ2KLosslessRPCL}
"""Besides those whose stream says so itself."""

_MOST_SAMPLES = 120_000_000
"""Samples of a JPEG 2000 stream: twelve bytes each while it is decoded."""

_MOST_OVERLAID = 0.05
"""Share of the pixels whose unused bits an overlay makes differ from the others': more is image."""

_RED, _GREEN, _BLUE = 0.299, 0.587, 0.114  # Rec. 601: the Y of YBR_FULL (PS3.3 C.7.6.3.1.2)


def stored_values(dataset: Dataset, layout: Layout, warnings: list[str]) -> Pixels:
    """The first frame: [rows, columns] integers as stored, colour as luminance.

    ``warnings`` gets a sentence where something was mended.

    Raises:
        ImageReadError: no pixel data, too little of it, or a stream that cannot be decoded.
    """
    data = content(dataset, "PixelData")
    size = layout.rows * layout.columns * layout.samples * layout.allocated // 8
    if is_compressed(dataset) or (data.startswith(_ITEM) and len(data) < size):
        return _luminance(_compressed(dataset, data, layout), layout)
    pixels = _uncompressed(dataset, data, layout, warnings)
    _doubt_bits_stored(pixels, layout, warnings)
    return _luminance(_significant_bits(pixels, layout), layout)


def byte_order(dataset: Dataset) -> str:
    """Of a data set's numbers, as numpy writes it: ``<`` or ``>``."""
    return ">" if dataset.original_encoding[1] is False else "<"


def is_compressed(dataset: Dataset) -> bool:
    """As parsed, or converted since: a raw element has a length, a converted one a flag."""
    element = raw(dataset, "PixelData")
    undefined = getattr(element, "is_undefined_length", False)
    return bool(undefined) or getattr(element, "length", 0) == 0xFFFFFFFF


def codestream_of(frame: bytes, dataset: Dataset, layout: Layout) -> Codestream:
    """What a compressed frame says of itself; RLE says nothing, there the header does.

    Raises:
        CodecError: as for `encoders.dicom.codecs.inspect`.
    """
    rle = dataset.file_meta.get("TransferSyntaxUID") == RLELossless
    if rle and not frame.startswith((b"\xff\xd8", b"\xff\x4f")):
        size = (layout.rows, layout.columns, layout.samples, layout.allocated)
        return Codestream(Codec.RLE, *size, lossless=True)
    return inspect(frame)


def _uncompressed(dataset: Dataset, data: bytes, layout: Layout, warnings: list[str]) -> Pixels:
    order = byte_order(dataset)
    if layout.allocated == 1:
        count = layout.rows * layout.columns
        packed = np.frombuffer(_filled(data, -(-count // 8), layout, warnings), np.uint8)
        bits = np.unpackbits(packed, bitorder="little", count=count)
        return bits.reshape(layout.rows, layout.columns)
    words = getattr(raw(dataset, "PixelData"), "VR", "") == "OW"
    if layout.allocated == 8 and words and order == ">":
        # 8-bit samples in 16-bit words: the pairs are swapped
        data = np.frombuffer(data[: len(data) & ~1], ">u2").astype("<u2").tobytes()
    dtype = np.dtype(f"{order}u{layout.allocated // 8}")
    rows, columns, samples = layout.rows, layout.columns, layout.samples
    if layout.photometric == "YBR_FULL_422":  # Y1 Y2 CB CR for two pixels
        pairs = rows * columns // 2
        values = np.frombuffer(_filled(data, pairs * 4 * dtype.itemsize, layout, warnings), dtype)
        return values.reshape(pairs, 4)[:, :2].reshape(rows, columns)
    size = rows * columns * samples * dtype.itemsize
    values = np.frombuffer(_filled(data, size, layout, warnings), dtype)
    if samples == 1:
        return values.reshape(rows, columns)
    if layout.planar:
        return values.reshape(samples, rows, columns).transpose(1, 2, 0)
    return values.reshape(rows, columns, samples)


def _filled(data: bytes, size: int, layout: Layout, warnings: list[str]) -> bytes:
    """The first ``size`` bytes; a last row that lacks some is filled up, anything more refused."""
    missing = size - len(data)
    if missing <= 0:
        return data[:size]
    if missing > size // layout.rows:
        raise ImageReadError(
            ReadFailure.TRUNCATED,
            f"{tag('PixelData')} has {len(data)} bytes where {tag('Rows')} = {layout.rows}, "
            f"{tag('Columns')} = {layout.columns} and {tag('BitsAllocated')} = "
            f"{layout.allocated} need {size}: the file is cut short or its header wrong. "
            "Export it again.",
        )
    warnings.append(f"{tag('PixelData')} lacks {missing} bytes at its end: the last row is filled")
    step = max(layout.allocated // 8, 1)
    whole = len(data) // step * step
    return (data[:whole] + data[whole - step : whole] * (missing // step + 1))[:size]


def _compressed(dataset: Dataset, data: bytes, layout: Layout) -> Pixels:
    """Decode the first frame by what its stream says it is; the header may be wrong."""
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    try:
        frame = bytes(get_frame(data, 0, number_of_frames=layout.frames))
        stream = codestream_of(frame, dataset, layout)
        _agree(stream, layout)
        pixels = decode(frame, stream, allocated=layout.allocated, colour=layout.photometric)
    except ImageReadError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged items fail in many ways
        reason = (
            ReadFailure.TRUNCATED if isinstance(error, TruncatedError) else ReadFailure.UNDECODABLE
        )
        words = str(error) if isinstance(error, CodecError) else "its items are damaged"
        raise ImageReadError(
            reason,
            f"{tag('PixelData')} cannot be decoded ({_syntax_name(syntax)}): {words}. Export the "
            "image again, uncompressed if the sender can.",
        ) from None
    # Behind a lossy process there is nothing but image in the bits that the stream has.
    exact = stream.lossless or syntax in _LOSSLESS
    stored = min(layout.stored, stream.bits) if exact else stream.bits
    high_bit = layout.high_bit if exact and layout.high_bit < stream.bits else stored - 1
    return _significant_bits(pixels, replace(layout, stored=stored, high_bit=high_bit))


def _agree(stream: Codestream, layout: Layout) -> None:
    """Refuse a stream of another size than the header's, or too large, before it is decoded."""
    found = (stream.rows, stream.columns)
    if found != (layout.rows, layout.columns):
        raise ImageReadError(
            ReadFailure.BAD_HEADER,
            f"{tag('Rows')} = {layout.rows} and {tag('Columns')} = {layout.columns}, but the "
            f"compressed image has {found[0]} rows and {found[1]} columns: one of them is wrong. "
            "Export the image again from its source.",
        )
    if stream.samples not in (1, 3):
        raise CodecError(f"it has {stream.samples} components")
    pixels = stream.rows * stream.columns
    if stream.codec is Codec.JPEG_2000 and stream.samples * pixels > _MOST_SAMPLES:
        raise ImageReadError(
            ReadFailure.TOO_LARGE,
            f"JPEG 2000 in colour of {pixels / 1e6:.0f} million pixels: its decoder would need "
            f"more than a gigabyte, {_MOST_SAMPLES / 3e6:.0f} million are the most. Export "
            "the image in grey.",
        )


def _syntax_name(syntax: str) -> str:
    name = UID(syntax).name
    return name if name != syntax else "unknown transfer syntax"


def _significant_bits(pixels: Pixels, layout: Layout) -> Pixels:
    """Keep BitsStored bits below HighBit of grey values and restore the sign (PS3.5 8.1.1).

    What stands in the other bits is not image: old writers kept overlays there.
    """
    if layout.photometric in COLOURS:
        return pixels
    width = pixels.dtype.itemsize * 8
    stored, shift = min(layout.stored, width), max(layout.high_bit + 1 - layout.stored, 0)
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


def _doubt_bits_stored(pixels: Pixels, layout: Layout, warnings: list[str]) -> None:
    """Say it where the bits above HighBit differ too much for an overlay."""
    width = pixels.dtype.itemsize * 8
    if layout.photometric in COLOURS or layout.signed or layout.high_bit >= width - 1 or width > 16:
        return
    unused = layout.high_bit + 1
    if not int(pixels.max()) >> unused:
        return
    counts = Histogram.of((pixels >> unused).astype(np.uint16), slope=1.0, intercept=0.0).counts
    if 1 - counts.max() / pixels.size > _MOST_OVERLAID:
        warnings.append(
            f"{tag('BitsStored')} = {layout.stored}, but the pixels have higher bits, too, which "
            "are left out: where brightness jumps, the header is wrong"
        )


def _luminance(pixels: Pixels, layout: Layout) -> Pixels:
    """Grey of colour samples, in their own type."""
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
