"""A DICOM header, up to the pixels, to `ImageInfo`: for a quick look at many files.

Nothing here raises for a malformed value: it is absent. What names a person is read into
`ImageInfo.identity` and `ImageInfo.names`, and nowhere else.
"""

import io
import re

from pydicom.dataset import Dataset

from encoders.dicom.header import (
    HEADER_READS,
    code,
    inflated,
    integer,
    items,
    parse_stream,
    text_values,
    too_many_elements,
    word,
)
from encoders.dicom.reader import view_of
from encoders.images.image_info import ImageFormat, ImageInfo, name_parts
from encoders.images.raw_image import HeaderIdentity

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_IDENTITY = ("StudyInstanceUID", "AccessionNumber", "StudyID", "PatientID")
_NAMES = (
    *("PatientName", "OtherPatientNames", "OtherPatientIDs", "PatientBirthDate"),
    *("PatientBirthName", "PatientMotherBirthName", "ResponsiblePerson", "ReferringPhysicianName"),
    *("PerformingPhysicianName", "SOPInstanceUID", "SeriesInstanceUID"),
)
_ANIMAL = ("PatientSpeciesDescription", "PatientBreedDescription", "ResponsiblePersonRole")
_PLACES = (
    *("InstitutionName", "InstitutionalDepartmentName", "StudyDescription", "SeriesDescription"),
    *("ProtocolName",),
)
_VETERINARY = re.compile(
    r"veterin|\bvet\b|\banimal|canine|feline|equine|\bdog\b|\bcat\b|tierarzt|tierklinik|tier.rzt",
    re.IGNORECASE,
)
_SEQUENCES = ("ViewCodeSequence", "PatientSpeciesCodeSequence", "PatientBreedCodeSequence")
_FACTS = (
    *("Modality", "BodyPartExamined", "ViewPosition", "PresentationIntentType", "PatientAge"),
    *("Rows", "Columns", "SeriesNumber", "InstanceNumber", "SpecificCharacterSet"),
)
_MAN = re.compile(r"\s*(homo sapiens|human|)\s*", re.IGNORECASE)
_MAN_CODES = {"L-85B00", "337915000", ""}
_AGE = re.compile(r"\s*(\d{1,3})([DWMY])\s*")
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


def dicom_facts(file: io.BufferedIOBase) -> ImageInfo:
    """Facts of a DICOM file; it is read up to the pixels.

    Raises:
        ImageReadError: the header cannot be parsed.
    """
    dataset = _parsed(file)
    ids = [word(dataset, keyword, limit=128) for keyword in _IDENTITY]
    named = [value for keyword in _NAMES for value in text_values(dataset, keyword)]
    return ImageInfo(
        ImageFormat.DICOM,
        identity=HeaderIdentity(tuple(dict.fromkeys(filter(None, ids[:3]))), ids[3]),
        study_uid=ids[0],
        accession=ids[1],
        modality=code(dataset, "Modality"),
        body_part=code(dataset, "BodyPartExamined"),
        view=view_of(dataset),
        for_processing=code(dataset, "PresentationIntentType") == "FOR PROCESSING",
        pixels=(integer(dataset, "Rows") or 0) * (integer(dataset, "Columns") or 0),
        order=(integer(dataset, "SeriesNumber") or 0, integer(dataset, "InstanceNumber") or 0),
        animal=_is_animal(dataset),
        age_years=_age(word(dataset, "PatientAge")),
        names=name_parts(*ids, *named),
    )


class _Bounded(io.RawIOBase):
    """A file that can be read from so many times only, as in `encoders.dicom.header`."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file
        self._left = HEADER_READS

    def read(self, size: int = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise too_many_elements()
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _parsed(file: io.BufferedIOBase) -> Dataset:
    head = file.read(1024)
    file.seek(0)
    if _DEFLATED in head:
        file = io.BytesIO(inflated(file.read()))
    wanted: list[str | int] = [*_IDENTITY, *_NAMES, *_ANIMAL, *_PLACES, *_SEQUENCES, *_FACTS]
    return parse_stream(_Bounded(file), wanted, stop_before_pixels=True)


def _is_animal(dataset: Dataset) -> bool:
    """PS3.3 C.7.1.1 species, breed, an owner who answers for the patient; else a vet's practice."""
    species = word(dataset, "PatientSpeciesDescription", limit=64)
    codes = [word(item, "CodeValue") for item in items(dataset, "PatientSpeciesCodeSequence")]
    return (
        not _MAN.fullmatch(species)
        or any(code not in _MAN_CODES for code in codes)
        or bool(word(dataset, "PatientBreedDescription"))
        or bool(items(dataset, "PatientBreedCodeSequence"))
        or code(dataset, "ResponsiblePersonRole") == "OWNER"
        or any(_VETERINARY.search(word(dataset, place, limit=64)) for place in _PLACES)
    )


def _age(value: str) -> float | None:
    found = _AGE.fullmatch(value.upper())
    return int(found[1]) * _YEARS[found[2]] if found else None
