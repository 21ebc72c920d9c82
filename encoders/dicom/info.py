"""DICOM files without their pixels: a header as `ImageInfo`, a DICOMDIR, a structured report.

A malformed value counts as absent.
"""

import io
import re
from collections.abc import Iterator
from pathlib import Path

from pydicom.dataset import Dataset

from encoders.base import View
from encoders.dicom.bounds import MAX_HEADER_READS
from encoders.dicom.header import (
    VIEW_KEYWORDS,
    code,
    integer,
    items,
    parse_header,
    text_value,
    text_values,
)
from encoders.images.image_info import (
    ImageFormat,
    ImageInfo,
    is_other_projection,
    name_parts,
    parse_view,
)
from encoders.images.raw_image import ImageReadError, ReadFailure

_ID_KEYWORDS = (
    *("StudyInstanceUID", "AccessionNumber", "StudyID"),
    *("PatientID", "PatientName", "PatientBirthDate"),
)
_NAME_KEYWORDS = (
    *("PatientName", "OtherPatientNames", "OtherPatientIDs", "PatientBirthDate"),
    *("PatientBirthName", "PatientMotherBirthName", "ResponsiblePerson", "ReferringPhysicianName"),
    *("PerformingPhysicianName", "SOPInstanceUID", "SeriesInstanceUID"),
)
_PRACTICE_KEYWORDS = (
    *("InstitutionName", "InstitutionalDepartmentName", "StudyDescription", "SeriesDescription"),
    *("ProtocolName",),
)
_ACQUISITION_TIMES = (  # the most reliable first: ContentDate is often that of the export
    ("AcquisitionDate", "AcquisitionTime"),
    ("ContentDate", "ContentTime"),
)
_INFO_KEYWORDS = (
    *_ID_KEYWORDS,
    *_NAME_KEYWORDS,
    *_PRACTICE_KEYWORDS,
    *VIEW_KEYWORDS,
    *(keyword for pair in _ACQUISITION_TIMES for keyword in pair),
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
_REJECTION_TITLES = frozenset({"113001", "113037", "113038", "113039"})
"""Document titles of PS3.16 CID 7010 that reject instances: for quality, patient safety, a wrong
worklist entry or expired retention (IHE RAD, Imaging Object Change)."""
_HUMAN = re.compile(r"\s*(homo sapiens|human|)\s*", re.IGNORECASE)
_HUMAN_CODES = {"L-85B00", "337915000", ""}
_AGE = re.compile(r"\s*(\d{1,3})([DWMY])\s*")
_YEARS_PER_UNIT = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}
_VIEW_CODES = {  # SNOMED RT and CT codes of CID 4010, DX View
    **dict.fromkeys(("R-10206", "399348003"), View.AP),
    **dict.fromkeys(("R-10214", "399372009"), View.PA),
    **dict.fromkeys(("R-10232", "399198007", "R-10236", "399173006"), View.LATERAL),
}


def read_dicom_info(file: io.BufferedIOBase) -> ImageInfo:
    """Read a DICOM file's header, up to the pixels."""
    dataset = parse_header(file, _INFO_KEYWORDS)
    uid, accession, study_id, patient_id, patient_name, birth_date = (
        text_value(dataset, keyword) for keyword in _ID_KEYWORDS
    )
    names = [value for keyword in _NAME_KEYWORDS for value in text_values(dataset, keyword)]
    is_key_object_selection = text_value(dataset, "SOPClassUID") == _KEY_OBJECT_SELECTION
    return ImageInfo(
        ImageFormat.DICOM,
        study_ids=tuple(dict.fromkeys(filter(None, (uid, accession, study_id)))),
        study_uid=uid,
        accession=accession,
        instance_uid=text_value(dataset, "SOPInstanceUID"),
        patient_id=patient_id,
        patient_name=patient_name.lower(),
        birth_date=birth_date,
        modality=code(dataset, "Modality"),
        body_part=code(dataset, "BodyPartExamined"),
        view=read_view(dataset),
        is_for_processing=code(dataset, "PresentationIntentType") == "FOR PROCESSING",
        pixel_count=(integer(dataset, "Rows") or 0) * (integer(dataset, "Columns") or 0),
        order=(integer(dataset, "SeriesNumber") or 0, integer(dataset, "InstanceNumber") or 0),
        acquired_at=_acquired_at(dataset),
        study_time=_date_time(dataset, "StudyDate", "StudyTime") or _acquired_at(dataset),
        is_animal=_is_animal(dataset),
        age_years=_age_years(text_value(dataset, "PatientAge")),
        is_quality_control=code(dataset, "QualityControlImage") == "YES",
        is_key_object_selection=is_key_object_selection,
        rejected_uids=_rejected_uids(dataset) if is_key_object_selection else frozenset(),
        identifiers=name_parts(uid, accession, study_id, patient_id, *names),
    )


