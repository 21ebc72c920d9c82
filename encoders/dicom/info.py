"""What DICOM files say without pixels: a header as `ImageInfo`, a DICOMDIR, a structured report.

Nothing here raises for a malformed value: it is absent. What names a person is read into
`ImageInfo.identity`, `person` and `identifiers`, and nowhere else.
"""

import io
import re
from collections.abc import Iterator
from pathlib import Path

from pydicom.dataset import Dataset

from encoders.base import View
from encoders.dicom.bounds import HEADER_READS
from encoders.dicom.header import VIEW_WORDS, code, integer, items, parse_header, text_values, word
from encoders.images.image_info import (
    HeaderIdentity,
    ImageFormat,
    ImageInfo,
    is_other_projection,
    name_parts,
    parse_view,
)
from encoders.images.raw_image import ImageReadError, ReadFailure

_IDENTITY = ("StudyInstanceUID", "AccessionNumber", "StudyID", "PatientID")
_NAMES = (
    *("PatientName", "OtherPatientNames", "OtherPatientIDs", "PatientBirthDate"),
    *("PatientBirthName", "PatientMotherBirthName", "ResponsiblePerson", "ReferringPhysicianName"),
    *("PerformingPhysicianName", "SOPInstanceUID", "SeriesInstanceUID"),
)
_PLACES = (
    *("InstitutionName", "InstitutionalDepartmentName", "StudyDescription", "SeriesDescription"),
    *("ProtocolName",),
)
_TIMES = (  # date and time of the exposure, the best first; ContentDate is often the export's
    ("AcquisitionDate", "AcquisitionTime"),
    ("ContentDate", "ContentTime"),
)
_KEYWORDS = (
    *(*_IDENTITY, *_NAMES, *_PLACES, *VIEW_WORDS, *_TIMES[0], *_TIMES[1]),
    *("PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription"),
    *("PatientBreedCodeSequence", "ResponsiblePersonRole", "ViewCodeSequence", "PatientAge"),
    *("ConceptNameCodeSequence", "CurrentRequestedProcedureEvidenceSequence", "SOPClassUID"),
    *("Modality", "BodyPartExamined", "ViewPosition", "PresentationIntentType", "Rows", "Columns"),
    *("SeriesNumber", "InstanceNumber", "QualityControlImage", "SpecificCharacterSet"),
    *("AcquisitionDateTime", "StudyDate", "StudyTime", "ContentSequence", "PatientOrientation"),
)
_VETERINARY = re.compile(
    r"veterin|\bvet\b|\banimal|canine|feline|equine|\bdog\b|\bcat\b|tierarzt|tierklinik|tier.rzt",
    re.IGNORECASE,
)
_KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
_REJECTED = frozenset({"113001", "113037", "113038", "113039"})
"""Titles of PS3.16 CID 7010 by which a note takes instances out of use: for quality, for patient
safety, for a wrong worklist entry, for an expired retention (IHE RAD, Imaging Object Change)."""
_MAN = re.compile(r"\s*(homo sapiens|human|)\s*", re.IGNORECASE)
_MAN_CODES = {"L-85B00", "337915000", ""}
_AGE = re.compile(r"\s*(\d{1,3})([DWMY])\s*")
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}
_VIEW_CODES = {  # SNOMED RT and CT codes of CID 4010, DX View
    **dict.fromkeys(("R-10206", "399348003"), View.AP),
    **dict.fromkeys(("R-10214", "399372009"), View.PA),
    **dict.fromkeys(("R-10232", "399198007", "R-10236", "399173006"), View.LATERAL),
}


def read_dicom_info(file: io.BufferedIOBase) -> ImageInfo:
    """What a DICOM file's header says; it is read up to the pixels.

    Raises:
        ImageReadError: the header cannot be parsed.
    """
    dataset = parse_header(file, _KEYWORDS)
    study, accession, number, patient = (word(dataset, key, limit=128) for key in _IDENTITY)
    names = [value for keyword in _NAMES for value in text_values(dataset, keyword)]
    person = [word(dataset, keyword, limit=128) for keyword in ("PatientName", "PatientBirthDate")]
    is_key_object_selection = word(dataset, "SOPClassUID", limit=64) == _KEY_OBJECT_SELECTION
    return ImageInfo(
        ImageFormat.DICOM,
        identity=HeaderIdentity(
            tuple(dict.fromkeys(filter(None, (study, accession, number)))), patient
        ),
        study_uid=study,
        accession=accession,
        instance_uid=word(dataset, "SOPInstanceUID", limit=128),
        person="|".join(person).lower() if any(person) else "",
        modality=code(dataset, "Modality"),
        body_part=code(dataset, "BodyPartExamined"),
        view=view_of(dataset),
        for_processing=code(dataset, "PresentationIntentType") == "FOR PROCESSING",
        pixels=(integer(dataset, "Rows") or 0) * (integer(dataset, "Columns") or 0),
        order=(integer(dataset, "SeriesNumber") or 0, integer(dataset, "InstanceNumber") or 0),
        acquired_at=_acquired_at(dataset),
        study_time=_moment(dataset, "StudyDate", "StudyTime") or _acquired_at(dataset),
        is_animal=_is_animal(dataset),
        age_years=_age(word(dataset, "PatientAge")),
        quality_control=code(dataset, "QualityControlImage") == "YES",
        is_key_object_selection=is_key_object_selection,
        rejected_uids=_rejected(dataset) if is_key_object_selection else frozenset(),
        identifiers=name_parts(study, accession, number, patient, *names),
    )


