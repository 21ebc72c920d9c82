"""The patient's own earlier study: its report, its images, or both; and that it is the patient's.

A prior is read by content: DICOM images and structured reports, PNG and JPEG, and a report as text.
Whose it is, is told by headers alone: where both have one and they differ, nothing is done; where
one has none, the reader is told that nobody has looked. Knows no model and no draft.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from encoders.base import View
from encoders.images.image_info import ImageFormat, ImageInfo, image_format, same_patient
from encoders.images.image_io import read_image_info
from rag.errors import CxrRagError, UsageError
from rag.grounding.prompt_injection import remove_injections
from rag.privacy.reports import find_identifiers, mask

UNCHECKED = "nobody has checked that the prior is this patient's: {} has no header with an identity"
NOT_COMPLETE = "a structured report of the prior was not used: it is damaged, empty or a draft"
_LONGEST_REPORT = 50_000  # letters


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
    """An earlier study of the patient, as it was given.

    Attributes:
        report: what its report says; empty where there is none, or it is among the files.
        date: when it was made, ISO 8601 ("2026-03-01"), where no header tells.
        files: DICOM images and reports, PNG, JPEG, text (UTF-8): files, their contents, folders.
    """

    report: str = ""
    date: str = ""
    files: tuple[Path | bytes, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is one."""
        return bool(self.report or self.files)


NO_PRIOR = Prior()
"""Of a study without an earlier one."""


@dataclass(frozen=True, slots=True)
class CheckedPrior:
    """What a prior contributes, once it is known to be the patient's.

    Attributes:
        report: its text for rules and models: without names, and without what speaks to a model.
        images: its images, a frontal one first, as files or as their bytes.
        made_on: when it was made, as given or by its latest header; None where nothing tells.
        days_before: days between it and the image; None where a date is missing.
        patients, studies: its ids: their reports are never evidence.
        notes: what the reader of the draft should know.
    """

    report: str = ""
    images: tuple[Path | bytes, ...] = ()
    made_on: date | None = None
    days_before: int | None = None
    patients: frozenset[str] = frozenset()
    studies: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


_Images = list[tuple[ImageInfo, Path | bytes]]
_Reports = list[tuple[str, ImageInfo | None]]  # the header of a report that came as DICOM


def check_prior(prior: Prior, current: ImageInfo) -> CheckedPrior:
    """Read a prior, see that it is this patient's and earlier, and make its report safe to be read.

    Of studies of several dates, the newest that is earlier than the image.

    Raises:
        PriorMismatchError: by PatientID, or by name and date of birth, it is another patient's; or
            it is not earlier than the image.
        UsageError: nothing in it can be used, there are two reports as text, or its date is none.
        ImageReadError: the header of a file cannot be read.
    """
    images, reports, notes = _read(prior)
    images, report, header = _newest_study(images, reports, current)
    headers = [info for info, _ in images]
    known = [_is_same_patients(current, info) for info in headers]
    unchecked = []
    if report and not (header and _is_same_patients(current, header)):
        unchecked.append("its report")
    if not all(known):
        unchecked.append("its image")
    headers += [header] if header else []
    when = _date_of(prior, headers)
    today = _day(current.study_time)
    if (when and today and when > today) or any(_earlier(current, info) for info in headers):
        raise PriorMismatchError(
            "the prior is not earlier than the image by the dates and times in their headers: give "
            "the earlier study as the prior"
        )
    if any(info.study_uid and info.study_uid == current.study_uid for info in headers):
        raise PriorMismatchError("the prior is of the same study as the image: give an earlier one")
    notes += [UNCHECKED.format(what) for what in unchecked]
    report, removed = remove_injections(report)
    if removed:
        notes.append("text addressed to a language model was removed from the prior report")
    names = current.identifiers.union(*(info.identifiers for info in headers))
    report = mask(report, find_identifiers(report, known=names))
    return CheckedPrior(
        report=report,
        images=tuple(source for _, source in images),
        made_on=when,
        days_before=(today - when).days if when and today else None,
        patients=frozenset(info.identity.patient_id for info in headers) - {""},
        studies=frozenset(one for info in headers for one in info.identity.study_ids),
        notes=tuple(notes),
    )


def _read(prior: Prior) -> tuple[_Images, _Reports, list[str]]:
    """All images, frontal ones first, all reports, and what the reader should know."""
    images: _Images = []
    reports: _Reports = [(prior.report, None)] if prior.report else []
    notes = []
    for source in expand_folders(prior.files):
        if image_format(_begin(source)) is ImageFormat.OTHER:
            reports.append((_text(source), None))
            continue
        info = read_image_info(source)
        if info.modality == "SR":
            from encoders.dicom.info import read_report_text  # noqa: PLC0415 - pydicom

            text, is_final = read_report_text(source)
            reports += [(text, info)] if is_final and text else []
            notes += [] if is_final and text else [NOT_COMPLETE]
        elif info.pixels or info.format is not ImageFormat.DICOM:
            images.append((info, source))
    images.sort(key=lambda image: image[0].view is View.LATERAL)
    return images, reports, notes


