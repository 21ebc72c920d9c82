"""DIMSE client (PS3.4 Annex C): finds studies (C-FIND), fetches images (C-GET or C-MOVE).

On top of pynetdicom: which studies are priors of the same patient, checked again in the answers,
and fetching series by series.
"""

import logging
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoders.image_io import read_image_info
from encoders.images.raw_image import MAX_BYTES
from rag.pacs import PacsError
from rag.pacs.association import Archive, limit_bytes, open_association, query_model_uid
from rag.pacs.inbox import check_uid, open_inbox
from rag.pacs.receiver import run_receiver, store_image
from rag.study import pseudonym

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pynetdicom.events import Event

    from rag.settings import DicomSettings

logger = logging.getLogger(__name__)

_MAX_ANSWERS = 1000
_PENDING, _SUCCESS, _WITH_FAILURES = (0xFF00, 0xFF01), 0x0000, 0xB000
_PRIOR_MODALITIES = {"CR", "DX", "RG"}
"""Modalities of a prior."""
_NOT_IMAGES = {"SR", "PR", "DOC", "AU"}
"""Modalities of series that are not fetched."""


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """A study in an archive. Identifies a patient: never log it.

    Attributes:
        uid: StudyInstanceUID.
        patient_id, issuer: PatientID and IssuerOfPatientID; empty if unknown.
        taken_at: StudyDate and StudyTime, digits.
        modalities: of its series; empty if unknown.
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
    """Studies that match all given keys, in the archive's order.

    Args:
        archive: the peer.
        settings: our AE title, TLS.
        study_uid: StudyInstanceUID.
        patient_id: PatientID.
        accession: AccessionNumber.
        date: StudyDate, or a range such as ``20260101-20260131``.

    Raises:
        PacsError: no key is given, or one has wildcards; or the archive does not answer.
    """
    keys = {
        "StudyInstanceUID": study_uid and check_uid(study_uid),
        "PatientID": patient_id,
        "AccessionNumber": accession,
        "StudyDate": date,
    }
    if not any(keys.values()) or re.search(r"[*?\\]", "".join(keys.values())):
        raise PacsError("name a study, a patient, an accession number or a date, without wildcards")
    returned = ("IssuerOfPatientID", "StudyTime", "ModalitiesInStudy", "StudyDescription")
    with open_association(archive, settings) as link:
        answers = _find(link, _query("STUDY", **dict.fromkeys(returned, ""), **keys))
    return [
        FoundStudy(
            uid=str(answer.StudyInstanceUID),
            patient_id=_text(answer, "PatientID"),
            issuer=_text(answer, "IssuerOfPatientID"),
            taken_at=_text(answer, "StudyDate") + _text(answer, "StudyTime"),
            modalities=tuple(filter(None, _text(answer, "ModalitiesInStudy").split("\\"))),
            description=_text(answer, "StudyDescription"),
        )
        for answer in answers
        if not patient_id or _text(answer, "PatientID") == patient_id
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
    priors = [
        other
        for other in find_studies(archive, settings, patient_id=study.patient_id)
        if other.issuer == study.issuer
        and _is_earlier(other.taken_at, study.taken_at)
        and (not other.modalities or _PRIOR_MODALITIES & set(other.modalities))
    ]
    return sorted(priors, key=lambda prior: prior.taken_at, reverse=True)[:limit]


def _is_earlier(a: str, b: str) -> bool:
    """Compare dates, and times if both have one: a date alone is not before a time of that day."""
    (day_a, time_a), (day_b, time_b) = ((taken_at[:8], taken_at[8:]) for taken_at in (a, b))
    return "" < day_a < day_b or (day_a == day_b and "" < time_a < time_b)


def fetch_images(
    archive: Archive,
    settings: "DicomSettings",
    study_uids: Sequence[str],
    folder: Path,
    *,
    move_to: tuple[str, int] | None = None,
) -> tuple[list[Path], list[str]]:
    """Fetch the images of studies, in their stored transfer syntax.

    Args:
        archive: the peer.
        settings: our AE title, TLS.
        study_uids: StudyInstanceUIDs.
        folder: inbox (`rag.pacs.inbox`).
        move_to: our address and port, known to the archive, for C-MOVE; None for C-GET.

    Returns:
        The images fetched, and a sentence for each series that is incomplete.

    Raises:
        PacsError: the archive does not answer.
        OutputError: the folder cannot be written.
    """
    problems = []
    folders = [folder / pseudonym(uid) for uid in study_uids]
    before = _files_in(folders)
    with ExitStack() as stack:
        fetch: Callable[[Archive, DicomSettings, Dataset], str]
        if move_to is None:
            open_inbox(folder)
            fetch = partial(_get, folder=folder)
        else:
            host, port = move_to
            receiver = run_receiver(
                folder, settings, senders=_as_senders(archive), host=host, port=port
            )
            stack.enter_context(receiver)
            fetch = _move
        for study_uid in study_uids:
            query = partial(_query, "SERIES", StudyInstanceUID=check_uid(study_uid))
            with open_association(archive, settings) as link:
                series = _find(link, query(SeriesInstanceUID="", Modality=""))
            images = [one for one in series if _text(one, "Modality") not in _NOT_IMAGES]
            uids = [str(one.SeriesInstanceUID) for one in images]
            for number, uid in enumerate(uids, 1):
                if problem := fetch(archive, settings, query(SeriesInstanceUID=uid)):
                    problems.append(f"series {number} of {len(uids)}: {problem}")
    fetched = sorted(path for path, _ in _files_in(folders) - before)
    return [path for path in fetched if not read_image_info(path).is_key_object_selection], problems


def _files_in(folders: Sequence[Path]) -> set[tuple[Path, int]]:
    """DICOM files in folders, with their modification times in ns."""
    files = [path for folder in folders for path in folder.glob("*.dcm")]
    return {(path, path.stat().st_mtime_ns) for path in files}


def _get(archive: Archive, settings: "DicomSettings", query: "Dataset", *, folder: Path) -> str:
    """Fetch a series by C-GET; returns the problem, if any."""

    def on_store(event: "Event") -> int:
        status = store_image(folder, event, study_uid=str(query.StudyInstanceUID))[1]
        limit_bytes(event, MAX_BYTES)
        return status

    with open_association(archive, settings, on_store) as link:
        return _problem(link.send_c_get(query, query_model_uid("Get")))


def _move(archive: Archive, settings: "DicomSettings", query: "Dataset") -> str:
    """Have a series sent to us by C-MOVE; returns the problem, if any."""
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
        elif status.get("Status") != _SUCCESS:
            raise PacsError(f"the archive did not answer the query: {_reason(status)}")
        if len(found) > _MAX_ANSWERS:
            raise PacsError(f"the archive has more than {_MAX_ANSWERS} answers: ask for less")
    return found


def _problem(responses: "Iterable[tuple[Dataset, Dataset | None]]") -> str:
    """Why a retrieval is incomplete; empty if it is complete."""
    *_, (status, _) = responses
    if status.get("Status") == _SUCCESS:
        return ""
    failed = status.get("NumberOfFailedSuboperations")
    if status.get("Status") == _WITH_FAILURES and failed:
        return f"{failed} objects were not sent"
    return f"the archive did not send it: {_reason(status)}"


def _reason(status: "Dataset") -> str:
    from pynetdicom.status import QR_MOVE_SERVICE_CLASS_STATUS  # noqa: PLC0415 - heavy

    code = status.get("Status")
    if code is None:
        return "it hung up"
    _, words = QR_MOVE_SERVICE_CLASS_STATUS.get(code, ("", ""))
    return f"status 0x{code:04X} {words}".rstrip()


def _as_senders(archive: Archive) -> list[str]:
    """An archive as allowed senders: its title at each of its addresses."""
    try:
        infos = socket.getaddrinfo(archive.host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise PacsError(f"there is no host {archive.host}") from error
    addresses = {str(address[0]).partition("%")[0] for *_, address in infos}
    return [f"{archive.title}@{address}" for address in addresses]


def _text(answer: "Dataset", keyword: str) -> str:
    value = answer.get(keyword)
    values = [value] if isinstance(value, str) or value is None else list(value)
    return "\\".join(str(item or "").strip() for item in values)
