"""Reads the patient's prior: the report or images of an earlier study, and checks whose it is.

File types are recognised by content: DICOM images and structured reports, PNG, JPEG and text. The
headers decide whose it is: a prior of another patient is refused; where a header has no identity,
a note says that nobody has checked.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from encoders.base import View
from encoders.image_io import read_image_info
from encoders.images.image_info import ImageFormat, ImageInfo, image_format, same_patient
from rag.errors import CxrRagError, UsageError
from rag.grounding.prompt_injection import remove_injections
from rag.privacy.reports import find_identifiers, mask

_UNVERIFIED = (
    "nobody has checked that the prior is this patient's: {} has no header with an identity"
)
_UNUSABLE_SR = "a structured report of the prior was not used: it is damaged, empty or a draft"
_MAX_REPORT_CHARS = 50_000


class PriorMismatchError(CxrRagError):
    """The prior belongs to another patient, or is not earlier. The message has no identifier.

    Attributes:
        identities: of the image and of the prior, by their headers. Only for the reader who gave
            them, on the page; never for a log, a record or an export.
    """

    def __init__(self, reason: str, identities: tuple[str, str] = ("", "")) -> None:
        super().__init__(reason)
        self.identities = identities


@dataclass(frozen=True, slots=True)
class Prior:
    """An earlier study of the patient, as given.

    Attributes:
        report: text of its report; empty if there is none or it is among the files.
        date: ISO 8601 ("2026-03-01"), for studies without a DICOM header.
        files: DICOM images and reports, PNG, JPEG, text (UTF-8): paths, contents, folders.
    """

    report: str = ""
    date: str = ""
    files: tuple[Path | bytes, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything was given."""
        return bool(self.report or self.files)


NO_PRIOR = Prior()


@dataclass(frozen=True, slots=True)
class CheckedPrior:
    """A prior that is not known to be another patient's.

    Attributes:
        report: its text, without names and prompt injections.
        images: its images as paths or bytes, frontal ones first.
        study_date: as given, or of its latest header; None if unknown.
        days_before: days from the prior to the current study; None if a date is missing.
        patients, studies: its ids, whose reports are never evidence.
        notes: warnings for the reader of the draft.
    """

    report: str = ""
    images: tuple[Path | bytes, ...] = ()
    study_date: date | None = None
    days_before: int | None = None
    patients: frozenset[str] = frozenset()
    studies: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


_Images = list[tuple[ImageInfo, Path | bytes]]
_Reports = list[tuple[str, ImageInfo | None]]  # with the header, if it is a DICOM report


def check_prior(prior: Prior, current: ImageInfo) -> CheckedPrior:
    """Read a prior, check that it is this patient's and earlier, and clean its report.

    Of several studies, the newest one earlier than the current study is used.

    Raises:
        PriorMismatchError: by PatientID, or by name and date of birth, it is another patient's; or
            it is not earlier than the current study.
        UsageError: nothing in it can be used, there are two text reports, or its date is invalid.
        ImageReadError: the header of a file cannot be read.
    """
    images, reports, notes = _read(prior)
    images, report, report_header = _newest_study(images, reports, current)
    headers = [info for info, _ in images]
    images_verified = [_has_same_patient(current, info) for info in headers]
    unverified = []
    if report and not (report_header and _has_same_patient(current, report_header)):
        unverified.append("its report")
    if not all(images_verified):
        unverified.append("its image")
    headers += [report_header] if report_header else []
    prior_date = _date_of(prior, headers)
    current_date = _parse_date(current.study_time)
    if (prior_date and current_date and prior_date > current_date) or any(
        _is_earlier(current, info) for info in headers
    ):
        raise PriorMismatchError(
            "the prior is not earlier than the image by the dates and times in their headers: give "
            "the earlier study as the prior"
        )
    if any(info.study_uid and info.study_uid == current.study_uid for info in headers):
        raise PriorMismatchError("the prior is of the same study as the image: give an earlier one")
    notes += [_UNVERIFIED.format(part) for part in unverified]
    report, removed = remove_injections(report)
    if removed:
        notes.append("text addressed to a language model was removed from the prior report")
    names = current.identifiers.union(*(info.identifiers for info in headers))
    report = mask(report, find_identifiers(report, known=names))
    return CheckedPrior(
        report=report,
        images=tuple(source for _, source in images),
        study_date=prior_date,
        days_before=(current_date - prior_date).days if prior_date and current_date else None,
        patients=frozenset(info.patient_id for info in headers) - {""},
        studies=frozenset().union(*(info.study_ids for info in headers)),
        notes=tuple(notes),
    )


def _read(prior: Prior) -> tuple[_Images, _Reports, list[str]]:
    """All images, frontal ones first, all reports, and notes."""
    images: _Images = []
    reports: _Reports = [(prior.report, None)] if prior.report else []
    notes = []
    for source in expand_folders(prior.files):
        if image_format(_first_bytes(source)) is ImageFormat.OTHER:
            reports.append((_text(source), None))
            continue
        info = read_image_info(source)
        if info.modality == "SR":
            from encoders.dicom.info import read_report_text  # noqa: PLC0415 - pydicom

            text, is_final = read_report_text(source)
            reports += [(text, info)] if is_final and text else []
            notes += [] if is_final and text else [_UNUSABLE_SR]
        elif info.pixel_count or info.format is not ImageFormat.DICOM:
            images.append((info, source))
    images.sort(key=lambda image: image[0].view is View.LATERAL)
    return images, reports, notes