def _rejected(note: Dataset) -> frozenset[str]:
    """Instances that a Key Object Selection takes out of use (PS3.3 C.17.6.2)."""
    titles = {word(item, "CodeValue") for item in items(note, "ConceptNameCodeSequence")}
    if not titles & _REJECTED:
        return frozenset()
    holders = [
        series
        for study in items(note, "CurrentRequestedProcedureEvidenceSequence")
        for series in items(study, "ReferencedSeriesSequence")
    ]
    return frozenset(
        word(instance, "ReferencedSOPInstanceUID", limit=128)
        for holder in (*holders, *items(note, "ContentSequence"))
        for instance in items(holder, "ReferencedSOPSequence")
    )


def _acquired_at(dataset: Dataset) -> str:
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


def view_of(dataset: Dataset) -> View:
    """ViewPosition (0018,5101), else ViewCodeSequence (0054,0220), else the words of the series.

    Where none of them says it, rows that run to the patient's front or back are of a lateral.
    A ViewPosition that names another projection ("LLO") is not overruled by words.
    """
    position = code(dataset, "ViewPosition")
    if (view := parse_view(position)) is not View.UNKNOWN or is_other_projection(position):
        return view
    codes = items(dataset, "ViewCodeSequence")
    for item in codes:
        if (value := word(item, "CodeValue")) in _VIEW_CODES:
            return _VIEW_CODES[value]
    words = [word(item, "CodeMeaning", limit=64) for item in codes]
    words += [text for keyword in VIEW_WORDS for text in text_values(dataset, keyword)]
    views = (parse_view(text) for text in words)
    found = next((view for view in views if view is not View.UNKNOWN), View.UNKNOWN)
    letters = {value.upper()[:1] for value in text_values(dataset, "PatientOrientation")}
    if found is View.UNKNOWN and len(letters) == 2 and letters & set("AP") and letters & set("HF"):
        return View.LATERAL
    return found


def list_dicomdir_images(path: Path) -> tuple[list[Path], list[str]]:
    """Image files of a DICOMDIR (PS3.3 Annex F), and what is wrong with it, a sentence a problem.

    In its order, and none outside its own folder.

    Raises:
        ImageReadError: it cannot be read, or lists nothing.
    """
    folder, name = path.parent.resolve(), "DirectoryRecordSequence"
    images: dict[Path, None] = {}
    problems: list[str] = []
    try:
        with path.open("rb") as file:
            records = items(parse_header(file, [name]), name, reads=10 * HEADER_READS)
    except OSError as error:
        raise ImageReadError(ReadFailure.FILE, f"the DICOMDIR cannot be opened: {error}") from None
    for number, record in enumerate(records, 1):
        if word(record, "DirectoryRecordType") != "IMAGE":
            continue
        if (found := _referenced_file(folder, record)) is None:
            problems.append(f"record {number} of the DICOMDIR names no file within its folder")
        else:
            images[found] = None
    if not images:
        raise ImageReadError(
            ReadFailure.NO_PIXELS, "the DICOMDIR lists no image. Choose the folder instead."
        )
    return list(images), problems


def _referenced_file(folder: Path, record: Dataset) -> Path | None:
    """ReferencedFileID (0004,1500), if it stays in the folder; its case may differ on disk."""
    parts = text_values(record, "ReferencedFileID")
    if not parts or any(part in (".", "..") or "/" in part or "\0" in part for part in parts):
        return None
    path = folder.joinpath(*parts)
    if not path.exists():
        lower = folder.joinpath(*(part.lower() for part in parts))
        path = lower if lower.exists() else path
    return path if path.resolve().is_relative_to(folder) else None


_REPORT_KEYWORDS = ("CompletionFlag", "PreliminaryFlag", "ContentSequence", "SpecificCharacterSet")
_FINDINGS = frozenset({"59776-5", "121070", "121071"})
_IMPRESSION = frozenset({"19005-8", "121072", "121073", "121076", "121077", "55110-1"})
_COMMENT = "121106"


def read_report_text(source: Path | bytes) -> tuple[str, bool]:
    """Findings and impression of a structured report, and whether it is a complete, final one.

    PS3.3 C.17.3, PS3.16 TID 2000. What a sentence was inferred from, comments and observers are
    left out, and all of the header. A draft that nobody has signed is PARTIAL: what it says is no
    prior report. What cannot be parsed has no text.
    """
    try:
        data = source if isinstance(source, bytes) else source.read_bytes()
        report = parse_header(io.BytesIO(data), _REPORT_KEYWORDS)
    except (OSError, ImageReadError):
        return "", False
    final = code(report, "CompletionFlag") != "PARTIAL"
    final = final and code(report, "PreliminaryFlag") != "PRELIMINARY"
    return "\n".join(_lines(report, "")).strip(), final


def _lines(item: Dataset, heading: str) -> Iterator[str]:
    """Texts of an item's contents, each section after its heading."""
    for each in items(item, "ContentSequence"):
        if code(each, "RelationshipType") != "CONTAINS":
            continue
        concept = next(iter(items(each, "ConceptNameCodeSequence")), Dataset())
        value = word(concept, "CodeValue")
        own = "IMPRESSION" if value in _IMPRESSION else "FINDINGS" if value in _FINDINGS else ""
        if value == _COMMENT:
            continue
        kind = code(each, "ValueType")
        if own and own != heading and kind in ("TEXT", "CONTAINER"):
            yield f"\n{own}:"
        if kind == "TEXT":
            yield from text_values(each, "TextValue")
        elif kind == "CONTAINER":
            yield from _lines(each, own or heading)
