"""DICOMweb client (PS3.18): lists a day's studies, fetches a study's images, stores a report.

On top of dicomweb-client: which instances are images, that the server sends what was requested, and
that an unsigned report is not stored as verified.
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
from rag.pacs.inbox import KEY_OBJECT_SELECTION, SOP_CLASSES, check_uid, open_inbox, write_image

if TYPE_CHECKING:
    from dicomweb_client import DICOMwebClient
    from pydicom.dataset import Dataset

logger = logging.getLogger(__name__)

_MAX_INSTANCES = 1000  # per study; larger ones are not chest X-rays
_MAX_STUDIES_PER_DAY = 1000
_MODALITIES = ("CR", "DX")
_MAX_ATTEMPTS, _FIRST_WAIT_MS = 3, 250  # the wait doubles each time
_SR_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.88.11": "Basic Text SR",
    "1.2.840.10008.5.1.4.1.1.88.22": "Enhanced SR",
    "1.2.840.10008.5.1.4.1.1.88.33": "Comprehensive SR",
}


def fetch_study(url: str, study_uid: str, folder: Path) -> tuple[list[Path], list[str]]:
    """Fetch the images and Key Object Selections of a study, in their stored transfer syntax.

    Args:
        url: of the DICOMweb service, such as ``https://server/dicom-web``.
        study_uid: StudyInstanceUID.
        folder: inbox; images that are already there are replaced.

    Returns:
        Paths of the images, and a sentence for each that could not be fetched.

    Raises:
        PacsError: the server does not answer, or does not know the study.
        OutputError: the folder cannot be written.
    """
    check_uid(study_uid)
    open_inbox(folder)
    paths, problems = [], []
    with _client(url) as client:
        instances = list(_instances(client, study_uid))
        wanted = [instance for instance in instances if instance["class"] in SOP_CLASSES]
        for number, instance in enumerate(wanted, 1):
            uid = instance["instance"]
            try:
                data = _retrieve(client, study_uid, instance)
                with explain_disk_errors(folder):
                    path = write_image(folder, data, instance_uid=uid, study_uid=study_uid)
                if instance["class"] != KEY_OBJECT_SELECTION:
                    paths.append(path)
            except PacsError as error:
                problems.append(f"object {number} of {len(wanted)}: {error}")
    if not instances:
        raise PacsError("the DICOMweb server has no instance of this study")
    logger.info("fetched %d images, %d failed", len(paths), len(problems))
    return paths, problems


def find_studies_of_day(url: str, day: date) -> dict[str, int]:
    """Radiographic studies of a day: StudyInstanceUID -> number of instances, 0 if unknown.

    Raises:
        PacsError: the server does not answer.
    """
    counts: dict[str, int] = {}
    with _client(url) as client, as_pacs_error():
        for modality in _MODALITIES:
            filters = {"StudyDate": f"{day:%Y%m%d}", "ModalitiesInStudy": modality}
            studies = client.search_for_studies(search_filters=filters, limit=_MAX_STUDIES_PER_DAY)
            for study in studies:
                count = study.get("00201208", {}).get("Value", [0])[0]
                counts[str(study["0020000D"]["Value"][0])] = int(count)
    return counts


def store_report(url: str, report: Path) -> tuple[str, str]:
    """Store a structured report and check the server's confirmation.

    Args:
        url: as for `fetch_study`.
        report: a DICOM SR file, such as `rag.export.dicom_sr` makes.

    Returns:
        Its completion and verification flags (PS3.3 C.17.2).

    Raises:
        PacsError: the file is not a report, its flags do not fit its observers, or the server
            refuses it.
    """
    document = _read_report(report)
    with _client(url) as client, as_pacs_error():
        answer = client.store_instances([document])
    stored = answer.get("ReferencedSOPSequence") or []
    stored_uids = {str(item.get("ReferencedSOPInstanceUID")) for item in stored}
    failed = answer.get("FailedSOPSequence") or []
    if failed or str(document.SOPInstanceUID) not in stored_uids:
        reason = failed[0].get("FailureReason") if failed else None
        why = f"reason 0x{int(reason):04X} of PS3.18 Table I.2-2" if reason else "it does not say"
        raise PacsError(f"the DICOMweb server did not take the report: {why}")
    logger.info("stored a report")
    return str(document.CompletionFlag), str(document.VerificationFlag)


@contextmanager
def _client(url: str) -> Iterator["DICOMwebClient"]:
    import pydicom  # noqa: F401, PLC0415 - it sets its logger's level

    silence_logger("dicomweb_client")
    silence_logger("pydicom")
    with warnings.catch_warnings():  # it imports what pydicom 4 removes
        warnings.filterwarnings("ignore", "get_frame_offsets", DeprecationWarning)
        from dicomweb_client import DICOMwebClient  # noqa: PLC0415 - pydicom, requests
    with open_session(url) as session:
        try:
            client = DICOMwebClient(url.rstrip("/"), session=session)
        except ValueError as error:
            raise PacsError("a DICOMweb URL looks like https://server/dicom-web") from error
        client.set_http_retry_params(
            max_attempts=_MAX_ATTEMPTS, wait_exponential_multiplier=_FIRST_WAIT_MS
        )
        yield client


def _instances(client: "DICOMwebClient", study_uid: str) -> Iterator[dict[str, str]]:
    """All instances of a study, page by page, until a page has nothing new."""
    seen: set[str] = set()
    while len(seen) < _MAX_INSTANCES:
        with as_pacs_error():
            page = client.search_for_instances(study_uid, offset=len(seen) or None)
            instances = [_instance_ids(instance) for instance in page]
        new = [instance for instance in instances if instance["instance"] not in seen]
        if not new:
            return
        seen.update(instance["instance"] for instance in new)
        yield from new
    raise PacsError(f"the study has more than {_MAX_INSTANCES} instances: not a chest X-ray study")


def _instance_ids(instance: dict[str, Any]) -> dict[str, str]:
    tags = {"class": "00080016", "instance": "00080018", "series": "0020000E"}
    return {name: str(instance[tag]["Value"][0]) for name, tag in tags.items()}


def _retrieve(client: "DICOMwebClient", study_uid: str, instance: dict[str, str]) -> bytes:
    """An instance in its stored transfer syntax, as a DICOM file."""
    with as_pacs_error():
        dataset = client.retrieve_instance(study_uid, instance["series"], instance["instance"])
        if str(dataset.SOPInstanceUID) != instance["instance"]:
            raise PacsError("the server sent another image than the one requested")
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()


def _read_report(path: Path) -> "Dataset":
    """Read a structured report.

    Raises:
        PacsError: it is not one, or its flags do not fit its verifying observers.
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
        raise PacsError(f"{path} is not a DICOM structured report") from None
    if kind not in _SR_CLASSES:
        raise PacsError(
            f"{path} is not a structured report ({', '.join(_SR_CLASSES.values())}): nothing else "
            "is sent"
        )
    signed = bool(document.get("VerifyingObserverSequence"))
    if signed != (flags[1] == "VERIFIED") or (not signed and flags[0] != "PARTIAL"):
        raise PacsError(
            f"{path} is {flags[0]} and {flags[1]} but {'names' if signed else 'does not name'} who "
            "verified it: an unsigned draft is PARTIAL and UNVERIFIED"
        )
    return document
