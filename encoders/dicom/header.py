"""The DICOM header: parsed leniently, and only the elements that reading an image needs.

Nothing here raises for a malformed value: it is absent. Elements that identify a person are not
parsed together with the pixels; `encoders.dicom.info` reads them alone, and they live in memory
only.
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

from encoders.dicom.bounds import HEADER_READS, Bounded, inflated, inflated_file, refuse_crowd
from encoders.images.raw_image import ImageReadError, ReadFailure

_LARGEST = 1e15
"""No number that images carry comes near; larger ones overflow what is computed from them."""
_CODE = re.compile(r"[A-Z0-9_ \-/.]{1,16}")
_PYDICOM = re.compile(r"pydicom\b")

VIEW_WORDS = (
    *("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription"),
    *("AcquisitionDeviceProcessingCode", "PerformedProcedureStepDescription"),
)
"""Free text that may name the projection; read for that alone."""

_OVERLAY_ROWS = tuple(0x60000010 + (group << 16) for group in range(0, 32, 2))
_READ: tuple[str | int, ...] = (
    *(tag for tag in keyword_dict.values() if tag >> 16 == 0x0028),  # how pixels are kept and shown
    *(tag for tag in keyword_dict.values() if tag >> 8 == 0x001816),  # shutters
    *_OVERLAY_ROWS,
    *VIEW_WORDS,
    *("SOPClassUID", "Modality", "PresentationIntentType", "ViewPosition"),
    *("ViewCodeSequence", "ImagerPixelSpacing", "NominalScannedPixelSpacing"),
    *("PatientOrientation", "FieldOfViewHorizontalFlip", "FieldOfViewRotation"),
    *("PresentationLUTShape", "SharedFunctionalGroupsSequence"),
    *("PerFrameFunctionalGroupsSequence", "PixelData"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)


def parse(data: bytes, *, whole: bool = False) -> Dataset:
    """The elements that reading an image needs, pixel data included; or the ``whole`` file's.

    Raises:
        ImageReadError: the header cannot be parsed at all.
    """
    return _parse(io.BytesIO(inflated(data)), None if whole else _READ)


def parse_header(file: io.BufferedIOBase, keywords: Sequence[str]) -> Dataset:
    """Elements of a file by keyword; of the file, no more is read than that.

    Raises:
        ImageReadError: as for `parse`.
    """
    return _parse(inflated_file(file), keywords, stop_before_pixels=True)


def _parse(
    file: io.BufferedIOBase, tags: Sequence[str | int] | None, *, stop_before_pixels: bool = False
) -> Dataset:
    _quiet()
    try:
        return dcmread(
            Bounded(file),  # a reader, as pydicom asks for
            force=True,
            specific_tags=tags and list(tags),  # type: ignore[arg-type]  # or numbers
            stop_before_pixels=stop_before_pixels,
        )
    except ImageReadError:
        raise
    except Exception as error:  # noqa: BLE001 - pydicom raises a dozen kinds
        # The parser's own words may quote the header: only the kind of error is passed on.
        raise ImageReadError(
            ReadFailure.BAD_HEADER,
            f"the DICOM header cannot be parsed ({type(error).__name__}): the file is damaged or "
            "cut short. Export it again.",
        ) from None


def _quiet() -> None:
    """Keep pydicom from quoting header values in warnings and log lines.

    What matters of them is said by us, without the value. Set again at every call, because
    `warnings.catch_warnings` blocks of a caller undo it, and thread-safe, which they are not.
    """
    config.settings.reading_validation_mode = config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    if ("ignore", None, Warning, _PYDICOM, 0) not in warnings.filters:
        warnings.filterwarnings("ignore", module=_PYDICOM.pattern)


def number(dataset: Dataset, keyword: str) -> float | None:
    """First value of a numeric element; None if absent, empty or nonsense."""
    values = numbers(dataset, keyword)
    return values[0] if values else None


def integer(dataset: Dataset, keyword: str) -> int | None:
    """First value of an integer element; None if absent, empty or nonsense."""
    value = number(dataset, keyword)
    return int(value) if value is not None and value == int(value) else None


def numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """All finite values of a numeric element, in order."""
    found = []
    for value in _values(dataset, keyword):
        try:
            parsed = float(str(value).strip(" \0").replace(",", "."))
        except ValueError:
            continue
        if abs(parsed) <= _LARGEST:  # False for NaN
            found.append(parsed)
    return tuple(found)


def word(dataset: Dataset, keyword: str, *, limit: int = 16) -> str:
    """First value of a text element, stripped; empty if absent."""
    values = _values(dataset, keyword)
    return str(values[0]).strip(" \0")[:limit] if values else ""


def text_values(dataset: Dataset, keyword: str) -> list[str]:
    """All values of a text element, stripped."""
    return [str(value).strip(" \0") for value in _values(dataset, keyword)]


def code(dataset: Dataset, keyword: str) -> str:
    """First coded word (VR CS) in capitals; empty if absent or no code."""
    return next(iter(codes(dataset, keyword)), "")


def codes(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """All coded words (VR CS) in capitals, at most 16 characters of the standard's alphabet.

    What else writers put there could be anything, a name included: it is left out.
    """
    found = [str(value).strip(" \0").upper() for value in _values(dataset, keyword)]
    return tuple(value for value in found if _CODE.fullmatch(value))


def content(dataset: Dataset, keyword: str) -> bytes:
    """An element's bytes as they stand in the file: converting them may need other elements."""
    value = getattr(raw(dataset, keyword), "value", None)
    return value if isinstance(value, bytes) else b""


