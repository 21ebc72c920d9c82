"""A DICOM header, up to the pixels, to `ImageInfo`: for a quick look at many files.

Nothing here raises for a malformed value: it is absent. What names a person is read into
`ImageInfo.identity`, `person` and `names`, and nowhere else.
"""

import io
import re

from pydicom.dataset import Dataset

from encoders.dicom.header import VIEW_WORDS, code, integer, items, parse_header, text_values, word
from encoders.dicom.view import view_of
from encoders.images.image_info import ImageFormat, ImageInfo, name_parts
from encoders.images.raw_image import HeaderIdentity

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
_SEQUENCES = (
    *("ViewCodeSequence", "PatientSpeciesCodeSequence", "PatientBreedCodeSequence"),
    *("ConceptNameCodeSequence", "CurrentRequestedProcedureEvidenceSequence"),
)
_TIMES = (  # date and time of the exposure, the best first; ContentDate is often the export's
    ("AcquisitionDate", "AcquisitionTime"),
    ("ContentDate", "ContentTime"),
)
_OTHERS = (
    *("SOPClassUID", "Modality", "BodyPartExamined", "ViewPosition", "PresentationIntentType"),
    *("PatientAge", "Rows", "Columns", "SeriesNumber", "InstanceNumber", "QualityControlImage"),
    *("SpecificCharacterSet", "AcquisitionDateTime", "StudyDate", "StudyTime"),
    *(keyword for pair in _TIMES for keyword in pair),
)
_KEYWORDS = tuple(
    dict.fromkeys(
        (*_IDENTITY, *_NAMES, *_ANIMAL, *_PLACES, *VIEW_WORDS, *_SEQUENCES, *_OTHERS),
    )
)
_KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
_REJECTED = frozenset({"113001", "113037", "113038", "113039"})
"""Titles of PS3.16 CID 7010 by which a note takes instances out of use: for quality, for patient
safety, for a wrong worklist entry, for an expired retention (IHE RAD, Imaging Object Change)."""
_MAN = re.compile(r"\s*(homo sapiens|human|)\s*", re.IGNORECASE)
_MAN_CODES = {"L-85B00", "337915000", ""}
_AGE = re.compile(r"\s*(\d{1,3})([DWMY])\s*")
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


def dicom_info(file: io.BufferedIOBase) -> ImageInfo:
    """What a DICOM file's header says; it is read up to the pixels.

    Raises:
        ImageReadError: the header cannot be parsed.
    """
    dataset = parse_header(file, _KEYWORDS)
    ids = [word(dataset, keyword, limit=128) for keyword in _IDENTITY]
    named = [value for keyword in _NAMES for value in text_values(dataset, keyword)]
    person = [word(dataset, keyword, limit=128) for keyword in ("PatientName", "PatientBirthDate")]
    selects = word(dataset, "SOPClassUID", limit=64) == _KEY_OBJECT_SELECTION
    return ImageInfo(
        ImageFormat.DICOM,
        identity=HeaderIdentity(tuple(dict.fromkeys(filter(None, ids[:3]))), ids[3]),
        study_uid=ids[0],
        accession=ids[1],
        instance_uid=word(dataset, "SOPInstanceUID", limit=128),
        person="|".join(person).lower() if any(person) else "",
        modality=code(dataset, "Modality"),
        body_part=code(dataset, "BodyPartExamined"),
        view=view_of(dataset),
        for_processing=code(dataset, "PresentationIntentType") == "FOR PROCESSING",
        pixels=(integer(dataset, "Rows") or 0) * (integer(dataset, "Columns") or 0),
        order=(integer(dataset, "SeriesNumber") or 0, integer(dataset, "InstanceNumber") or 0),
        taken_at=_taken_at(dataset),
        studied_at=_moment(dataset, "StudyDate", "StudyTime") or _taken_at(dataset),
        animal=_is_animal(dataset),
        age_years=_age(word(dataset, "PatientAge")),
        quality_control=code(dataset, "QualityControlImage") == "YES",
        selects=selects,
        rejects=_rejected(dataset) if selects else frozenset(),
        names=name_parts(*ids, *named),
    )


def _rejected(note: Dataset) -> frozenset[str]:
    """Instances that a Key Object Selection takes out of use (PS3.3 C.17.6.2)."""
    titles = {word(item, "CodeValue") for item in items(note, "ConceptNameCodeSequence")}
    if not titles & _REJECTED:
        return frozenset()
    return frozenset(
        word(instance, "ReferencedSOPInstanceUID", limit=128)
        for study in items(note, "CurrentRequestedProcedureEvidenceSequence")
        for series in items(study, "ReferencedSeriesSequence")
        for instance in items(series, "ReferencedSOPSequence")
    )


def _taken_at(dataset: Dataset) -> str:
    """Digits of the acquisition's date and time, to the second."""
    digits = re.sub(r"\D", "", word(dataset, "AcquisitionDateTime", limit=26).partition(".")[0])
    if len(digits) >= 14:
        return digits[:14]
    moments = (_moment(dataset, date, time) for date, time in _TIMES)
    return next((moment for moment in moments if len(moment) == 14), "")


def _moment(dataset: Dataset, date: str, time: str) -> str:
    """Digits of a date and its time, of the date alone where there is no time."""
    day = re.sub(r"\D", "", word(dataset, date))
    moment = re.sub(r"\D", "", word(dataset, time).partition(".")[0])
    if len(day) != 8:
        return ""
    return f"{day}{moment[:6]:0<6}" if len(moment) >= 4 else day


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
