"""DIMSE, our side of it: find studies (C-FIND), fetch images (C-GET or C-MOVE); PS3.4 Annex C.

The protocol is pynetdicom's; owned here is what is asked for: a study and the earlier chest X-rays
of the very same patient, series by series, and no other patient's whatever an archive answers.
"""

import logging
import re
import socket
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoders.images.raw_image import MAX_BYTES
from rag.pacs import PacsError
from rag.pacs.association import (
    MESSAGE_OVERHEAD_BYTES,
    Archive,
    limit_bytes,
    open_association,
    query_model_uid,
)
from rag.pacs.inbox import check_uid, open_inbox
from rag.pacs.receiver import run_receiver, store_image
from rag.study import pseudonym

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pynetdicom.events import Event

    from rag.settings import DicomSettings

logger = logging.getLogger(__name__)

_MOST_ANSWERS = 1000
_PENDING, _DONE, _WITH_FAILURES = (0xFF00, 0xFF01), 0x0000, 0xB000
_CHEST = {"CR", "DX", "RG"}
"""Modalities of a prior."""
_NOT_IMAGES = {"SR", "PR", "DOC", "AU"}
"""Modalities of series that stay where they are."""


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """A study that an archive has. Names a patient: for who asked alone.

    Attributes:
        uid, patient_id, issuer: StudyInstanceUID, PatientID and who gave it, empty if unknown.
        taken_at: StudyDate and StudyTime, digits.
        modalities: of its series, empty if the archive does not say.
        description: StudyDescription.
    """

    uid: str
    patient_id: str = ""
    issuer: str = ""
    taken_at: str = ""
    modalities: tuple[str, ...] = ()
    description: str = ""


def find_studies(
    archive: Archive,
    settings: "DicomSettings",
    *,
    study_uid: str = "",
    patient_id: str = "",
    accession: str = "",
    date: str = "",
) -> list[FoundStudy]:
    """Studies by any of these, as the archive lists them.

    Args:
        archive: whom to ask.
        settings: our AE title, TLS.
        study_uid: StudyInstanceUID.
        patient_id: PatientID, whole.
        accession: AccessionNumber, whole.
        date: StudyDate, or a range as ``20260101-20260131``.

    Raises:
        PacsError: nothing is asked for, or the archive does not answer.
    """
    wanted = {
        "StudyInstanceUID": study_uid and check_uid(study_uid),
        "PatientID": patient_id,
        "AccessionNumber": accession,
        "StudyDate": date,
    }
    if not any(wanted.values()) or re.search(r"[*?\\]", "".join(wanted.values())):
        raise PacsError("name a study, a patient, an accession number or a date, without wildcards")
    more = ("IssuerOfPatientID", "StudyTime", "ModalitiesInStudy", "StudyDescription")
    with open_association(archive, settings) as link:
        answers = _find(link, _query("STUDY", **dict.fromkeys(more, ""), **wanted))
    return [
        FoundStudy(
            uid=str(each.StudyInstanceUID),
            patient_id=_text(each, "PatientID"),
            issuer=_text(each, "IssuerOfPatientID"),
            taken_at=_text(each, "StudyDate") + _text(each, "StudyTime"),
            modalities=tuple(filter(None, _text(each, "ModalitiesInStudy").split("\\"))),
            description=_text(each, "StudyDescription"),
        )
        for each in answers
        if not patient_id or _text(each, "PatientID") == patient_id
    ]


def find_priors(
    archive: Archive, settings: "DicomSettings", study: FoundStudy, *, limit: int
) -> list[FoundStudy]:
    """Earlier chest X-rays of the same patient, by PatientID and its issuer, newest first.

    Raises:
        PacsError: the archive does not answer, or the study has no PatientID or date.
    """
    if not study.patient_id or not study.taken_at:
        raise PacsError("the study has no PatientID or no StudyDate: its priors cannot be known")
    earlier = [
        each
        for each in find_studies(archive, settings, patient_id=study.patient_id)
        if each.issuer == study.issuer
        and _is_earlier(each.taken_at, study.taken_at)
        and (not each.modalities or _CHEST & set(each.modalities))
    ]
    return sorted(earlier, key=lambda each: each.taken_at, reverse=True)[:limit]


def _is_earlier(taken_at: str, than: str) -> bool:
    """By date, and by time where both have one: a date alone is not before a time of that day."""
    (day, time), (its_day, its_time) = ((at[:8], at[8:]) for at in (taken_at, than))
    return "" < day < its_day or (day == its_day and "" < time < its_time)


