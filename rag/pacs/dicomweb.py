"""DICOMweb of ours: a day's studies, a study's images, a report back (QIDO, WADO, STOW-RS).

PS3.18. The client is dicomweb-client; owned here is what it leaves open: which instances are
images, that what comes is what was asked for, and that a report is stored as what it is.
"""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag.atomic_io import explain_disk_errors
from rag.pacs import PacsError, silence_logger
from rag.pacs.http import as_pacs_error, open_session
from rag.pacs.inbox import IMAGE_CLASSES, KEY_OBJECT_CLASSES, check_uid, open_inbox, write_image

if TYPE_CHECKING:
    from dicomweb_client import DICOMwebClient
    from pydicom.dataset import Dataset

logger = logging.getLogger(__name__)

_MOST_INSTANCES = 1000  # of a study of chest X-rays; more is another kind of study
_MOST_STUDIES = 1000  # of a day
_RADIOGRAPHS = ("CR", "DX")
_ATTEMPTS, _WAIT_MS = 3, 250  # milliseconds, doubled each time
_SR_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.88.11": "Basic Text SR",
    "1.2.840.10008.5.1.4.1.1.88.22": "Enhanced SR",
    "1.2.840.10008.5.1.4.1.1.88.33": "Comprehensive SR",
}


def fetch_study(url: str, study_uid: str, folder: Path) -> tuple[list[Path], list[str]]:
    """Fetch all images of a study, and notes about them, as they are stored, one at a time.

    Args:
        url: of the DICOMweb service, as ``https://server/dicom-web``.
        study_uid: StudyInstanceUID.
        folder: where they are put, in place of those that are there already.

    Returns:
        Where they lie, and a sentence for each that did not come.

    Raises:
        PacsError: the server cannot be asked, or does not know the study.
        OutputError: the disk refuses.
    """
    check_uid(study_uid)
    open_inbox(folder)
    came, problems = [], []
    with _client(url) as client:
        listed = list(_instances(client, study_uid))
        wanted = [one for one in listed if one["class"] in (*IMAGE_CLASSES, *KEY_OBJECT_CLASSES)]
        for number, one in enumerate(wanted, 1):
            try:
                data = _retrieve(client, study_uid, one)
                with explain_disk_errors(folder):
                    path = write_image(
                        folder, data, instance_uid=one["instance"], study_uid=study_uid
                    )
                came.append(path)
            except PacsError as error:
                problems.append(f"object {number} of {len(wanted)}: {error}")
    if not listed:
        raise PacsError("the DICOMweb server has no instance of this study")
    logger.info("fetched %d images, %d failed", len(came), len(problems))
    return came, problems


def find_studies_of_day(url: str, day: date) -> dict[str, int]:
    """The radiographs of a day: StudyInstanceUID, and how many instances it has (0: not told).

    Raises:
        PacsError: the server cannot be asked.
    """
    found: dict[str, int] = {}
    with _client(url) as client, as_pacs_error():
        for modality in _RADIOGRAPHS:
            filters = {"StudyDate": f"{day:%Y%m%d}", "ModalitiesInStudy": modality}
            for one in client.search_for_studies(search_filters=filters, limit=_MOST_STUDIES):
                count = one.get("00201208", {}).get("Value", [0])[0]
                found[str(one["0020000D"]["Value"][0])] = int(count)
    return found


def store_report(url: str, report: Path) -> tuple[str, str]:
    """Store a structured report, and see that the server says it has it.

    Args:
        url: as for `fetch_study`.
        report: a DICOM SR file, as `rag.export.dicom_sr` makes them.

    Returns:
        Its completion and verification flags (PS3.3 C.17.2).

    Raises:
        PacsError: the file is no report, or claims more than it holds; the server refuses.
    """
    document = _read_report(report)
    with _client(url) as client, as_pacs_error():
        answer = client.store_instances([document])
    taken = {str(one.get("ReferencedSOPInstanceUID")) for one in _items(answer, "ReferencedSOP")}
    failed = _items(answer, "FailedSOP")
    if failed or str(document.SOPInstanceUID) not in taken:
        reason = failed[0].get("FailureReason") if failed else None
        why = f"reason 0x{int(reason):04X} of PS3.18 Table I.2-2" if reason else "it does not say"
        raise PacsError(f"the DICOMweb server did not take the report: {why}")
    logger.info("stored a report")
    return str(document.CompletionFlag), str(document.VerificationFlag)


