"""The patient's own earlier study: its report, its images, or both; and that it is the patient's.

A prior is read by content: DICOM images and structured reports, PNG and JPEG, and a report as text.
Whose it is, is told by headers alone: where both have one and they differ, nothing is done; where
one has none, the reader is told that nobody has looked. Knows no model and no draft.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

from encoders.base import View
from encoders.images.image_info import ImageFormat, ImageInfo, image_format, same_patient
from encoders.images.image_io import read_image_info
from rag.errors import CxrRagError, UsageError
from rag.grounding.prompt_injection import neutralise
from rag.privacy.reports import find_identifiers, mask

UNCHECKED = "nobody has checked that the prior is this patient's: {} has no header with an identity"
NOT_COMPLETE = "a structured report of the prior was not used: it is damaged, empty or a draft"
_LONGEST_REPORT = 50_000  # letters


class PriorMismatchError(CxrRagError):
    """What was given as a prior is another patient's, or is not earlier.

    The message holds no identifier.

    Attributes:
        both: what the header of the image says and what that of the prior says, for the eyes of
            the reader who gave them, on the page alone; never for a log, a record or an export.
    """

    def __init__(self, reason: str, both: tuple[str, str] = ("", "")) -> None:
        super().__init__(reason)
        self.both = both


@dataclass(frozen=True, slots=True)
class Prior:
    """An earlier study of the patient.

    Attributes:
        report: what its report says; empty where there is none.
        images: its images, the frontal one first, as files or as their bytes.
        date: when it was made, ISO 8601 ("2026-03-01"); empty where nothing tells.
        files: what is still to be read for these (`read_prior`): files, folders, contents of files.
        report_header: of a report that came as DICOM. Never log it.
        notes: what the reader of a draft should know of it.
    """

    report: str = ""
    images: tuple[Path | bytes, ...] = ()
    date: str = ""
    files: tuple[Path | bytes, ...] = ()
    report_header: ImageInfo | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is one."""
        return bool(self.report or self.images or self.files)


NO_PRIOR = Prior()
"""Of a study without an earlier one."""


