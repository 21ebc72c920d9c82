"""Reads an image: DICOM, PNG or JPEG, from a file or from memory.

Every failure is an `ImageReadError`, whatever the bytes are. Does not judge what an image shows.
"""

import hashlib
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from stat import S_ISREG

from encoders.base import CxrImage
from encoders.images.image_info import SIGNATURE_BYTES, ImageFormat, ImageInfo, image_format
from encoders.images.raw_image import MAX_BYTES, ImageReadError, RawImage, ReadFailure

BLANK_WARNING = "every pixel has the same value: there is nothing to see"
"""Warning of a constant image. It is read: its pixels are defined (by its window, black without
one). Whoever drafts from an image must look for this warning and not draft."""

_log = logging.getLogger(__name__)

_UNSUPPORTED = {
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive: unpack it first",
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"GIF8": "a GIF picture",
    b"BM": "a BMP picture",
    b"II*\0": "a TIFF picture",
    b"MM\0*": "a TIFF picture",
    b"RIFF": "a WebP picture or a recording",
    b"\0\0\0\x0cjP": "a bare JPEG 2000 file",
    b"\xffO\xffQ": "a bare JPEG 2000 stream",
    b"<": "a web page or XML",
    b"{": "JSON",
}


def read_image(source: Path | bytes, *, name: str = "") -> CxrImage:
    """Read an image, rendered for viewing.

    Args:
        source: a file, or its bytes.
        name: what messages call the image; the file's own name, which may be a person's, is left
            out of them.

    Returns:
        Pixels float32 [H, W] in [0, 1], white is dense; the same bytes give the same bits.

    Raises:
        ImageReadError: whatever the reason.
    """
    raw = read_raw(source, name=name)
    pixels = raw.render()
    warnings = raw.warnings
    if pixels.min() == pixels.max():
        warnings = (*warnings, BLANK_WARNING)
    return CxrImage(pixels, raw.source_sha256, raw.view, warnings)


def read_raw(source: Path | bytes, *, name: str = "") -> RawImage:
    """Read an image at its full depth, with its default window, for a viewer; as `read_image`."""
    try:
        data = _read_bytes(source)
        if _check_format(data) is ImageFormat.DICOM:
            from encoders.dicom.reader import read_dicom as read  # noqa: PLC0415 - heavy
        else:
            from encoders.images.raster import read_raster as read  # noqa: PLC0415 - heavy
        return replace(read(data), source_sha256=hashlib.sha256(data).hexdigest())
    except Exception as error:  # noqa: BLE001 - one exception, whatever the bytes
        failure = error if isinstance(error, ImageReadError) else _unexpected(error)
        message = f"{name}: {failure}" if name else str(failure)
        raise ImageReadError(failure.reason, message) from None


def read_preview(source: Path) -> tuple[RawImage, tuple[int, int]] | None:
    """A large image at a fraction of its size, and the rows and columns of the whole.

    For a first look only. None if reading the whole is about as quick, and if the image cannot be
    read: `read_raw` says why.
    """
    from encoders.dicom.reader import preview_dicom  # noqa: PLC0415 - heavy

    try:
        data = _read_bytes(source)
        preview = preview_dicom(data) if _check_format(data) is ImageFormat.DICOM else None
    except Exception as error:  # noqa: BLE001 - whatever the bytes, a preview is optional
        _log.debug("no preview", exc_info=error)
        return None
    if preview is None:
        return None
    image, size = preview
    return replace(image, source_sha256=hashlib.sha256(data).hexdigest()), size


def read_image_info(source: Path | bytes) -> ImageInfo:
    """Read an image's header, and of a file no more than that.

    Raises:
        ImageReadError: the file cannot be opened, or its DICOM header cannot be parsed.
    """
    with _open(source) as file:
        file_format = image_format(file.read(SIGNATURE_BYTES))
        if file_format is not ImageFormat.DICOM:
            return ImageInfo(file_format)
        from encoders.dicom.info import read_dicom_info  # noqa: PLC0415 - pydicom takes a while

        file.seek(0)
        return read_dicom_info(file)


def _read_bytes(source: Path | bytes) -> bytes:
    """The file's bytes, up to `MAX_BYTES`."""
    with _open(source) as file:
        if (size := file.seek(0, io.SEEK_END)) > MAX_BYTES:
            raise ImageReadError(
                ReadFailure.TOO_LARGE,
                f"the file has {size / 2**20:.0f} MB, more than the {MAX_BYTES >> 20} MB of the "
                "largest image. Choose one image, not an archive or a recording.",
            )
        file.seek(0)
        return file.read()


@contextmanager
def _open(source: Path | bytes) -> Iterator[io.BufferedIOBase]:
    """Open a regular file or bytes; an OSError within the block becomes an ImageReadError."""
    try:
        if isinstance(source, bytes):
            yield io.BytesIO(source)
            return
        if not S_ISREG(source.stat().st_mode):  # a pipe or device would be read without end
            raise ImageReadError(
                ReadFailure.FILE, "this is no regular file: choose a DICOM, PNG or JPEG."
            )
        with source.open("rb") as file:
            yield file
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        cause = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        raise ImageReadError(
            ReadFailure.FILE, f"the file cannot be opened: {cause}. Check its path and permissions."
        ) from None


def _check_format(data: bytes) -> ImageFormat:
    """DICOM or RASTER, by content alone; refuses anything else, named if it is known."""
    file_format = image_format(data)
    if file_format is not ImageFormat.OTHER:
        return file_format
    kind = "unknown file type, without the first bytes of DICOM, PNG or JPEG"
    if all(byte >= 32 or byte in b"\t\r\n" for byte in data[:512]):
        kind = "a text file" if data else "an empty file"
    kind = next((name for start, name in _UNSUPPORTED.items() if data.startswith(start)), kind)
    raise ImageReadError(
        ReadFailure.NOT_AN_IMAGE, f"not a supported image: {kind}. Choose a DICOM, PNG or JPEG."
    )


def _unexpected(error: Exception) -> ImageReadError:
    """For an exception that no reader handles; it may quote headers, so only DEBUG shows it."""
    _log.debug("unexpected failure while reading an image", exc_info=error)
    if isinstance(error, MemoryError):
        return ImageReadError(
            ReadFailure.TOO_LARGE, "not enough memory to read this image. Close other programs."
        )
    return ImageReadError(
        ReadFailure.UNDECODABLE,
        f"the image cannot be read ({type(error).__name__}): the file is damaged in a way that was "
        "not foreseen. Export it again, and please report it.",
    )