@contextmanager
def _client(url: str) -> Iterator["DICOMwebClient"]:
    silence_logger("dicomweb_client")
    with warnings.catch_warnings():  # it imports what pydicom 4 will not have
        warnings.filterwarnings("ignore", "get_frame_offsets", DeprecationWarning)
        from dicomweb_client import DICOMwebClient  # noqa: PLC0415 - pydicom, requests
    with open_session(url) as session:
        try:
            client = DICOMwebClient(url.rstrip("/"), session=session)
        except ValueError as error:
            raise PacsError("a DICOMweb URL looks like https://server/dicom-web") from error
        client.set_http_retry_params(max_attempts=_ATTEMPTS, wait_exponential_multiplier=_WAIT_MS)
        yield client


def _instances(client: "DICOMwebClient", study_uid: str) -> Iterator[dict[str, str]]:
    """All instances of a study, page by page; a server that repeats itself is not asked again."""
    seen: set[str] = set()
    while len(seen) < _MOST_INSTANCES:
        with as_pacs_error():
            page = client.search_for_instances(study_uid, offset=len(seen) or None)
            found = [_named(one) for one in page]
        new = [one for one in found if one["instance"] not in seen]
        if not new:
            return
        seen.update(one["instance"] for one in new)
        yield from new
    raise PacsError(f"the study has more than {_MOST_INSTANCES} instances: no study of images")


def _named(instance: dict[str, Any]) -> dict[str, str]:
    tags = {"class": "00080016", "instance": "00080018", "series": "0020000E"}
    return {name: str(instance[tag]["Value"][0]) for name, tag in tags.items()}


def _retrieve(client: "DICOMwebClient", study_uid: str, one: dict[str, str]) -> bytes:
    """One instance in the transfer syntax it is stored in, as a DICOM file."""
    with as_pacs_error():
        dataset = client.retrieve_instance(study_uid, one["series"], one["instance"])
        if str(dataset.SOPInstanceUID) != one["instance"]:
            raise PacsError("the server sent another image than the one that was asked for")
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()


def _read_report(path: Path) -> "Dataset":
    """A report as a dataset.

    Raises:
        PacsError: it is none; or it says it was verified, and not by whom.
    """
    from pydicom import dcmread  # noqa: PLC0415 - heavy

    try:
        document = dcmread(path)
        kind = str(document.SOPClassUID)
        flags = (str(document.CompletionFlag), str(document.VerificationFlag))
        _ = document.SOPInstanceUID, document.StudyInstanceUID
    except OSError as error:
        raise PacsError(f"{path} cannot be opened: {error.strerror}") from None
    except Exception as error:
        logger.debug("no report", exc_info=error)
        raise PacsError(f"{path} is no DICOM structured report") from None
    if kind not in _SR_CLASSES:
        raise PacsError(
            f"{path} is no structured report ({', '.join(_SR_CLASSES.values())}): nothing else is "
            "sent from here"
        )
    signed = bool(document.get("VerifyingObserverSequence"))
    if signed != (flags[1] == "VERIFIED") or (not signed and flags[0] != "PARTIAL"):
        raise PacsError(
            f"{path} says {flags[0]}, {flags[1]} and {'names' if signed else 'does not name'} who "
            "verified it: an unsigned draft is PARTIAL and UNVERIFIED"
        )
    return document


def _items(answer: "Dataset", what: str) -> list["Dataset"]:
    return list(answer.get(f"{what}Sequence") or [])