def words(dataset: Dataset, keyword: str, *, most_bytes: int = 0) -> NDArray[np.uint16]:
    """An element's 16-bit words, whatever VR (US, SS, OW, OB) they were written with.

    Up to ``most_bytes`` bytes are taken for words of one byte.
    """
    element = raw(dataset, keyword)
    value = getattr(element, "value", None)
    if value is None:
        return np.empty(0, np.uint16)
    if not isinstance(value, bytes):
        values = np.atleast_1d(np.asarray(value, dtype=np.int64))
        return (values & 0xFFFF).astype(np.uint16)
    if len(value) <= most_bytes:
        return np.frombuffer(value, np.uint8).astype(np.uint16)
    order = "<" if getattr(element, "is_little_endian", True) else ">"
    return np.frombuffer(value[: len(value) & ~1], f"{order}u2").astype(np.uint16)


def raw(dataset: Dataset, keyword: str) -> RawDataElement | DataElement | None:
    """An element as it was parsed, not converted: conversion raises for malformed ones."""
    return dataset.get_item(keyword, keep_deferred=True) if keyword in dataset else None


def items(dataset: Dataset, keyword: str, *, reads: int = HEADER_READS) -> list[Dataset]:
    """Items of a sequence; none if it is absent or cannot be parsed.

    Raises:
        ImageReadError: it would take more than so many reads.
    """
    element = raw(dataset, keyword)
    if isinstance(element, RawDataElement):
        refuse_crowd(element, reads)
    return [item for item in _values(dataset, keyword) if isinstance(item, Dataset)]


def overlays(dataset: Dataset) -> bool:
    """True where the file brings overlay planes (PS3.3 C.9.2)."""
    return any(tag in dataset for tag in _OVERLAY_ROWS)


def _values(dataset: Dataset, keyword: str) -> list[Any]:
    """Values of an element; where pydicom cannot convert it, its bytes split at backslashes."""
    if keyword not in dataset:
        return []
    try:
        value = dataset[keyword].value
    except Exception:  # noqa: BLE001 - pydicom raises a dozen kinds for malformed values
        value = content(dataset, keyword).decode("latin-1").split("\\")
    if value is None or value == "":
        return []
    if isinstance(value, str | bytes | int | float | PersonName):  # a name can be iterated, too
        return [value]
    try:
        return [item for item in value if item is not None and item != ""]
    except TypeError:
        return [value]
