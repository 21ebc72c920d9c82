"""Bounds on what a DICOM header may cost: reads, and bytes of a deflated data set.

A file of a megabyte can hold a gigabyte of zeros, or a hundred thousand empty items, each of which
pydicom makes a data set of.
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
_META = 1 << 14
"""Bytes at a file's beginning in which its meta header names the transfer syntax."""

_LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
"""VRs whose length has four bytes (PS3.5 7.1.2)."""

HEADER_READS = 300_000
"""How often a header may be read from: an image's has a few hundred elements; this is 2 s."""

_FEW_ITEMS = 1 << 16
"""Bytes of a sequence that are parsed within half a second, whatever they are."""


def inflated(data: bytes) -> bytes:
    """A deflated data set as an explicit little endian one, inflated within bounds.

    pydicom would inflate whatever comes: a 1 MB file can hold 1 GB of zeros.
    """
    meta_end = _meta_end(data)
    if _DEFLATED not in data[:meta_end]:
        return data
    head = data[:meta_end].replace(_DEFLATED, _EXPLICIT.ljust(len(_DEFLATED), b"\0"))
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        body = stream.decompress(data[meta_end:], MAX_BYTES)
    except zlib.error:
        return head + data[meta_end:]  # some say deflated and are not
    if stream.unconsumed_tail:
        raise ImageReadError(
            ReadFailure.TOO_LARGE,
            f"the deflated data set inflates to more than {MAX_BYTES >> 20} MB, more than the "
            "largest image. Export it with another transfer syntax.",
        )
    return head + body


def inflated_file(file: io.BufferedIOBase) -> io.BufferedIOBase:
    """A file as `inflated` gives it; read whole only if it is deflated."""
    head = file.read(_META)
    file.seek(0)
    return io.BytesIO(inflated(file.read())) if _DEFLATED in head else file


def _meta_end(data: bytes) -> int:
    """By its elements: the length that it declares may be missing."""
    at = 132 if data[128:132] == b"DICM" else 0
    while data[at : at + 2] == b"\x02\0":
        if data[at + 4 : at + 6] in _LONG_VRS:
            at += 12 + int.from_bytes(data[at + 8 : at + 12], "little")
        else:
            at += 8 + int.from_bytes(data[at + 6 : at + 8], "little")
    return at


def refuse_crowd(element: RawDataElement, reads: int) -> None:
    """Refuse a sequence of more elements than any image's.

    One of a given length is bytes until it is asked for, and is then parsed without any bound.
    """
    data = element.value or b""
    if len(data) <= _FEW_ITEMS:
        return
    file = Bounded(io.BytesIO(data), reads)
    with suppress(Exception):  # what cannot be parsed has no items
        read_sequence(
            file,  # type: ignore[arg-type]  # a reader, as above
            element.is_implicit_VR,
            element.is_little_endian,
            len(data),
            default_encoding,
        )
    if file.left < 0:  # pydicom hides what `read` raises
        raise _too_many()


class Bounded:
    """A file that can be read from so many times only.

    pydicom reads one to three times an element. A hostile file of 16 MB holds two million empty
    items, and would be parsed for a minute into gigabytes of objects.
    """

    def __init__(self, file: io.BufferedIOBase, reads: int = HEADER_READS) -> None:
        self._file = file
        self.left = reads
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1, /) -> bytes:
        """So many bytes; all of them, which only inflating asks for, are refused."""
        if size < 0:
            raise ImageReadError(
                ReadFailure.UNSUPPORTED,
                "the DICOM meta header is damaged and the data set deflated. Export it with "
                "another transfer syntax.",
            )
        self.left -= 1
        if self.left < 0:
            raise _too_many()
        return self._file.read(size)


def _too_many() -> ImageReadError:
    return ImageReadError(
        ReadFailure.TOO_LARGE,
        "the DICOM header has more elements than any image's: the file is damaged or made to do "
        "harm. Export it again.",
    )
