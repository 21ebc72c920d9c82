"""Bounds on parsing a DICOM header: number of reads, and size of a deflated data set.

A file of a megabyte can hold a gigabyte of zeros, or a hundred thousand empty items, each of which
pydicom turns into a data set.
"""

import io
import zlib
from contextlib import suppress

from pydicom.charset import default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.filereader import read_sequence

from encoders.images.raw_image import MAX_BYTES, ImageReadError, ReadFailure

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_EXPLICIT = b"1.2.840.10008.1.2.1"
_META_SEARCH_BYTES = 1 << 14
"""Bytes at the beginning of a file that are searched for its transfer syntax."""

_LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
"""VRs whose length has four bytes (PS3.5 7.1.2)."""

MAX_HEADER_READS = 300_000
"""Limit of read calls on a header, about 2 s of parsing; an image has a few hundred elements."""

_UNCHECKED_BYTES = 1 << 16
"""A sequence of at most this many bytes is parsed within half a second, whatever it holds."""


def inflate(data: bytes) -> bytes:
    """A deflated data set as explicit little endian, inflated to at most `MAX_BYTES`.

    Other data is returned unchanged. pydicom would inflate without a limit.
    """
    meta_end = _meta_end(data)
    if _DEFLATED not in data[:meta_end]:
        return data
    head = data[:meta_end].replace(_DEFLATED, _EXPLICIT.ljust(len(_DEFLATED), b"\0"))
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        body = stream.decompress(data[meta_end:], MAX_BYTES)
    except zlib.error:
        return head + data[meta_end:]  # declared deflated, but it is not
    if stream.unconsumed_tail:
        raise ImageReadError(
            ReadFailure.TOO_LARGE,
            f"the deflated data set inflates to more than {MAX_BYTES >> 20} MB, more than the "
            "largest image. Export it with another transfer syntax.",
        )
    return head + body


def inflate_file(file: io.BufferedIOBase) -> io.BufferedIOBase:
    """`inflate` for a file, which is read whole only if it is deflated."""
    head = file.read(_META_SEARCH_BYTES)
    file.seek(0)
    return io.BytesIO(inflate(file.read())) if _DEFLATED in head else file


def _meta_end(data: bytes) -> int:
    """End of the meta header, by its elements: its declared length may be missing."""
    end = 132 if data[128:132] == b"DICM" else 0
    while data[end : end + 2] == b"\x02\0":
        if data[end + 4 : end + 6] in _LONG_VRS:
            end += 12 + int.from_bytes(data[end + 8 : end + 12], "little")
        else:
            end += 8 + int.from_bytes(data[end + 6 : end + 8], "little")
    return end


def check_item_count(element: RawDataElement, max_reads: int) -> None:
    """Refuse a sequence with more elements than any image's.

    pydicom keeps a sequence of defined length as bytes and later parses it without a bound.
    """
    data = element.value or b""
    if len(data) <= _UNCHECKED_BYTES:
        return
    file = BoundedReader(io.BytesIO(data), max_reads)
    with suppress(Exception):  # what cannot be parsed has no items
        read_sequence(
            file,  # type: ignore[arg-type]  # it only calls read, seek and tell
            element.is_implicit_VR,
            element.is_little_endian,
            len(data),
            default_encoding,
        )
    if file.remaining < 0:  # pydicom hides what `read` raises
        raise _too_many()


class BoundedReader:
    """A file with a limited number of reads.

    pydicom reads one to three times per element. A hostile file of 16 MB holds two million empty
    items, and would be parsed for a minute into gigabytes of objects.
    """

    def __init__(self, file: io.BufferedIOBase, max_reads: int = MAX_HEADER_READS) -> None:
        self._file = file
        self.remaining = max_reads
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1, /) -> bytes:
        """Read ``size`` bytes; reading all of them, as pydicom's inflating does, is refused."""
        if size < 0:
            raise ImageReadError(
                ReadFailure.UNSUPPORTED,
                "the DICOM meta header is damaged and the data set deflated. Export it with "
                "another transfer syntax.",
            )
        self.remaining -= 1
        if self.remaining < 0:
            raise _too_many()
        return self._file.read(size)


def _too_many() -> ImageReadError:
    return ImageReadError(
        ReadFailure.TOO_LARGE,
        "the DICOM header has more elements than any image's: the file is damaged or made to do "
        "harm. Export it again.",
    )