@dataclass(frozen=True, slots=True)
class CheckedPrior:
    """What a prior contributes, once it is known to be the patient's.

    Attributes:
        report: its text for rules and models: without names, and without what speaks to a model.
        images: as given.
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


def check_prior(prior: Prior, current: ImageInfo) -> CheckedPrior:
    """See that a prior is this patient's and earlier, and make its report safe to be read.

    Args:
        prior: as it was read.
        current: what the header of the image to be drafted from says.

    Raises:
        PriorMismatchError: by PatientID, or by name and date of birth, it is another patient's; or
            it is not earlier than the image.
        ImageReadError: the header of one of its images cannot be read.
    """
    infos = [read_image_info(image) for image in prior.images]
    headers = [*infos, *([prior.report_header] if prior.report_header else [])]
    unchecked = {"its report": bool(prior.report and not prior.report_header)}
    for info in headers:
        what = "its report" if info is prior.report_header else "its image"
        unchecked[what] = unchecked.get(what, False) or not _is_same_patients(current, info)
    when = _date_of(prior, headers)
    today = _day(current.studied_at)
    if when and today and when > today:
        raise PriorMismatchError(
            "the prior is not earlier than the image by the dates in their headers: give the "
            "earlier study as the prior"
        )
    if any(info.study_uid and info.study_uid == current.study_uid for info in headers):
        raise PriorMismatchError("the prior is of the same study as the image: give an earlier one")
    notes = [UNCHECKED.format(what) for what, unknown in unchecked.items() if unknown]
    report, removed = neutralise(prior.report)
    if removed:
        notes.append("text addressed to a language model was removed from the prior report")
    names = current.names.union(*(info.names for info in headers))
    report = mask(report, find_identifiers(report, known=names))
    return CheckedPrior(
        report=report,
        images=prior.images,
        made_on=when,
        days_before=(today - when).days if when and today else None,
        patients=frozenset(info.identity.patient_id for info in headers) - {""},
        studies=frozenset(one for info in headers for one in info.identity.study_ids),
        notes=(*prior.notes, *notes),
    )


def _date_of(prior: Prior, headers: Iterable[ImageInfo]) -> date | None:
    if prior.date:
        try:
            return date.fromisoformat(prior.date)
        except ValueError as error:
            raise UsageError(
                f"the prior's date {prior.date[:20]!r} is not a date: write it as 2026-03-01"
            ) from error
    return max(filter(None, (_day(info.studied_at) for info in headers)), default=None)


def read_prior(
    sources: Sequence[Path | bytes], *, current: ImageInfo, day: str = "", report: str = ""
) -> Prior:
    """A prior from files, folders and contents of files.

    Of studies of several dates, the newest that is earlier than the image. Whether it is this
    patient's is not looked at here: `check_prior` does, whoever gives it.

    Args:
        sources: DICOM images and reports, PNG, JPEG, text (UTF-8), and folders of these.
        current: what the header of the image to be drafted from says.
        day: when it was made, ISO 8601, where no header tells.
        report: text of its report, where it does not come as a file.

    Raises:
        UsageError: nothing there can be used, or there are two reports as text.
        ImageReadError: a header cannot be read.
    """
    images: list[tuple[ImageInfo, Path | bytes]] = []
    reports: list[tuple[str, ImageInfo | None]] = [(report, None)] if report else []
    notes = []
    for source in files_in(sources):
        data = _begin(source)
        if image_format(data) is ImageFormat.OTHER:
            reports.append((_text(source), None))
            continue
        info = read_image_info(source)
        if info.modality == "SR":
            from encoders.dicom.info import report_text  # noqa: PLC0415 - pydicom

            text, is_final = report_text(source)
            reports += [(text, info)] if is_final and text else []
            notes += [] if is_final and text else [NOT_COMPLETE]
        elif info.pixels or info.format is not ImageFormat.DICOM:
            images.append((info, source))
    images.sort(key=lambda image: image[0].view is View.LATERAL)
    newest = _newest([*(info for info, _ in images), *(i for _, i in reports if i)], current)
    kept = [source for info, source in images if _belongs(info, newest)]
    said = [(text, info) for text, info in reports if info is None or _belongs(info, newest)]
    if len(said) > 1 and not all(info for _, info in said):
        raise UsageError(f"the prior has {len(said)} reports: give the one that counts")
    said.sort(key=lambda one: one[1].taken_at if one[1] else "")
    if not kept and not said:
        raise UsageError(
            "the prior contains no image and no report that is earlier than the "
            "image: give a text, a DICOM SR, an image, or a folder with them"
        )
    text, header = said[-1] if said else ("", None)
    return Prior(text, tuple(kept), day, report_header=header, notes=tuple(notes))


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
        if info.studied_at and _earlier(info, current)
    ]
    return max(found, key=lambda info: info.studied_at).study_uid if found else ""


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
    dated = [info for info in infos if info.studied_at]
    before = [info for info in dated if not current.studied_at or _earlier(info, current)]
    return max(before or dated, key=lambda info: info.studied_at, default=None)


def _earlier(one: ImageInfo, other: ImageInfo) -> bool:
    """By the times of both, or by their days where one has no time."""
    length = min(len(one.studied_at), len(other.studied_at))
    return one.studied_at[:length] < other.studied_at[:length]


def _belongs(info: ImageInfo, newest: ImageInfo | None) -> bool:
    """Whether a file is of the newest study, as far as anything tells."""
    if newest is None or not info.studied_at:
        return True
    if info.study_uid and newest.study_uid:
        return info.study_uid == newest.study_uid
    return info.studied_at[:8] == newest.studied_at[:8]


def files_in(sources: Sequence[Path | bytes]) -> Iterable[Path | bytes]:
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