def _rejected_uids(note: Dataset) -> frozenset[str]:
    """Instances that a Key Object Selection rejects (PS3.3 C.17.6.2)."""
    titles = {text_value(item, "CodeValue") for item in items(note, "ConceptNameCodeSequence")}
    if not titles & _REJECTION_TITLES:
        return frozenset()
    all_series = [
        series
        for study in items(note, "CurrentRequestedProcedureEvidenceSequence")
        for series in items(study, "ReferencedSeriesSequence")
    ]
    return frozenset(
        text_value(instance, "ReferencedSOPInstanceUID")
        for parent in (*all_series, *items(note, "ContentSequence"))
        for instance in items(parent, "ReferencedSOPSequence")
    )


def _acquired_at(dataset: Dataset) -> str:
    """Date and time of acquisition as 14 digits, empty if absent."""
    date_time, _, _ = text_value(dataset, "AcquisitionDateTime").partition(".")
    if len(digits := re.sub(r"\D", "", date_time)) >= 14:
        return digits[:14]
    times = (_date_time(dataset, date, time) for date, time in _ACQUISITION_TIMES)
    return next((digits for digits in times if len(digits) == 14), "")


def _date_time(dataset: Dataset, date_keyword: str, time_keyword: str) -> str:
    """Digits of a date and its time, or of the date alone if there is no time."""
    date = re.sub(r"\D", "", text_value(dataset, date_keyword))
    time = re.sub(r"\D", "", text_value(dataset, time_keyword).partition(".")[0])
    if len(date) != 8:
        return ""
    return f"{date}{time[:6]:0<6}" if len(time) >= 4 else date


def _is_animal(dataset: Dataset) -> bool:
    """By species, breed or an owner as responsible person (PS3.3 C.7.1.1); by a vet's practice."""
    species = text_value(dataset, "PatientSpeciesDescription")
    codes = [text_value(item, "CodeValue") for item in items(dataset, "PatientSpeciesCodeSequence")]
    return (
        not _HUMAN.fullmatch(species)
        or any(code not in _HUMAN_CODES for code in codes)
        or bool(text_value(dataset, "PatientBreedDescription"))
        or bool(items(dataset, "PatientBreedCodeSequence"))
        or code(dataset, "ResponsiblePersonRole") == "OWNER"
        or any(_VETERINARY.search(text_value(dataset, place)) for place in _PRACTICE_KEYWORDS)
    )


def _age_years(value: str) -> float | None:
    match = _AGE.fullmatch(value.upper())
    return int(match[1]) * _YEARS_PER_UNIT[match[2]] if match else None


def read_view(dataset: Dataset) -> View:
    """View by ViewPosition (0018,5101), else ViewCodeSequence (0054,0220), else free text.

    If none of them tells, an image with rows towards the patient's front or back is a lateral. A
    ViewPosition that names another projection ("LLO") is not overruled.
    """
    position = code(dataset, "ViewPosition")
    if (view := parse_view(position)) is not View.UNKNOWN or is_other_projection(position):
        return view
    codes = items(dataset, "ViewCodeSequence")
    for item in codes:
        if (value := text_value(item, "CodeValue")) in _VIEW_CODES:
            return _VIEW_CODES[value]
    texts = [text_value(item, "CodeMeaning") for item in codes]
    texts += [text for keyword in VIEW_KEYWORDS for text in text_values(dataset, keyword)]
    for text in texts:
        if (view := parse_view(text)) is not View.UNKNOWN:
            return view
    letters = {value.upper()[:1] for value in text_values(dataset, "PatientOrientation")}
    if len(letters) == 2 and letters & set("AP") and letters & set("HF"):
        return View.LATERAL
    return View.UNKNOWN