def _newest_study(
    images: _Images, reports: _Reports, current: ImageInfo
) -> tuple[_Images, str, ImageInfo | None]:
    """Images, report and the report's header of the newest study before the current one.

    Raises:
        UsageError: there is nothing, or there are two text reports.
    """
    headers = [*(info for info, _ in images), *(info for _, info in reports if info)]
    newest = _newest(headers, current)
    images = [image for image in images if _is_of_study(image[0], newest)]
    reports = [report for report in reports if _is_of_study(report[1], newest)]
    if len(reports) > 1 and not all(info for _, info in reports):
        raise UsageError(f"the prior has {len(reports)} reports: give only the final one")
    if not images and not reports:
        raise UsageError(
            "the prior contains no image and no report that is earlier than the "
            "image: give a text, a DICOM SR, an image, or a folder with them"
        )
    reports.sort(key=lambda report: report[1].acquired_at if report[1] else "")
    return images, *(reports[-1] if reports else ("", None))


def _date_of(prior: Prior, headers: Iterable[ImageInfo]) -> date | None:
    if prior.date:
        try:
            return date.fromisoformat(prior.date)
        except ValueError as error:
            raise UsageError(
                f"the prior's date {prior.date[:20]!r} is not a date: write it as 2026-03-01"
            ) from error
    return max(filter(None, (_parse_date(info.study_time) for info in headers)), default=None)


def newest_before(current: ImageInfo, earlier: Iterable[ImageInfo]) -> str:
    """The StudyInstanceUID of the patient's newest study before the current one; empty if none.

    Studies need a date, the same PatientID, and no other name or birth date.
    """
    patient = current.patient_id
    candidates = [
        info
        for info in earlier
        if patient and info.patient_id == patient and same_patient(info, current)
        if info.study_uid and info.study_uid != current.study_uid
        if info.study_time and _is_earlier(info, current)
    ]
    return max(candidates, key=lambda info: info.study_time).study_uid if candidates else ""


def _has_same_patient(current: ImageInfo, other: ImageInfo) -> bool:
    """Whether a header of the prior names the patient; False if it has no identity.

    Raises:
        PriorMismatchError: it names another patient.
    """
    same = same_patient(current, other)
    if same is False:
        raise PriorMismatchError(
            "the header of the prior names another patient: give an earlier study of this patient",
            (_describe_patient(current), _describe_patient(other)),
        )
    return bool(same)


def _describe_patient(info: ImageInfo) -> str:
    """Id, name and date of birth, those that the header has."""
    name = info.patient_name.replace("^", " ")
    return ", ".join(filter(None, [info.patient_id, name, info.birth_date]))


def _parse_date(digits: str) -> date | None:
    try:
        return datetime.strptime(digits[:8], "%Y%m%d").date()
    except ValueError:
        return None


def _newest(infos: Sequence[ImageInfo], current: ImageInfo) -> ImageInfo | None:
    """The newest header before the current study, else the newest; None if none has a date."""
    dated = [info for info in infos if info.study_time]
    earlier = [info for info in dated if not current.study_time or _is_earlier(info, current)]
    return max(earlier or dated, key=lambda info: info.study_time, default=None)


def _is_earlier(one: ImageInfo, other: ImageInfo) -> bool:
    """By date and time, or by date alone where one has no time."""
    length = min(len(one.study_time), len(other.study_time))
    return one.study_time[:length] < other.study_time[:length]


def _is_of_study(info: ImageInfo | None, study: ImageInfo | None) -> bool:
    """Whether a file is of this study, by UID or else by date; True if unknown."""
    if info is None or study is None or not info.study_time:
        return True
    if info.study_uid and study.study_uid:
        return info.study_uid == study.study_uid
    return info.study_time[:8] == study.study_time[:8]


def expand_folders(sources: Sequence[Path | bytes]) -> Iterable[Path | bytes]:
    """The sources, with each folder replaced by its files; hidden files are skipped."""
    for source in sources:
        if isinstance(source, Path) and source.is_dir():
            inside = sorted(path for path in source.rglob("*") if path.is_file())
            yield from (path for path in inside if not path.name.startswith("."))
        else:
            yield source


def _first_bytes(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[:200]
    try:
        with source.open("rb") as file:
            return file.read(200)
    except OSError as error:
        raise UsageError(f"a file of the prior cannot be opened: {error.strerror}") from error


def _text(source: Path | bytes) -> str:
    data = source if isinstance(source, bytes) else source.read_bytes()
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise UsageError(
            "the prior is neither an image nor a report: a report is text in UTF-8 or a DICOM SR"
        ) from error
    if not text or "\0" in text or len(text) > _MAX_REPORT_CHARS:
        raise UsageError(
            f"the prior report is empty, binary, or longer than {_MAX_REPORT_CHARS} characters"
        )
    return text