def _newest_study(
    images: _Images, reports: _Reports, current: ImageInfo
) -> tuple[_Images, str, ImageInfo | None]:
    """Images, report and its header of the newest study before an image; the last of DICOM reports.

    Raises:
        UsageError: there is nothing, or two reports as text.
    """
    headers = [*(info for info, _ in images), *(info for _, info in reports if info)]
    newest = _newest(headers, current)
    images = [image for image in images if _belongs(image[0], newest)]
    reports = [report for report in reports if _belongs(report[1], newest)]
    if len(reports) > 1 and not all(info for _, info in reports):
        raise UsageError(f"the prior has {len(reports)} reports: give the one that counts")
    if not images and not reports:
        raise UsageError(
            "the prior contains no image and no report that is earlier than the "
            "image: give a text, a DICOM SR, an image, or a folder with them"
        )
    reports.sort(key=lambda one: one[1].acquired_at if one[1] else "")
    return images, *(reports[-1] if reports else ("", None))


def _date_of(prior: Prior, headers: Iterable[ImageInfo]) -> date | None:
    if prior.date:
        try:
            return date.fromisoformat(prior.date)
        except ValueError as error:
            raise UsageError(
                f"the prior's date {prior.date[:20]!r} is not a date: write it as 2026-03-01"
            ) from error
    return max(filter(None, (_day(info.study_time) for info in headers)), default=None)


def newest_before(current: ImageInfo, earlier: Iterable[ImageInfo]) -> str:
    """The StudyInstanceUID of the newest study of a patient before an image's; empty if none.

    Only headers with the same PatientID, not contradicted by name or birth date, count, and only
    where both dates are known.
    """
    patient = current.identity.patient_id
    found = [
        info
        for info in earlier
        if patient and info.identity.patient_id == patient and same_patient(info, current)
        if info.study_uid and info.study_uid != current.study_uid
        if info.study_time and _earlier(info, current)
    ]
    return max(found, key=lambda info: info.study_time).study_uid if found else ""


def _is_same_patients(current: ImageInfo, other: ImageInfo) -> bool:
    """Whether a header of the prior names the patient; False where it does not tell.

    Raises:
        PriorMismatchError: it names another.
    """
    same = same_patient(current, other)
    if same is False:
        raise PriorMismatchError(
            "by its header the prior is another patient's, so it was not used; there is no draft",
            (_who(current), _who(other)),
        )
    return bool(same)


def _who(info: ImageInfo) -> str:
    """Id, name and date of birth, as far as a header has them."""
    name, _, born = info.person.partition("|")
    return ", ".join(filter(None, [info.identity.patient_id, name.replace("^", " "), born]))


def _day(digits: str) -> date | None:
    try:
        return datetime.strptime(digits[:8], "%Y%m%d").date()
    except ValueError:
        return None


def _newest(infos: Sequence[ImageInfo], current: ImageInfo) -> ImageInfo | None:
    """The newest header that is not later than the image; None where no header has a date."""
    dated = [info for info in infos if info.study_time]
    before = [info for info in dated if not current.study_time or _earlier(info, current)]
    return max(before or dated, key=lambda info: info.study_time, default=None)


def _earlier(one: ImageInfo, other: ImageInfo) -> bool:
    """By the times of both, or by their days where one has no time."""
    length = min(len(one.study_time), len(other.study_time))
    return one.study_time[:length] < other.study_time[:length]


def _belongs(info: ImageInfo | None, newest: ImageInfo | None) -> bool:
    """Whether a file is of the newest study, as far as anything tells."""
    if info is None or newest is None or not info.study_time:
        return True
    if info.study_uid and newest.study_uid:
        return info.study_uid == newest.study_uid
    return info.study_time[:8] == newest.study_time[:8]


def expand_folders(sources: Sequence[Path | bytes]) -> Iterable[Path | bytes]:
    """Files, and those in folders; hidden ones are passed over."""
    for source in sources:
        if isinstance(source, Path) and source.is_dir():
            inside = sorted(path for path in source.rglob("*") if path.is_file())
            yield from (path for path in inside if not path.name.startswith("."))
        else:
            yield source


def _begin(source: Path | bytes) -> bytes:
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
    if not text or "\0" in text or len(text) > _LONGEST_REPORT:
        raise UsageError(f"the prior report is empty, or no text of {_LONGEST_REPORT} letters")
    return text