def list_dicomdir_images(path: Path) -> tuple[list[Path], list[str]]:
    """Image files of a DICOMDIR (PS3.3 Annex F) in its order, within its folder; and its problems.

    One that lists no image raises `ImageReadError`.
    """
    folder, name = path.parent.resolve(), "DirectoryRecordSequence"
    images: dict[Path, None] = {}
    problems: list[str] = []
    try:
        with path.open("rb") as file:
            records = items(parse_header(file, [name]), name, max_reads=10 * MAX_HEADER_READS)
    except OSError as error:
        raise ImageReadError(ReadFailure.FILE, f"the DICOMDIR cannot be opened: {error}") from None
    for number, record in enumerate(records, 1):
        if text_value(record, "DirectoryRecordType") != "IMAGE":
            continue
        if (image := _referenced_file(folder, record)) is None:
            problems.append(f"record {number} of the DICOMDIR names no file within its folder")
        else:
            images[image] = None
    if not images:
        raise ImageReadError(
            ReadFailure.NO_PIXELS, "the DICOMDIR lists no image. Choose the folder instead."
        )
    return list(images), problems


def _referenced_file(folder: Path, record: Dataset) -> Path | None:
    """ReferencedFileID (0004,1500) if within the folder; its case may differ on disk."""
    parts = text_values(record, "ReferencedFileID")
    if not parts or any(part in (".", "..") or "/" in part or "\0" in part for part in parts):
        return None
    path = folder.joinpath(*parts)
    if not path.exists():
        lower = folder.joinpath(*(part.lower() for part in parts))
        path = lower if lower.exists() else path
    return path if path.resolve().is_relative_to(folder) else None


_SR_KEYWORDS = ("CompletionFlag", "PreliminaryFlag", "ContentSequence", "SpecificCharacterSet")
_SECTION_OF_CODE = {
    **dict.fromkeys(("59776-5", "121070", "121071"), "FINDINGS"),
    **dict.fromkeys(("19005-8", "121072", "121073", "121076", "121077", "55110-1"), "IMPRESSION"),
}
_COMMENT_CODE = "121106"


def read_report_text(source: Path | bytes) -> tuple[str, bool]:
    """Findings and impression of a structured report, and whether it is complete and final.

    Without evidence of sentences, comments, observers and header (PS3.3 C.17.3, PS3.16 TID 2000).
    An unsigned draft is PARTIAL. The text is empty if the file cannot be parsed.
    """
    try:
        data = source if isinstance(source, bytes) else source.read_bytes()
        report = parse_header(io.BytesIO(data), _SR_KEYWORDS)
    except (OSError, ImageReadError):
        return "", False
    final = code(report, "CompletionFlag") != "PARTIAL"
    final = final and code(report, "PreliminaryFlag") != "PRELIMINARY"
    return "\n".join(_section_lines(report, "")).strip(), final


def _section_lines(item: Dataset, heading: str) -> Iterator[str]:
    """Texts of an item's contents, each section after its heading."""
    for content in items(item, "ContentSequence"):
        if code(content, "RelationshipType") != "CONTAINS":
            continue
        concept = next(iter(items(content, "ConceptNameCodeSequence")), Dataset())
        value = text_value(concept, "CodeValue")
        if value == _COMMENT_CODE:
            continue
        section = _SECTION_OF_CODE.get(value, "")
        kind = code(content, "ValueType")
        if section and section != heading and kind in ("TEXT", "CONTAINER"):
            yield f"\n{section}:"
        if kind == "TEXT":
            yield from text_values(content, "TextValue")
        elif kind == "CONTAINER":
            yield from _section_lines(content, section or heading)