def fetch_images(
    archive: Archive,
    settings: "DicomSettings",
    study_uids: Sequence[str],
    folder: Path,
    *,
    move_to: tuple[str, int] | None = None,
) -> tuple[list[Path], list[str]]:
    """Fetch the images of studies, as they are stored.

    Args:
        archive: whom to ask.
        settings: our AE title, TLS.
        study_uids: StudyInstanceUIDs.
        folder: where the images are put (`rag.pacs.inbox`).
        move_to: address and port at which the archive, which must know them, reaches us: C-MOVE.
            None: C-GET, which needs no way back.

    Returns:
        The images that came now, and a sentence for each series that did not come whole.

    Raises:
        PacsError: the archive does not answer.
        OutputError: the disk refuses.
    """
    problems = []
    folders = [folder / pseudonym(uid) for uid in study_uids]
    before = _written(folders)
    with ExitStack() as running:
        if move_to is None:
            open_inbox(folder)
        else:
            host, port = move_to
            senders = _senders(archive)
            running.enter_context(
                run_receiver(folder, settings, senders=senders, host=host, port=port)
            )
        fetch = partial(_get, folder=folder) if move_to is None else _move
        for uid in study_uids:
            with open_association(archive, settings) as link:
                series = _find(
                    link,
                    _query(
                        "SERIES", StudyInstanceUID=check_uid(uid), SeriesInstanceUID="", Modality=""
                    ),
                )
            images = [each for each in series if _text(each, "Modality") not in _NOT_IMAGES]
            for number, each in enumerate(images, 1):
                query = _query(
                    "SERIES", StudyInstanceUID=uid, SeriesInstanceUID=str(each.SeriesInstanceUID)
                )
                if problem := fetch(archive, settings, query):
                    problems.append(f"series {number} of {len(images)}: {problem}")
    return sorted(path for path, _ in _written(folders) - before), problems


def _written(folders: Sequence[Path]) -> set[tuple[Path, int]]:
    """Images in folders, and when each was written."""
    images = [path for folder in folders for path in folder.glob("*.dcm")]
    return {(path, path.stat().st_mtime_ns) for path in images}


def _get(archive: Archive, settings: "DicomSettings", query: "Dataset", *, folder: Path) -> str:
    """Fetch a series by C-GET; what went wrong."""

    def stored(event: "Event") -> int:
        status = store_image(folder, event, study_uid=str(query.StudyInstanceUID))[1]
        limit_bytes(event, MAX_BYTES + MESSAGE_OVERHEAD_BYTES)
        return status

    with open_association(archive, settings, stored) as link:
        return _problem(link.send_c_get(query, query_model_uid("Get")))


def _move(archive: Archive, settings: "DicomSettings", query: "Dataset") -> str:
    """Have a series sent to us; what went wrong."""
    with open_association(archive, settings) as link:
        return _problem(link.send_c_move(query, settings.ae_title, query_model_uid("Move")))


def _query(level: str, **keys: str) -> "Dataset":
    from pydicom.dataset import Dataset  # noqa: PLC0415 - heavy

    query = Dataset()
    query.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    return query


def _find(link: Any, query: "Dataset") -> "list[Dataset]":
    found: list[Dataset] = []
    for status, answer in link.send_c_find(query, query_model_uid("Find")):
        if status.get("Status") in _PENDING and answer is not None:
            found.append(answer)
        elif status.get("Status") != _DONE:
            raise PacsError(f"the archive did not answer the query: {_reason(status)}")
        if len(found) > _MOST_ANSWERS:
            raise PacsError(f"the archive has more than {_MOST_ANSWERS} answers: ask for less")
    return found


def _problem(responses: "Iterable[tuple[Dataset, Dataset | None]]") -> str:
    """What went wrong with a retrieval; empty if it all came."""
    *_, (status, _) = responses
    if status.get("Status") == _DONE:
        return ""
    failed = status.get("NumberOfFailedSuboperations")
    if status.get("Status") == _WITH_FAILURES and failed:
        return f"{failed} objects did not come"
    return f"the archive did not send it: {_reason(status)}"


def _reason(status: "Dataset") -> str:
    from pynetdicom.status import QR_MOVE_SERVICE_CLASS_STATUS  # noqa: PLC0415 - heavy

    code = status.get("Status")
    if code is None:
        return "it hung up"
    _, words = QR_MOVE_SERVICE_CLASS_STATUS.get(code, ("", ""))
    return f"status 0x{code:04X} {words}".rstrip()


def _senders(archive: Archive) -> list[str]:
    """An archive as who may send: its title from its addresses."""
    try:
        found = socket.getaddrinfo(archive.host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise PacsError(f"there is no host {archive.host}") from error
    addresses = {str(address[0]).partition("%")[0] for *_, address in found}
    return [f"{archive.title}@{each}" for each in addresses]


def _text(answer: "Dataset", keyword: str) -> str:
    value = answer.get(keyword)
    values = [value] if isinstance(value, str) or value is None else list(value)
    return "\\".join(str(each or "").strip() for each in values)
