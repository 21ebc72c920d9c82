"""Parses a DICOM header leniently, and only the elements that reading an image needs.

A malformed value counts as absent. Elements that identify a person are not parsed together with the
pixels; `encoders.dicom.info` reads them separately, and they stay in memory.
"""

import io
import logging
import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import config, dcmread
from pydicom.datadict import keyword_dict
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

from encoders.dicom.bounds import (
    MAX_HEADER_READS,
    BoundedReader,
    check_item_count,
    inflate,
    inflate_file,
)
from encoders.images.raw_image import ImageReadError, ReadFailure

_MAX_NUMBER = 1e15
"""Larger numbers are nonsense and would overflow what is computed from them."""
_CODE = re.compile(r"[A-Z0-9_ \-/.]{1,16}")
_PYDICOM = re.compile(r"pydicom\b")

VIEW_KEYWORDS = (
    *("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription"),
    *("AcquisitionDeviceProcessingCode", "PerformedProcedureStepDescription"),
)
"""Free text that may name the projection; used for nothing else."""

_OVERLAY_ROWS = tuple(0x60000010 + (group << 16) for group in range(0, 32, 2))
_IMAGE_ELEMENTS: tuple[str | int, ...] = (
    *(tag for tag in keyword_dict.values() if tag >> 16 == 0x0028),  # how pixels are kept and shown
    *(tag for tag in keyword_dict.values() if tag >> 8 == 0x001816),  # shutters
    *_OVERLAY_ROWS,
    *VIEW_KEYWORDS,
    *("SOPClassUID", "Modality", "PresentationIntentType", "ViewPosition"),
    *("ViewCodeSequence", "ImagerPixelSpacing", "NominalScannedPixelSpacing"),
    *("PatientOrientation", "FieldOfViewHorizontalFlip", "FieldOfViewRotation"),
    *("PresentationLUTShape", "SharedFunctionalGroupsSequence"),
    *("PerFrameFunctionalGroupsSequence", "PixelData"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)


def parse(data: bytes, *, whole: bool = False) -> Dataset:
    """The elements that reading an image needs, with the pixel data; all with ``whole``."""
    return _parse(io.BytesIO(inflate(data)), None if whole else _IMAGE_ELEMENTS)


def parse_header(file: io.BufferedIOBase, keywords: Sequence[str]) -> Dataset:
    """Elements of a file by keyword; reads no further than the last of them, nor pixels."""
    return _parse(inflate_file(file), keywords, stop_before_pixels=True)


def _parse(
    file: io.BufferedIOBase, tags: Sequence[str | int] | None, *, stop_before_pixels: bool = False
) -> Dataset:
    _silence_pydicom()
    try:
        return dcmread(
            BoundedReader(file),
            force=True,
            specific_tags=tags and list(tags),  # type: ignore[arg-type]  # or numbers
            stop_before_pixels=stop_before_pixels,
        )
    except ImageReadError:
        raise
    except Exception as error:  # noqa: BLE001 - pydicom raises a dozen kinds
        # The message may quote the header: only the type of the error is passed on.
        raise ImageReadError(
            ReadFailure.BAD_HEADER,
            f"the DICOM header cannot be parsed ({type(error).__name__}): the file is damaged or "
            "cut short. Export it again.",
        ) from None


def _silence_pydicom() -> None:
    """Keep pydicom from quoting header values in warnings and logs.

    Repeated at every call, because a caller's `warnings.catch_warnings` undoes it, and thread-safe,
    which that is not.
    """
    config.settings.reading_validation_mode = config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    if ("ignore", None, Warning, _PYDICOM, 0) not in warnings.filters:
        warnings.filterwarnings("ignore", module=_PYDICOM.pattern)


def number(dataset: Dataset, keyword: str) -> float | None:
    """First value of a numeric element; None if absent or malformed."""
    values = numbers(dataset, keyword)
    return values[0] if values else None


def integer(dataset: Dataset, keyword: str) -> int | None:
    """First value of an integer element; None if absent or malformed."""
    value = number(dataset, keyword)
    return int(value) if value is not None and value == int(value) else None


def numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """All finite values of a numeric element, in order."""
    finite = []
    for value in _values(dataset, keyword):
        try:
            parsed = float(str(value).strip(" \0").replace(",", "."))
        except ValueError:
            continue
        if abs(parsed) <= _MAX_NUMBER:  # False for NaN
            finite.append(parsed)
    return tuple(finite)


def text_value(dataset: Dataset, keyword: str) -> str:
    """First value of a text element, stripped, at most 128 characters; empty if absent."""
    return next(iter(text_values(dataset, keyword)), "")[:128]


def text_values(dataset: Dataset, keyword: str) -> list[str]:
    """All values of a text element, stripped."""
    return [str(value).strip(" \0") for value in _values(dataset, keyword)]


def code(dataset: Dataset, keyword: str) -> str:
    """First code string (VR CS) in capitals; empty if absent or malformed."""
    return next(iter(codes(dataset, keyword)), "")


def codes(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """All code strings (VR CS) in capitals, at most 16 characters of the standard's alphabet.

    Anything else is left out: it could be a name.
    """
    values = [value.upper() for value in text_values(dataset, keyword)]
    return tuple(value for value in values if _CODE.fullmatch(value))


def raw_bytes(dataset: Dataset, keyword: str) -> bytes:
    """An element's bytes as stored; empty if absent or already converted."""
    value = getattr(raw_element(dataset, keyword), "value", None)
    return value if isinstance(value, bytes) else b""


def uint16_values(dataset: Dataset, keyword: str, *, max_bytes: int = 0) -> NDArray[np.uint16]:
    """An element's 16-bit words, whatever its VR (US, SS, OW, OB).

    A value of at most ``max_bytes`` bytes is taken for 8-bit words.
    """
    element = raw_element(dataset, keyword)
    value = getattr(element, "value", None)
    if value is None:
        return np.empty(0, np.uint16)
    if not isinstance(value, bytes):
        values = np.atleast_1d(np.asarray(value, dtype=np.int64))
        return (values & 0xFFFF).astype(np.uint16)
    if len(value) <= max_bytes:
        return np.frombuffer(value, np.uint8).astype(np.uint16)
    order = "<" if getattr(element, "is_little_endian", True) else ">"
    return np.frombuffer(value[: len(value) & ~1], f"{order}u2").astype(np.uint16)


def raw_element(dataset: Dataset, keyword: str) -> RawDataElement | DataElement | None:
    """An element without conversion, which raises for malformed values."""
    return dataset.get_item(keyword, keep_deferred=True) if keyword in dataset else None


def items(dataset: Dataset, keyword: str, *, max_reads: int = MAX_HEADER_READS) -> list[Dataset]:
    """Items of a sequence; none if it is absent or malformed; too many raise `ImageReadError`."""
    element = raw_element(dataset, keyword)
    if isinstance(element, RawDataElement):
        check_item_count(element, max_reads)
    return [item for item in _values(dataset, keyword) if isinstance(item, Dataset)]


def has_overlays(dataset: Dataset) -> bool:
    """Whether the file has overlay planes (PS3.3 C.9.2)."""
    return any(tag in dataset for tag in _OVERLAY_ROWS)


def _values(dataset: Dataset, keyword: str) -> list[Any]:
    """Values of an element; if pydicom cannot convert it, its bytes split at backslashes."""
    if keyword not in dataset:
        return []
    try:
        value = dataset[keyword].value
    except Exception:  # noqa: BLE001 - pydicom raises a dozen kinds for malformed values
        value = raw_bytes(dataset, keyword).decode("latin-1").split("\\")
    if value is None or value == "":
        return []
    if isinstance(value, str | bytes | int | float | PersonName):  # PersonName is iterable
        return [value]
    try:
        return [item for item in value if item is not None and item != ""]
    except TypeError:
        return [value]
