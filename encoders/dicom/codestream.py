"""What a compressed frame says of itself, read before anything is decoded.

Owns the look into JPEG, JPEG-LS and JPEG 2000 headers. A stream that is cut short, larger than
the DICOM header says, or of a process nobody decodes is known here, for a few microseconds.
"""

import struct
from dataclasses import dataclass
from enum import StrEnum

_J2K_START = b"\xff\x4f\xff\x51"
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
"""SOF markers: C4, C8 and CC between them are tables; F7 is JPEG-LS."""


class CodecError(Exception):
    """A frame that cannot be decompressed; the message is a reason without any header value."""


class TruncatedError(CodecError):
    """A frame that stops before its end marker."""


class Codec(StrEnum):
    """Which decoder a frame needs; the values are the worker's."""

    JPEG = "jpeg"
    GDCM = "gdcm"
    JPEG_LS = "jpeg-ls"
    JPEG_2000 = "jpeg-2000"
    RLE = "rle"


@dataclass(frozen=True, slots=True)
class Codestream:
    """What a compressed frame declares in its own header.

    Attributes:
        codec: the decoder it needs.
        rows, columns, samples, bits: size, components, and bits of a component.
        lossless: True where the process cannot have changed a value.
    """

    codec: Codec
    rows: int
    columns: int
    samples: int
    bits: int
    lossless: bool = False


def inspect(frame: bytes) -> Codestream:
    """Read the header of a JPEG, JPEG-LS or JPEG 2000 frame.

    Raises:
        CodecError: none of these, or a header that the standard forbids.
        TruncatedError: the end marker is missing.
    """
    if frame.startswith(b"\xff\xd8"):
        return _inspect_jpeg(frame)
    start = frame.find(_J2K_START, 0, 4096)  # behind the boxes of a JP2 file, where there are any
    if start >= 0:
        return _inspect_jpeg_2000(frame, start)
    raise CodecError("its bytes are no JPEG, JPEG-LS or JPEG 2000 stream")


def _inspect_jpeg(frame: bytes) -> Codestream:
    """Walk the markers of ITU T.81 up to the first scan."""
    frame_header: tuple[int, int, int, int, int] | None = None  # process, bits, rows, cols, comps
    position = 2
    while position + 4 <= len(frame):
        if frame[position] != 0xFF:
            raise CodecError("its JPEG markers are damaged")
        marker = frame[position + 1]
        if marker in (0xFF, 0x01) or 0xD0 <= marker <= 0xD8:  # fill bytes, markers without length
            position += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", frame, position + 2)
        body = frame[position + 4 : position + 2 + length]
        if marker in _FRAME_MARKERS and len(body) >= 6:
            frame_header = (marker, *struct.unpack_from(">BHHB", body))
        if marker == 0xDA:
            break
        position += 2 + length
    else:
        raise TruncatedError("its JPEG stream ends before the first scan")
    if frame_header is None:
        raise CodecError("its JPEG stream has no frame header")
    return _jpeg_codestream(frame, frame_header, scan=body)


def _jpeg_codestream(
    frame: bytes, header: tuple[int, int, int, int, int], *, scan: bytes
) -> Codestream:
    process, bits, rows, columns, samples = header
    if process in (0xC0, 0xC1) and scan[-3:] != b"\x00\x3f\x00":
        # T.81 table B.3. Some decoders guess on, others refuse; a guess is no image.
        raise CodecError("its JPEG scan header is invalid for a sequential process (T.81 B.2.3)")
    if b"\xff\xd9" not in frame[-64:]:  # some writers pad behind it
        raise TruncatedError("its JPEG stream has no end marker")
    if process == 0xF7 and bits <= 16:
        return Codestream(Codec.JPEG_LS, rows, columns, samples, bits)
    if process == 0xC3 and bits <= 16:
        return Codestream(Codec.GDCM, rows, columns, samples, bits, lossless=True)
    if process in (0xC0, 0xC1, 0xC2) and bits == 8:
        return Codestream(Codec.JPEG, rows, columns, samples, bits)
    if process == 0xC1 and bits == 12:
        return Codestream(Codec.GDCM, rows, columns, samples, bits)
    raise CodecError(f"its JPEG process (marker FF{process:02X}, {bits} bits) is not supported")


def _inspect_jpeg_2000(frame: bytes, start: int) -> Codestream:
    """Read the SIZ segment (ITU T.800 A.5.1)."""
    try:
        right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
        (samples, depth) = struct.unpack_from(">HB", frame, start + 40)
    except struct.error:
        raise TruncatedError("its JPEG 2000 stream ends inside its header") from None
    return Codestream(Codec.JPEG_2000, bottom - top, right - left, samples, (depth & 0x7F) + 1)
